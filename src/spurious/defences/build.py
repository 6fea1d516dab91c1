"""An entry's `defence` as an object, its budgets turned into counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from itertools import product
from typing import Any

import numpy as np

from spurious import seeds
from spurious.config import attacks
from spurious.config.defences import class_of
from spurious.config.names import shown
from spurious.config.quantities import Budget, Density, InverseDensity, Length, Section
from spurious.config.search import Family as FamilyEntry

# Their import makes a stage depend on them: `class_of` finds them by their names.
from spurious.defences import (  # noqa: F401
    adversarial_training,
    fisher_penalty,
    gradient_penalty,
    systematics_training,
    trades,
)
from spurious.errors import UserError
from spurious.inference.defence import Defence
from spurious.maps import MapSet, Standardiser
from spurious.perturbations import spectral
from spurious.perturbations.constraints import Constraint
from spurious.search.families import Family, build_family
from spurious.splitting import evenly_spaced

PATTERNS = 8  # of stripes, holes or noise, of which each map gets one
PROBE = 32  # training maps on which ranges are tried
NEGATIVE = 0.01  # share of pixels that a range may drive below zero, where they are clipped


def build(entry: Any, training: MapSet, seed: int) -> Defence:
    """The defence that an entry of params.yaml describes.

    Args:
        entry: the section `defence` of a network.
        training: the training maps, in whose standard deviations budgets are counted and on which
            ranges are tried.
        seed: root of what is drawn once, such as the pattern of stripes.

    Raises:
        UserError: a budget is larger than the data's own scatter, or a range would make maps
            negative.
    """
    one = class_of(entry.kind)
    known: dict[str, Any] = {"box_size": training.box_size, "seed": seed}
    given: dict[str, Any] = {}
    for field in fields(one):
        if field.name in known:
            given[field.name] = known[field.name]
            continue
        value = getattr(entry, field.name)
        if value is None and field.default is not MISSING:
            continue  # a quantity left out: the class knows its own
        given[field.name] = _value(field.name, value, training, seed)
    try:
        return one(**given)
    except ValueError as error:
        raise UserError(f"defence: {error}") from error


def _value(key: str, given: Any, training: MapSet, seed: int) -> Any:
    """A field as the class wants it: in counts or Mpc/h, constraints and families as objects."""
    if isinstance(given, Budget):
        return _counts(key, given, training)
    if isinstance(given, Density | InverseDensity | Length):
        return given.value
    if isinstance(given, FamilyEntry):
        return _members(key, given, training, seed)
    if isinstance(given, Section):
        return _constraint(given, training.box_size)
    if isinstance(given, tuple):
        return tuple(_value(key, one, training, seed) for one in given)
    if isinstance(given, dict):
        return {k: _value(f"{key}.{k}", one, training, seed) for k, one in given.items()}
    return given


def _counts(key: str, budget: Budget, training: MapSet) -> float:
    std = Standardiser.fit(training.maps).std
    found = budget.counts(std)
    if found > std:
        raise UserError(
            f"defence.{key} = {budget.value:g} {budget.unit}: must be at most {std:.4g} count, the "
            "standard deviation of the training maps' pixels"
        )
    return found


def _constraint(entry: Any, box_size: float) -> Constraint:
    if isinstance(entry, attacks.BandLimited):
        return spectral.BandLimited(entry.k.low, entry.k.high, box_size)
    if isinstance(entry, attacks.Bounded):
        return spectral.Bounded(entry.fraction)
    return spectral.PhaseOnly() if entry.kind == "phase_only" else spectral.BinPreserving()


def _members(key: str, entry: FamilyEntry, training: MapSet, seed: int) -> tuple[Family, ...]:
    """The family; several times, with other patterns, if its systematics draw one from a seed."""
    roots = [seeds.integer(seed, f"pattern of {key}", number) for number in range(PATTERNS)]
    members = [build_family(key, entry, training.box_size, root) for root in roots]
    if not hasattr(_at(members[0], [0.5] * members[0].dimension), "seed"):
        members = members[:1]
    _refuse_negative(key, members[0], training)
    return tuple(members)


def _refuse_negative(key: str, family: Family, training: MapSet) -> None:
    """Refuse ranges at whose ends too many pixels would be negative, were they not clipped.

    Ends are tried all together where they are few, else those of all coordinates at once.

    Raises:
        UserError: names the family and the values.
    """
    rows = evenly_spaced(len(training), min(PROBE, len(training)))
    maps = training.maps[rows]
    ends: Sequence[Sequence[float]] = list(product((0.0, 1.0), repeat=family.dimension))
    if family.dimension > 4:
        ends = [[end] * family.dimension for end in (0.0, 1.0)]
    for point in ends:
        share = float(np.mean(_at(family, point).unclipped(maps).numpy() < 0))
        if share > NEGATIVE:
            values = family.parameters(point)
            described = ", ".join(f"{name} = {value:.4g}" for name, value in values.items())
            raise UserError(
                f"defence.{key}: {shown(described)}: would make {share:.0%} of the training maps' "
                f"pixels negative, at most {NEGATIVE:.0%} are allowed: narrow its ranges"
            )


def _at(family: Family, point: Sequence[float]) -> Any:
    return family.effect([float(place) for place in point])
