"""One section of params.yaml: unknown keys are refused, values cannot be changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from spurious.errors import shown

UNKNOWN_KEY = "unknown_key"  # the type of our own validation error
LONGEST_KEY = 64  # characters of an unknown key that a message repeats


class Section(BaseModel):
    """One section of params.yaml: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, revalidate_instances="never"
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        """Refuse the first unknown key and say which there are."""
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                context = {
                    "key": str(key)[:LONGEST_KEY],
                    "value": shown(values[key]),
                    "allowed": ", ".join(cls.model_fields),
                }
                raise PydanticCustomError(
                    UNKNOWN_KEY, "{key} = {value}: unknown key, must be one of {allowed}", context
                )
        return values


class Entry(Section):
    """A section that a class describes: one field for each of the class that a user sets.

    Attributes:
        CLASS: the class, of which `spurious.description.schema` made the section.
    """

    CLASS: ClassVar[type]

    kind: str


def parts(section: Section) -> Iterator[Section]:
    """A section and all sections within it."""
    yield section
    for name in type(section).model_fields:
        value = getattr(section, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Section):
                yield from parts(inner)
