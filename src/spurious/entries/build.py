"""An entry of params.yaml as a perturbation, its budgets turned into counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from typing import Any, cast

import numpy as np

from spurious.config import Background, Simulation, systematics
from spurious.config import attacks as white_box
from spurious.config import perturbations as cfg
from spurious.config.perturbations import Matching
from spurious.config.quantities import Section, parts
from spurious.description.lookup import own_class
from spurious.entries.context import Context, Others, objective, other
from spurious.errors import UserError
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet
from spurious.perturbations import systematics as effects
from spurious.perturbations.auto import AutoPGD
from spurious.perturbations.base import Perturbation
from spurious.perturbations.controls import ShuffledPhases, ShuffledPixels
from spurious.perturbations.effect import Effect
from spurious.perturbations.gradient import BIM, FGSM, PGD
from spurious.perturbations.initial_conditions import InitialConditions
from spurious.perturbations.minimum import MinimumNorm
from spurious.perturbations.noise import CorrelatedNoise, GaussianNoise, RandomSign
from spurious.perturbations.universal import Universal
from spurious.splitting import evenly_spaced

CLASSES: dict[type[Section], Callable[..., Perturbation]] = {
    white_box.FGSM: FGSM,
    white_box.BIM: BIM,
    white_box.PGD: PGD,
    white_box.AutoPGD: AutoPGD,
    white_box.Universal: Universal,
    white_box.MinimumNorm: MinimumNorm,
    white_box.RandomSign: RandomSign,
    systematics.Baryons: effects.Baryons,
    systematics.Beam: effects.Beam,
    systematics.Calibration: effects.Calibration,
    systematics.CorrelatedNoise: CorrelatedNoise,
    systematics.GainDrift: effects.GainDrift,
    systematics.GaussianNoise: GaussianNoise,
    systematics.Logistic: effects.Logistic,
    systematics.Masked: effects.Masked,
    systematics.Saturation: effects.Saturation,
    systematics.ShuffledPhases: ShuffledPhases,
    systematics.ShuffledPixels: ShuffledPixels,
    systematics.Stripes: effects.Stripes,
}
"""The class of each section; their fields have the same names."""


def build(
    settings: cfg.Perturbation,
    posterior: Posterior,
    test: MapSet,
    seed: int,
    training: MapSet | None = None,
    others: Others | None = None,
    memory: dict[bytes, np.ndarray] | None = None,
) -> Perturbation:
    """The perturbation that an entry of params.yaml describes, its budgets turned into counts.

    Args:
        settings: the entry, not one that acts on simulations.
        posterior: the target, which white-box entries without `on` attack; its standardiser has
            the unit `std` of all budgets.
        test: the maps to perturb, for their box and for matched amplitudes.
        seed: root of its random draws.
        training: other maps, which kind `universal` needs.
        others: name -> another posterior, which entries with `on` need.
        memory: a dictionary that builds for the same posteriors and seed may share, so that what
            several entries build on is made once.

    Raises:
        UserError: something of this is missing, does not fit together, or no amplitude matches.
    """
    return _build(settings, Context(posterior, test, seed, training, others, memory))


def build_initial_conditions(
    settings: white_box.InitialConditions,
    posterior: Posterior,
    simulation: Simulation,
    background: Background,
    seed: int,
    others: Others | None = None,
) -> InitialConditions:
    """The attack on simulations of an entry of params.yaml.

    Raises:
        UserError: the simulations are not of the engine that has gradients, the objective needs
            a parameter that the posterior does not have, or `on` names nothing.
    """
    if simulation.engine != "xla":
        raise UserError(
            f"simulation.engine = {simulation.engine}: must be xla for kind initial_conditions, "
            "which needs gradients"
        )
    if settings.on is not None:
        posterior = other(settings.on, posterior, others)
    goal = objective(settings.objective, posterior)
    return InitialConditions(
        posterior, settings.epsilon.value, simulation, background, settings.steps, goal, seed
    )


def apply(perturbation: Perturbation, data: MapSet) -> MapSet:
    """The data set with its maps perturbed."""
    return replace(data, maps=perturbation(data.maps, data.labels).numpy())


def parameters(perturbation: Any) -> dict[str, float]:
    """The numbers that describe a perturbation after budgets and matching, in counts."""
    return {
        name: value
        for name, value in vars(perturbation).items()
        if isinstance(value, int | float) and name not in ("seed", "batch_size")
    }


def extras(perturbation: Any) -> dict[str, np.ndarray]:
    """What a perturbation found besides the maps, after it was called; see `HasExtras`."""
    return perturbation.extras() if hasattr(perturbation, "extras") else {}


def some_maps(settings: cfg.Perturbation, test: MapSet) -> MapSet:
    """The maps that an entry is made on: `maps` of them, if it or one it builds on says so."""
    limits = [limit for one in parts(settings) if (limit := getattr(one, "maps", None))]
    count = min([*limits, len(test)])
    return test if count == len(test) else test.take(evenly_spaced(len(test), count))


def follows_target(settings: cfg.Perturbation) -> bool:
    """Whether an entry, or one that it builds on, is an attack on the target itself."""
    attacks = (part for part in parts(settings) if isinstance(part, white_box.OnPosterior))
    return any(attack.on is None for attack in attacks)


def class_of(settings: Section) -> Callable[..., Perturbation]:
    """The class of what an entry describes, of this package or, with a dot in `kind`, any other."""
    if type(settings) in CLASSES:
        return CLASSES[type(settings)]
    found: Callable[..., Perturbation] = own_class(cast(Any, settings).kind)
    return found


def _build(settings: Any, context: Context) -> Perturbation:
    if isinstance(settings, white_box.InitialConditions):
        raise UserError("kind initial_conditions acts on simulations, not on any maps")
    make = class_of(settings)
    posterior = context.attacked(getattr(settings, "on", None))
    given = _surroundings(make, settings.kind, posterior, context)
    given |= {
        name: _value(name, getattr(settings, name), posterior, context)
        for name in type(settings).model_fields
        if name not in ("kind", "on", "maps")
    }
    given = _without_defaults(make, given)
    try:
        matching = any(isinstance(value, Matching) for value in given.values())
        return _matched(make, given, settings.kind, context) if matching else make(**given)
    except ValueError as error:  # what only the class knows to be impossible
        raise UserError(f"kind {settings.kind}: {error}") from error


def _without_defaults(make: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Without what is None because it was left out: the class has its own default."""
    own = {field.name for field in fields(make) if field.default is not MISSING}
    return {name: value for name, value in given.items() if value is not None or name not in own}


def _surroundings(make: Any, kind: str, posterior: Posterior, context: Context) -> dict[str, Any]:
    """What a class wants to know that no entry says."""
    names = {field.name for field in fields(make)}
    found: dict[str, Any] = {}
    if "posterior" in names:
        found["posterior"] = posterior
    if "seed" in names:
        found["seed"] = context.seed
    if "box_size" in names:
        found["box_size"] = context.box_size(kind)
    if make is Universal:
        training = context.trained(kind)
        found |= {"maps": training.maps, "truth": training.labels}
    return found


def _value(name: str, given: Any, posterior: Posterior, context: Context) -> Any:
    if name == "upper" and given is not None:
        return context.checked_upper(given)
    if name == "of":
        return context.recalled(given, _build(given, context))
    return context.value(given, posterior)


def _matched(make: Any, given: dict[str, Any], kind: str, context: Context) -> Effect:
    """An effect whose amplitude changes the test maps as much as another entry does."""
    matching, maps = given[make.AMPLITUDE], context.test.maps
    perturbed = np.asarray(
        context.recalled(matching.match, _build(matching.match, context))(maps, context.test.labels)
    )
    mean_square = float(np.mean((perturbed.astype(np.float64) - maps) ** 2))
    # The sign is all that `matched` takes over; 0.01 is possible for every amplitude.
    try:
        start = make(**given | {make.AMPLITUDE: 0.01 * matching.sign})
        return effects.matched(start, maps, mean_square)
    except ValueError as error:
        raise UserError(f"{kind}.{make.AMPLITUDE}.match: {error}") from error
