"""What there is, as tables: the kinds of a group, the fields of a class, the ranges of a search."""

from __future__ import annotations

from dataclasses import MISSING
from typing import Any, Literal, NamedTuple, get_args, get_origin

from spurious.description.family import Bounds, is_family, moved
from spurious.description.fields import Described, described
from spurious.description.lookup import OneOf, class_of, described_by
from spurious.description.marks import Within, WrittenAs
from spurious.description.quantities import Quantity
from spurious.errors import nearest
from spurious.kinds import GROUPS

WORDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
SCALES = {"linear": "", "log": "logarithm", "asinh": "asinh"}


class Row(NamedTuple):
    """One field: what it is called, what it may be, in which unit, its default, its meaning."""

    name: str
    allowed: str
    unit: str
    default: str
    meaning: str


class Range(NamedTuple):
    """One parameter of a family: what it is called, its range or value, unit, scale, and why."""

    name: str
    values: str
    unit: str
    scale: str
    why: str


def summary(one: type) -> str:
    """The first line of a class's docstring."""
    return (one.__doc__ or "").strip().partition("\n")[0]


def rows(one: type) -> list[Row]:
    """The fields of a class that an entry of params.yaml may have, beside `kind`."""
    return [
        Row(
            field.name,
            allowed(field),
            " or ".join(field.quantity.units()) if field.quantity else "",
            "" if field.default is MISSING else written(field.default),
            field.meaning,
        )
        for field in described(one)
    ]


def ranges(one: type) -> list[Range]:
    """Where a search moves the parameters of a class, or holds them."""
    free = {parameter.field.name: parameter for parameter in moved(one)}
    found = []
    for field in described(one):
        if field.name in free:
            key, _, scale, unit, _, default = free[field.name]
            values = written(default)
            why = field.searched.why if field.searched else ""
            found.append(Range(key, values, unit, SCALES[scale], why))
        elif field.held is not None:
            found.append(Range(field.name, written(field.held.value), field.unit, "", ""))
    return found


def families() -> list[str]:
    """The kinds that `search.families` may have."""
    return [kind for kind in GROUPS["perturbation"] if is_family(kind)]


def find(kind: str) -> dict[str, type]:
    """Group -> class of a kind, which several groups may have, or of an import path.

    Raises:
        ValueError: there is none.
    """
    if "." in kind:
        return dict([described_by(kind)])
    found = {group: class_of(group, kind) for group, kinds in GROUPS.items() if kind in kinds}
    if not found:
        known = list(dict.fromkeys(name for kinds in GROUPS.values() for name in kinds))
        own = f"or the import path of a class of your own{nearest(kind, known)}"
        raise ValueError(f"must be one of {', '.join(known)}, {own}")
    return found


def allowed(field: Described) -> str:
    """What a field may be, in words."""
    for mark in (*field.marks, *_inner(field)):
        if isinstance(mark, OneOf):
            return f"one {mark.group}" if mark in field.marks else f"a list of {mark.group}s"
        if isinstance(mark, WrittenAs):
            return mark.allowed
    if field.limits is not None:
        return str(field.limits)
    if get_origin(field.plain) is Literal:
        return " or ".join(map(written, get_args(field.plain)))
    if field.plain is bool:
        return "true or false"
    if get_origin(field.plain) is dict:
        return "a mapping"
    if field.quantity is not None:
        return _of_quantity(field.quantity)
    return _of_elements(field) or "any number"


def _of_quantity(quantity: type[Quantity]) -> str:
    """The limits that a quantity has by itself."""
    if "value" not in quantity.model_fields:
        return summary(quantity).rstrip(".").lower()
    limits = [
        f"{word} {getattr(mark, name):g}"
        for mark in quantity.model_fields["value"].metadata
        for name, word in WORDS.items()
        if hasattr(mark, name)
    ]
    return " and ".join(limits) or "any number"


def _inner(field: Described) -> tuple[Any, ...]:
    """The marks of a tuple's elements."""
    arguments = get_args(field.plain) if get_origin(field.plain) is tuple else ()
    return getattr(arguments[0], "__metadata__", ()) if arguments else ()


def _of_elements(field: Described) -> str:
    limits = [str(mark) for mark in _inner(field) if isinstance(mark, Within)]
    return f"each {limits[0]}" if limits else ""


def written(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, Bounds):
        return f"{value.low:g} to {value.high:g}"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
