"""White-box attacks as params.yaml describes them, their budgets turned into counts."""

from __future__ import annotations

from spurious.config import Background, Simulation
from spurious.config import attacks as cfg
from spurious.config.quantities import Budget, Density
from spurious.errors import UserError
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet
from spurious.perturbations import objectives, spectral
from spurious.perturbations.auto import AutoPGD
from spurious.perturbations.constraints import Constraint
from spurious.perturbations.gradient import BIM, FGSM, PGD
from spurious.perturbations.initial_conditions import InitialConditions
from spurious.perturbations.minimum import MinimumNorm
from spurious.perturbations.objectives import Objective
from spurious.perturbations.universal import Universal

Attack = FGSM | BIM | PGD | AutoPGD | Universal | MinimumNorm


def build_attack(
    settings: cfg.WhiteBox,
    posterior: Posterior,
    test: MapSet,
    seed: int,
    training: MapSet | None = None,
) -> Attack:
    """The attack of an entry of params.yaml.

    Args:
        settings: the entry.
        posterior: what is attacked.
        test: the maps to perturb.
        seed: root of its random draws.
        training: other maps, which kind `universal` needs.

    Raises:
        UserError: `upper` is below the largest density of the test maps, the objective needs
            a parameter that the posterior does not have, or there are no training maps.
    """
    upper = _upper(settings.upper, test)
    if isinstance(settings, cfg.MinimumNorm):
        return _minimum_norm(settings, posterior, upper, seed)
    objective = _objective(settings.objective, posterior)
    if isinstance(settings, cfg.Universal):
        return _universal(settings, posterior, objective, upper, seed, training)
    return _gradient(settings, posterior, objective, upper, test.box_size, seed)


def build_initial_conditions(
    settings: cfg.InitialConditions,
    posterior: Posterior,
    simulation: Simulation,
    background: Background,
    seed: int,
) -> InitialConditions:
    """The attack on simulations of an entry of params.yaml.

    Raises:
        UserError: the simulations are not of the engine that has gradients, or the objective
            needs a parameter that the posterior does not have.
    """
    if simulation.engine != "xla":
        raise UserError(
            f"simulation.engine = {simulation.engine}: must be xla for kind initial_conditions, "
            "which needs gradients"
        )
    objective = _objective(settings.objective, posterior)
    return InitialConditions(
        posterior, settings.epsilon.value, simulation, background, settings.steps, objective, seed
    )


def _gradient(
    settings: cfg.FGSM | cfg.BIM | cfg.PGD | cfg.AutoPGD,
    posterior: Posterior,
    objective: str | Objective,
    upper: float | None,
    box_size: float,
    seed: int,
) -> FGSM | BIM | PGD | AutoPGD:
    std = posterior.standardiser.std
    if isinstance(settings, cfg.FGSM):
        return FGSM(posterior, settings.epsilon.counts(std), objective, upper)
    constraints = tuple(_constraint(one, box_size) for one in settings.constraints)
    epsilon = _counts(settings.epsilon, std)
    if isinstance(settings, cfg.BIM):
        return BIM(
            posterior,
            settings.alpha.counts(std),
            settings.steps,
            epsilon,
            objective,
            upper,
            constraints=constraints,
        )
    if isinstance(settings, cfg.AutoPGD):
        return AutoPGD(
            posterior,
            epsilon,
            _counts(settings.alpha, std),
            settings.steps,
            settings.norm,
            objective,
            settings.random_start,
            settings.restarts,
            constraints,
            upper,
            seed,
        )
    return PGD(
        posterior,
        epsilon,
        _counts(settings.alpha, std),
        settings.steps,
        settings.norm,
        objective,
        settings.decay,
        settings.momentum,
        settings.random_start,
        settings.restarts,
        constraints,
        upper,
        seed,
    )


def _universal(
    settings: cfg.Universal,
    posterior: Posterior,
    objective: str | Objective,
    upper: float | None,
    seed: int,
    training: MapSet | None,
) -> Universal:
    if training is None or len(training) == 0:
        raise UserError("kind universal: there are no training maps to find its pattern on")
    std = posterior.standardiser.std
    return Universal(
        posterior,
        settings.epsilon.counts(std),
        training.maps,
        training.labels,
        _counts(settings.alpha, std),
        settings.steps,
        settings.norm,
        objective,
        upper,
        seed,
        settings.batch_size,
    )


def _minimum_norm(
    settings: cfg.MinimumNorm, posterior: Posterior, upper: float | None, seed: int
) -> MinimumNorm:
    return MinimumNorm(
        posterior,
        settings.sigmas,
        settings.largest.counts(posterior.standardiser.std),
        settings.norm,
        settings.steps,
        settings.restarts,
        settings.bisections,
        upper,
        seed,
    )


def _objective(settings: cfg.Objective, posterior: Posterior) -> str | Objective:
    try:
        if isinstance(settings, cfg.Toward):
            cosmology = {"omega_m": settings.omega_m, "sigma_8": settings.sigma_8}
            return objectives.target(cosmology, posterior.names)
        if isinstance(settings, cfg.ShiftS8):
            return objectives.ShiftS8(settings.sigmas, posterior.names)
    except ValueError as error:  # the posterior has other parameters
        raise UserError(str(error)) from error
    return settings


def _constraint(settings: cfg.Constraint, box_size: float) -> Constraint:
    if isinstance(settings, cfg.PhaseOnly):
        return spectral.PhaseOnly()
    if isinstance(settings, cfg.BinPreserving):
        return spectral.BinPreserving()
    if isinstance(settings, cfg.Bounded):
        return spectral.Bounded(settings.fraction)
    return spectral.BandLimited(settings.k.low, settings.k.high, box_size)


def _counts(budget: Budget | None, std: float) -> float | None:
    return None if budget is None else budget.counts(std)


def _upper(upper: Density | None, test: MapSet) -> float | None:
    if upper is None:
        return None
    largest = float(test.maps.max())
    if upper.value < largest:
        raise UserError(
            f"upper = {upper.value} count: must be at least {largest:g}, the largest density of "
            "the test maps"
        )
    return upper.value
