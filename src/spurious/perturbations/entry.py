"""What an entry of `attacks` in params.yaml says beside the fields of its class."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import Discriminator, Field, Tag, model_validator

from spurious.description.fields import Described, filled
from spurious.description.lookup import OneOf
from spurious.description.names import PosteriorName
from spurious.description.schema import Checked, section_of
from spurious.description.section import Entry, Section


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


ENTRY = OneOf("perturbation", own=True, describe=describe)
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
