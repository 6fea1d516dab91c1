"""White-box attacks as params.yaml describes them, their budgets turned into counts."""

from __future__ import annotations

from spurious.config import attacks as cfg
from spurious.config.quantities import Budget, Density
from spurious.errors import UserError
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet
from spurious.perturbations import objectives, spectral
from spurious.perturbations.constraints import Constraint
from spurious.perturbations.gradient import BIM, FGSM, PGD
from spurious.perturbations.objectives import Objective


def build_attack(
    settings: cfg.FGSM | cfg.BIM | cfg.PGD, posterior: Posterior, test: MapSet, seed: int
) -> FGSM | BIM | PGD:
    """The attack of an entry of params.yaml.

    Raises:
        UserError: `upper` is below the largest density of the test maps, or the objective needs
            a parameter that the posterior does not have.
    """
    std = posterior.standardiser.std
    objective = _objective(settings.objective, posterior)
    upper = _upper(settings.upper, test)
    if isinstance(settings, cfg.FGSM):
        return FGSM(posterior, settings.epsilon.counts(std), objective, upper)
    constraints = tuple(_constraint(one, test.box_size) for one in settings.constraints)
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
