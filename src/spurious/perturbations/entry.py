"""What an entry of `attacks` in params.yaml says beside the fields of its class."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import Discriminator, Field, Tag, model_validator

from spurious.data.maps import MapSet
from spurious.data.splits import evenly_spaced
from spurious.description.fields import Described, filled
from spurious.description.lookup import OneOf, own_class
from spurious.description.names import PosteriorName
from spurious.description.schema import Checked, section_of
from spurious.description.section import Entry, Section, parts


class PerturbationEntry(Checked):
    """An entry of `attacks`."""


class OnPosterior(PerturbationEntry):
    """An attack that follows a posterior's gradient."""

    on: PosteriorName | None = Field(
        None,
        description="posterior on which the attack is made; none: the target. Budgets in std stay "
        "those of the target, so that the change in counts is the same",
    )
    maps: int | None = Field(
        None, ge=1, description="test maps to attack, evenly spaced; none: all"
    )

    @model_validator(mode="before")
    @classmethod
    def _unquoted(cls, values: Any) -> Any:
        """YAML 1.1, which PyYAML reads, takes the bare key `on` for true."""
        if isinstance(values, dict) and True in values:
            return {("on" if key is True else key): value for key, value in values.items()}
        return values


def describe(one: type, kind: str) -> type[Entry]:
    """The section of a perturbation's class: an amplitude may be matched, an attack has `on`."""
    base = OnPosterior if "posterior" in filled(one) else PerturbationEntry
    return section_of(one, kind, base, _matchable)


def _matchable(one: type, field: Described, written: Any) -> Any:
    is_amplitude = field.name == getattr(one, "AMPLITUDE", None)
    return cast(Any, Matchable)[written] if is_amplitude else written


ENTRY = OneOf("perturbation", own=own_class, describe=describe)
"""Beside a field's type: params.yaml writes another entry of `attacks`."""


class Matching(Section):
    """An amplitude chosen so that the mean squared change equals that of another entry.

    `sign` is that of the amplitude.
    """

    match: Annotated[Entry, ENTRY]
    sign: Literal[-1, 1] = 1


def _amplitude_kind(value: Any) -> str:
    given = isinstance(value, Matching) or (isinstance(value, dict) and "match" in value)
    return "match" if given else "plain"


T = TypeVar("T")
# Distinguished before validation, so that an error names one of them and not both.
Matchable = Annotated[
    Annotated[T, Tag("plain")] | Annotated[Matching, Tag("match")], Discriminator(_amplitude_kind)
]

Perturbation = Annotated[Entry, ENTRY]
"""An entry of `attacks` in params.yaml."""


def some_maps(settings: Entry, test: MapSet) -> MapSet:
    """The maps that an entry is made on: `maps` of them, if it or one it builds on says so."""
    limits = [limit for one in parts(settings) if (limit := getattr(one, "maps", None))]
    count = min([*limits, len(test)])
    return test if count == len(test) else test.take(evenly_spaced(len(test), count))


def follows_target(settings: Entry) -> bool:
    """Whether an entry, or one that it builds on, is an attack on the target itself."""
    attacks = (part for part in parts(settings) if isinstance(part, OnPosterior))
    return any(attack.on is None for attack in attacks)


def needs_training(settings: Entry) -> bool:
    """Whether an entry, or one that it builds on, is made on the training maps."""
    classes = [part.CLASS for part in parts(settings) if isinstance(part, Entry)]
    return any("training_maps" in filled(one) for one in classes)
