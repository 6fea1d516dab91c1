"""An entry's `defence` as an object, its budgets turned into counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from spurious import seeds
from spurious.config.posteriors import Network
from spurious.data.maps import MapSet, Standardiser
from spurious.data.splits import evenly_spaced
from spurious.description.family import Family as FamilyEntry
from spurious.description.fields import filled
from spurious.description.quantities import Budget
from spurious.description.schema import plain, select_fields
from spurious.description.section import Entry
from spurious.errors import UserError, shown
from spurious.search.families import Family, build_family
from spurious.training.defence import Defence

PATTERNS = 8  # of stripes, holes or noise, of which each map gets one
PROBE = 32  # training maps on which ranges are tried
NEGATIVE = 0.01  # share of pixels that a range may drive below zero, where they are clipped


def build(entry: Entry, training: MapSet, seed: int) -> Defence:
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
    std = Standardiser.fit(training.maps).std
    try:
        return _Builder(training, seed, std).made(entry)
    except ValueError as error:
        raise UserError(f"defence: {error}") from error


def of_posterior(name: str, settings: Network, training: MapSet, root_seed: int) -> Defence | None:
    """What an entry of `posteriors` is trained against, if anything, in all its trainings.

    Args:
        name: of the entry, for messages.
        settings: the entry.
        training: the training maps.
        root_seed: that of params.yaml.

    Raises:
        UserError: as of `build`.
    """
    if settings.defence is None:
        return None
    try:
        return build(settings.defence, training, seeds.integer(root_seed, "defence", settings.seed))
    except UserError as error:
        raise UserError(f"posteriors.{name}.{error}") from error


@dataclass(frozen=True)
class _Builder:
    """Makes the objects that entries describe, in the unit of the training maps."""

    training: MapSet
    seed: int
    std: float

    def made(self, entry: Entry) -> Any:
        """The object: a defence, or a constraint of one."""
        surroundings = {"box_size": self.training.box_size, "seed": self.seed}
        given = {name: surroundings[name] for name in filled(entry.CLASS)}
        for name, value in select_fields(entry).items():
            if value is not None:  # else a quantity left out: the class knows its own
                given[name] = self.value(name, value)
        return entry.CLASS(**given)

    def value(self, key: str, given: Any) -> Any:
        """A field as the class wants it: in counts, constraints and families as objects."""
        if isinstance(given, Budget):
            self._refuse_large(key, given)
        if isinstance(given, FamilyEntry):
            return _members(key, given, self.training, self.seed)
        if isinstance(given, Entry):
            return self.made(given)
        if isinstance(given, tuple):
            return tuple(self.value(key, one) for one in given)
        if isinstance(given, dict):
            return {name: self.value(f"{key}.{name}", one) for name, one in given.items()}
        return plain(given, self.std)

    def _refuse_large(self, key: str, budget: Budget) -> None:
        if budget.number(self.std) > self.std:
            raise UserError(
                f"defence.{key} = {budget.value:g} {budget.unit}: must be at most {self.std:.4g} "
                "count, the standard deviation of the training maps' pixels"
            )


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
