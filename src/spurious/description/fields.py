"""The fields of a class that its users set, as its annotations describe them."""

from __future__ import annotations

import sys
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache, cached_property
from inspect import get_annotations
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from spurious.description.marks import Doc, Held, Searched, Unless, Within
from spurious.description.quantities import Quantity

FILLED = ("posterior", "box_size", "seed")
"""Fields that nobody writes in params.yaml: they are filled with what the maps and the run say.

A class may name others that it wants filled in its class variable `FILLED`.
"""

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Described:
    """One field of a class.

    Attributes:
        name: of the field.
        hint: its annotation, evaluated.
        default: of an entry that leaves it out; MISSING if it must be given.
    """

    name: str
    hint: Any
    default: Any

    @cached_property
    def plain(self) -> Any:
        """The type without its marks; a number, where they say so of what may be a tensor too."""
        plain = get_args(self.hint)[0] if get_origin(self.hint) is Annotated else self.hint
        return float if plain is Any and (self.limits or self.searched or self.held) else plain

    @cached_property
    def marks(self) -> tuple[Any, ...]:
        """What stands beside the type."""
        return tuple(get_args(self.hint)[1:]) if get_origin(self.hint) is Annotated else ()

    def mark(self, kind: type[Mark]) -> Mark | None:
        """The first mark of a kind, if there is one."""
        return next((one for one in self.marks if isinstance(one, kind)), None)

    @cached_property
    def quantity(self) -> type[Quantity] | None:
        """As which quantity params.yaml writes the field; none: as a plain value."""
        types = (one for one in (*self.marks, self.plain) if isinstance(one, type))
        return next((one for one in types if issubclass(one, Quantity)), None)

    @property
    def unit(self) -> str:
        """Of the number that the class gets."""
        return self.quantity.units()[-1] if self.quantity else ""

    @property
    def limits(self) -> Within | None:
        """Of the number, if there are any."""
        return self.mark(Within)

    @property
    def searched(self) -> Searched | None:
        """Where a search moves it, if it does."""
        return self.mark(Searched)

    @property
    def held(self) -> Held | None:
        """At which value a search holds it, if it does."""
        return self.mark(Held)

    @property
    def meaning(self) -> str:
        """What it is, in words."""
        doc = self.mark(Doc)
        return doc.text if doc else ""


def filled(one: Any) -> list[str]:
    """Names of the fields of a class that are filled in."""
    names = (*FILLED, *getattr(one, "FILLED", ()))
    return [field.name for field in fields(one) if field.init and field.name in names]


def described(one: Any) -> list[Described]:
    """The fields of a dataclass that its users set, in order."""
    names = (*FILLED, *getattr(one, "FILLED", ()))
    return [
        Described(field.name, hint := _hint(one, field.name), _default(field, hint))
        for field in fields(one)
        if field.init and field.name not in names
    ]


def _default(field: Field[Any], hint: Any) -> Any:
    for mark in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
        if isinstance(mark, Unless):
            return mark.default
    if field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


@cache  # params.yaml asks for the same ones hundreds of times
def _hint(one: type, name: str) -> Any:
    """A field's annotation: evaluated alone, because those of fields that are filled in may not be.

    Modules import the types of those for type checkers only.
    """
    home = next(base for base in one.__mro__ if name in get_annotations(base))
    alone = type(name, (), {"__annotations__": {name: get_annotations(home)[name]}})
    spaces = vars(sys.modules[home.__module__]), dict(vars(home))
    return get_type_hints(alone, *spaces, include_extras=True)[name]
