"""Entries whose `kind` is the import path of a class: perturbations that are not of this package.

The class is a dataclass; its fields are those of the entry. What a field may hold is what its type
says, and what stands beside the type in `Annotated`: limits (`Within`), and the quantity as which
params.yaml writes it (`Budget`, `Density`, `Length`, `Angle`), of which the class gets the number.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from spurious.config.attacks import OnPosterior
from spurious.config.quantities import Section
from spurious.config.systematics import Matchable
from spurious.description.fields import Described, filled
from spurious.description.lookup import own_class
from spurious.description.schema import Checked, section_of


def is_custom(kind: Any) -> bool:
    """Whether a `kind` is an import path."""
    return isinstance(kind, str) and "." in kind


class _Attack(OnPosterior, Checked):
    """An attack of one's own follows a posterior's gradient, as ours do."""


def _matchable(one: type, field: Described, written: Any) -> Any:
    """An effect's amplitude may be matched to another entry."""
    is_amplitude = field.name == getattr(one, "AMPLITUDE", None)
    return cast(Any, Matchable)[written] if is_amplitude else written


def _section(one: type, kind: str) -> type[Section]:
    base = _Attack if "posterior" in filled(one) else Checked
    return section_of(one, kind, base, _matchable)


def _validated(given: Any) -> Any:
    if isinstance(given, Section):
        return given
    kind = given["kind"]
    try:
        section = _section(own_class(kind), kind)
    except ValueError as error:
        problem = PydanticCustomError("custom", "{problem}", {"problem": str(error)})
        line: InitErrorDetails = {"type": problem, "loc": ("kind",), "input": kind}
        raise ValidationError.from_exception_data("custom", [line]) from None
    return section.model_validate(given)


Custom = Annotated[SerializeAsAny[Section], BeforeValidator(_validated)]
