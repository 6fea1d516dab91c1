"""Systematics and controls as the entries of params.yaml describe them."""

from __future__ import annotations

from typing import Any

import numpy as np

from spurious.config import Density, Length
from spurious.config import systematics as cfg
from spurious.config.quantities import Budget, Section
from spurious.errors import UserError
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet
from spurious.perturbations.base import Perturbation
from spurious.perturbations.controls import ShuffledPhases, ShuffledPixels
from spurious.perturbations.effect import Effect
from spurious.perturbations.matching import matched
from spurious.perturbations.noise import CorrelatedNoise, GaussianNoise
from spurious.perturbations.systematics import (
    Baryons,
    Beam,
    Calibration,
    GainDrift,
    Masked,
    Saturation,
    Stripes,
)

CLASSES: dict[type[Section], type[Effect]] = {
    cfg.Baryons: Baryons,
    cfg.Beam: Beam,
    cfg.Calibration: Calibration,
    cfg.CorrelatedNoise: CorrelatedNoise,
    cfg.GainDrift: GainDrift,
    cfg.GaussianNoise: GaussianNoise,
    cfg.Masked: Masked,
    cfg.Saturation: Saturation,
    cfg.Stripes: Stripes,
}
CONTROLS: dict[type[Section], type[ShuffledPixels] | type[ShuffledPhases]] = {
    cfg.ShuffledPixels: ShuffledPixels,
    cfg.ShuffledPhases: ShuffledPhases,
}


def build_systematic(
    settings: cfg.Systematic, posterior: Posterior, test: MapSet, seed: int
) -> Perturbation:
    """The systematic or control that an entry describes.

    Args:
        settings: the entry.
        posterior: has the unit `std` of budgets; attacked where an entry builds on an attack.
        test: the maps, for their box and for matched amplitudes.
        seed: root of every draw.

    Raises:
        UserError: no amplitude matches.
    """
    if isinstance(settings, cfg.ShuffledPixels | cfg.ShuffledPhases):
        return CONTROLS[type(settings)](_other(settings.of, posterior, test, seed), seed)
    effect = CLASSES[type(settings)]
    surroundings = {"box_size": test.box_size, "seed": seed}
    given = {name: getattr(settings, name) for name in type(settings).model_fields}
    given |= {name: v for name, v in surroundings.items() if name in effect.__annotations__}
    amplitude = given[effect.AMPLITUDE]
    if not isinstance(amplitude, cfg.Matching):
        return _make(effect, given, posterior)
    perturbed = np.asarray(_other(amplitude.match, posterior, test, seed)(test.maps, test.labels))
    mean_square = float(np.mean((perturbed.astype(np.float64) - test.maps) ** 2))
    # The sign is all that `matched` takes over; 0.01 is possible for every amplitude.
    given[effect.AMPLITUDE] = 0.01 * amplitude.sign
    try:
        return matched(_make(effect, given, posterior), test.maps, mean_square)
    except ValueError as error:
        raise UserError(f"{settings.kind}.{effect.AMPLITUDE}.match: {error}") from error


def _make(effect: type[Effect], given: dict[str, Any], posterior: Posterior) -> Effect:
    std = posterior.standardiser.std
    return effect(**{k: _number(v, std) for k, v in given.items() if k != "kind"})


def _number(quantity: Any, std: float) -> Any:
    """A quantity's value in the unit of the classes: counts, Mpc/h or degrees."""
    if isinstance(quantity, Budget):
        return quantity.counts(std)
    if isinstance(quantity, cfg.Densities):
        return quantity.values
    if isinstance(quantity, Density | Length | cfg.Angle):
        return quantity.value
    return quantity


def _other(settings: Any, posterior: Posterior, test: MapSet, seed: int) -> Perturbation:
    """Any entry; the stage that builds it imports this module, so it is imported late."""
    from spurious.stages.attack import build

    return build(settings, posterior, test, seed)
