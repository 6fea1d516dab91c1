"""One section of params.yaml: unknown keys are refused, values cannot be changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from spurious.errors import one_of, shown

WRONG_KEY = "wrong_key"  # the type of our own validation error, whose message names the key
LONGEST_KEY = 64  # characters of an unknown key that a message repeats


class Section(BaseModel):
    """One section of params.yaml: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, revalidate_instances="never"
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        """Refuse the first unknown key, and true or false where a number is meant."""
        for key, value in values.items() if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                allowed = f"unknown key, {one_of(key, cls.model_fields)}"
            elif isinstance(value, bool) and _is_number(cls.model_fields[key].annotation):
                allowed = "must be a number"
            else:
                continue
            context = {"key": str(key)[:LONGEST_KEY], "value": shown(value), "allowed": allowed}
            raise PydanticCustomError(WRONG_KEY, "{key} = {value}: {allowed}", context)
        return values


class Entry(Section):
    """A section that a class describes: one field for each of the class that a user sets.

    Attributes:
        CLASS: the class, of which `spurious.description.schema` made the section.
    """

    CLASS: ClassVar[type]

    kind: str


def _is_number(annotation: Any) -> bool:
    """Whether a type has numbers, but not true and false, which Python would read as 1 and 0."""
    types = set(_types(annotation))
    return bool(types & {int, float}) and bool not in types


def _types(annotation: Any) -> Iterator[Any]:
    """A type and all types within it."""
    yield annotation
    for inner in get_args(annotation):
        if isinstance(inner, type) or get_args(inner):
            yield from _types(inner)
        elif get_origin(annotation) is Literal:
            yield type(inner)


def parts(section: Section) -> Iterator[Section]:
    """A section and all sections within it."""
    yield section
    for name in type(section).model_fields:
        value = getattr(section, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Section):
                yield from parts(inner)
