"""Marks beside a field's type in `Annotated`: what the field may be, and where a search moves it.

A unit is a class of `spurious.description.quantities`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, Literal, get_args

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from spurious.errors import shown

Scale = Literal["linear", "log", "asinh"]


@dataclass(frozen=True)
class Within:
    """Limits of a number or of a quantity's value, both included."""

    low: float
    high: float = math.inf

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check after whatever the type itself checks; none is within, where the type allows it."""
        checked = core_schema.no_info_after_validator_function(self._check, handler(source))
        return core_schema.nullable_schema(checked) if NoneType in get_args(source) else checked

    def _check(self, given: Any) -> Any:
        value = getattr(given, "value", given)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"must be a number {self}")
        if not self.allows(value):
            # A whole number may be too large for a float.
            given = f"{value:g}" if isinstance(value, float) else shown(value)
            raise ValueError(f"must be {self}, not {given}")
        return given

    def allows(self, value: float) -> bool:
        """Whether a number is within."""
        return self.low <= value <= self.high

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"at least {self.low:g}"
        return f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Inside(Within):
    """Limits of a number or of a quantity's value, both excluded."""

    def allows(self, value: float) -> bool:
        """Whether a number is inside."""
        return self.low < value < self.high

    def __str__(self) -> str:
        below = "" if math.isinf(self.high) else f" and below {self.high:g}"
        return f"above {self.low:g}{below}"


@dataclass(frozen=True)
class Doc:
    """What a field means, in words."""

    text: str


@dataclass(frozen=True)
class Searched:
    """In a family, the field is free between these values of the class's own unit, unless fixed.

    Attributes:
        low: lowest value.
        high: highest value.
        scale: the function of the parameter that a search moves evenly.
        name: of a parameter that is searched in place of the field, which `Effect.from_search`
            computes; of a vector, of its elements.
        unit: of that parameter; by default that of the field.
        why: of all ranges this one.
        elements: of a vector, its length, given the other fields of a family.
    """

    low: float
    high: float
    scale: Scale = "linear"
    name: str = ""
    unit: str = ""
    why: str = ""
    elements: Callable[[Mapping[str, Any]], int] | None = None


@dataclass(frozen=True)
class Held:
    """In a family, the field has this value, in the class's own unit, unless given another one.

    Attributes:
        value: which.
        scale: if the field may be made free, the function of it that a search moves evenly.
    """

    value: Any
    scale: Scale | None = None


@dataclass(frozen=True)
class Unless:
    """What an entry that leaves the field out means, where the class itself has no default."""

    default: Any


@dataclass(frozen=True)
class WrittenAs:
    """A field that params.yaml writes in another type, from which its value is made.

    Attributes:
        written: that type.
        allowed: what it is, in words.
    """

    written: Any
    allowed: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """That of the other type."""
        return handler.generate_schema(self.written)
