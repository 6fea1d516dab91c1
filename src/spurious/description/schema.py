"""The section of params.yaml that a class describes: one field for each that its users set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING
from functools import lru_cache
from typing import Annotated, Any, Literal, cast

from pydantic import create_model, model_validator
from pydantic.errors import PydanticUserError

from spurious.description.fields import Described, described
from spurious.description.quantities import Quantity
from spurious.description.section import Entry

Writer = Callable[[type, Described, Any], Any]


def as_it_is(one: type, field: Described, written: Any) -> Any:
    """A field is written as its type says, whatever the class."""
    return written


class Checked(Entry):
    """An entry that is refused if its values cannot be together, as its class says.

    A class says so in `consistent`, a static method that gets the fields that its users set, as
    numbers (budgets in std as if it were 1), and raises a ValueError.
    """

    @model_validator(mode="after")
    def _consistent(self) -> Checked:
        refuse = getattr(self.CLASS, "consistent", None)
        if refuse is not None:
            refuse({name: plain(getattr(self, name)) for name in fields_of(self)})
        return self


def fields_of(entry: Entry) -> list[str]:
    """Names of the fields of an entry that are those of its class."""
    return [field.name for field in described(entry.CLASS)]


def plain(value: Any, std: float = 1.0) -> Any:
    """The number of a quantity, anything else as it is."""
    return value.number(std) if isinstance(value, Quantity) else value


@lru_cache(maxsize=256)
def section_of(
    one: type, kind: str, base: type[Entry] = Checked, write: Writer = as_it_is
) -> type[Entry]:
    """The section that an entry of a class must be.

    Args:
        one: a dataclass.
        kind: what the entry's `kind` must be.
        base: the section that it extends.
        write: changes the type that an entry has for a field, given the class and the field.

    Raises:
        ValueError: a field's type says nothing that can be checked.
    """
    try:
        written: dict[str, Any] = {"kind": (Literal[kind], ...)}
        for field in described(one):
            written[field.name] = _written(one, field, write)
        section = create_model(one.__name__, __base__=base, __doc__=one.__doc__, **written)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{one.__name__} has a field that cannot be checked: {reason}") from error
    section.CLASS = one
    return cast(type[Entry], section)


def _written(one: type, field: Described, write: Writer) -> tuple[Any, Any]:
    """Type and default of a section's field; a quantity left out is None, the class knows its own.

    Without either default of the class there is none, and the field must be given.
    """
    rest = tuple(mark for mark in field.marks if mark is not field.quantity)
    hint: Any = field.quantity or field.plain
    hint = write(one, field, Annotated[(hint, *rest)] if rest else hint)
    if field.default is MISSING:
        return hint, ...
    if field.quantity is not None and not isinstance(field.default, Quantity):
        return hint | None, None
    return hint, field.default


def select_fields(entry: Entry) -> Mapping[str, Any]:
    """The fields of an entry's class by name, as params.yaml writes them."""
    return {name: getattr(entry, name) for name in fields_of(entry)}
