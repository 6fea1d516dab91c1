"""The section of `search.families` that an effect describes: systematics of one kind.

A field marked `Searched` is free in its range, one marked `Held` has its value; both can be given
another range or number. All others are as in an entry of `attacks`. Values are numbers in the
class's own units, without quantities.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, cast

from pydantic import AfterValidator, Discriminator, Tag, create_model, model_validator

from spurious.description.fields import Described, described, filled
from spurious.description.lookup import OneOf, class_of, own_class
from spurious.description.marks import Scale, Within
from spurious.description.quantities import Range
from spurious.description.section import Entry
from spurious.kinds import GROUPS


class Bounds(Range):
    """A parameter of a family that is free: between which values it is searched."""


def _is_free(given: Any) -> str:
    return "free" if isinstance(given, dict | Bounds) else "fixed"


# Distinguished before validation, so that an error names one of them and not both.
Parameter = Annotated[
    Annotated[Bounds, Tag("free")] | Annotated[float, Tag("fixed")], Discriminator(_is_free)
]
"""A parameter of a family: free between bounds, or fixed to a number."""


class Moved(NamedTuple):
    """A parameter that a search may move.

    Attributes:
        key: what it is called in params.yaml.
        field: the field of the class that it is, or that is computed from it.
        scale: the function of it that a search moves evenly.
        unit: of its values.
        limits: beyond which it is not plausible.
        default: of a family that says nothing of it: a range or a number.
    """

    key: str
    field: Described
    scale: Scale
    unit: str
    limits: Within
    default: Bounds | float


ANY = Within(-math.inf, math.inf)


def moved(one: type) -> list[Moved]:
    """The parameters of an effect that a search may move, in order."""
    return [found for field in described(one) if (found := _moved(field)) is not None]


def _moved(field: Described) -> Moved | None:
    searched, held = field.searched, field.held
    if searched is not None:
        bounds, replaced = Bounds(low=searched.low, high=searched.high), bool(searched.name)
        vector = searched.elements is not None
        key = searched.name if replaced and not vector else field.name
        limits = _element_limits(field) if vector else field.limits
        unit = searched.unit or field.unit
        return Moved(key, field, searched.scale, unit, limits or ANY, bounds)
    if held is not None and held.scale is not None:
        return Moved(
            field.name, field, held.scale, field.unit, field.limits or ANY, float(held.value)
        )
    return None


def _element_limits(field: Described) -> Within | None:
    """Of the elements of a vector: those beside their type."""
    marks = getattr(field.plain.__args__[0], "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Within)), None)


class Family(Entry):
    """Systematics of one kind that differ in the values of their free parameters."""

    MOVED: ClassVar[tuple[Moved, ...]]

    @property
    def free(self) -> dict[str, Bounds]:
        """Free parameters and their bounds, in order."""
        given = {one.key: getattr(self, one.key) for one in self.MOVED}
        return {name: value for name, value in given.items() if isinstance(value, Bounds)}

    def fixed(self) -> dict[str, Any]:
        """All other parameters."""
        names = (name for name in type(self).model_fields if name not in ("kind", *self.free))
        return {name: getattr(self, name) for name in names}

    def widened(self, factor: float) -> Self:
        """The same with ranges that reach `factor` times as far, as far as is plausible.

        Ends move away from 0, and the lower one of a parameter that is searched in its logarithm
        towards it.
        """
        wider = {}
        for one in self.MOVED:
            if one.key in self.free:
                bounds = self.free[one.key]
                inwards = one.scale == "log" or bounds.low > 0
                low = bounds.low / factor if inwards else bounds.low * factor
                high = bounds.high * factor if bounds.high > 0 else bounds.high / factor
                low, high = max(low, one.limits.low), min(high, one.limits.high)
                wider[one.key] = Bounds(low=low, high=high)
        return self.model_copy(update=wider)

    @model_validator(mode="after")
    def _possible(self) -> Family:
        if not self.free:
            raise ValueError("no parameter is free: give at least one as {low: ..., high: ...}")
        refuse = getattr(self.CLASS, "consistent", None)
        if refuse is not None:
            refuse(self.fixed())
        return self


@lru_cache(maxsize=256)
def family_of(one: type, kind: str) -> type[Family]:
    """The section that a family of a class must be.

    Raises:
        ValueError: no search can move its parameters.
    """
    free = tuple(moved(one))
    if not hasattr(one, "from_search") or not free:
        raise ValueError(
            f"{one.__name__} is no family: it must be an Effect with a field that is Searched"
        )
    if lacking := [name for name in filled(one) if name not in ("box_size", "seed")]:
        raise ValueError(f"{one.__name__} is no family: a search does not fill in {lacking[0]}")
    written: dict[str, Any] = {"kind": (Literal[kind], ...)}
    by_field = {found.field.name: found for found in free}
    for field in described(one):
        found = by_field.get(field.name)
        if found is not None:
            written[found.key] = Annotated[Parameter, AfterValidator(_check(found))], found.default
        else:
            written[field.name] = _as_number(field)
    family = create_model(one.__name__, __base__=Family, __doc__=one.__doc__, **written)
    family.CLASS, family.MOVED = one, free
    return cast(type[Family], family)


def _as_number(field: Described) -> tuple[Any, Any]:
    """Type and default of a parameter that no search moves."""
    rest = tuple(mark for mark in field.marks if mark is not field.quantity)
    default = field.held.value if field.held is not None else field.default
    return (Annotated[(field.plain, *rest)] if rest else field.plain), default


def _check(parameter: Moved) -> Any:
    """A validator of its values: plausible, and above 0 where a search takes the logarithm."""

    def check(given: Bounds | float) -> Bounds | float:
        ends = (given.low, given.high) if isinstance(given, Bounds) else (given,)
        for value in ends:
            if not parameter.limits.allows(value):
                raise ValueError(f"must be {parameter.limits}, not {value:g}")
        if parameter.scale == "log" and isinstance(given, Bounds) and given.low <= 0:
            raise ValueError(f"{parameter.key}.low = {given.low} must be greater than 0")
        return given

    return check


def is_family(kind: str) -> bool:
    """Whether a search can move what a perturbation of this package says of itself."""
    one = class_of("perturbation", kind)
    return hasattr(one, "from_search") and bool(moved(one))


class OneFamily(OneOf):
    """Beside a field's type: params.yaml writes a family."""

    def _kinds(self) -> list[str]:
        return [kind for kind in GROUPS[self.group] if is_family(kind)]


AnyFamily = Annotated[Family, OneFamily("perturbation", own=own_class, describe=family_of)]
"""A section of `search.families`."""
