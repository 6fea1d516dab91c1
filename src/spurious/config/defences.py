"""How a network is defended while it is trained: the `defence` of an entry of `posteriors`.

Each kind is a frozen dataclass in a file of its own, whose fields are those of the entry; a kind
with a dot is the import path of one that is not of this package. None is imported before an entry
names it.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from inspect import isclass
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from spurious.config.custom import imported, is_custom, section_of
from spurious.config.quantities import Section
from spurious.inference.defence import Defence as Described

KINDS = {
    "adversarial_training": "spurious.defences.adversarial_training.AdversarialTraining",
    "trades": "spurious.defences.trades.Trades",
    "systematics_training": "spurious.defences.systematics_training.SystematicsTraining",
    "gradient_penalty": "spurious.defences.gradient_penalty.GradientPenalty",
    "fisher_penalty": "spurious.defences.fisher_penalty.FisherPenalty",
}
"""Kind -> import path of its class."""


def class_of(kind: Any) -> type[Described]:
    """The class of a kind.

    Raises:
        ValueError: there is none, or it is no defence.
    """
    if not (is_custom(kind) or kind in KINDS):
        allowed = ", ".join(KINDS)
        raise ValueError(f"must be one of {allowed}, or the import path of a class")
    one: Any = imported(KINDS.get(kind, kind))
    if not (isclass(one) and issubclass(one, Described) and is_dataclass(one)):
        raise ValueError(f"{one} must be a dataclass that is a spurious.Defence")
    return one


def _validated(given: Any) -> Any:
    if isinstance(given, Section):
        return given
    kind = given.get("kind") if isinstance(given, dict) else None
    try:
        one = class_of(kind)
        section = section_of(one, str(kind))
    except ValueError as error:
        problem = PydanticCustomError("defence", "{problem}", {"problem": str(error)})
        line: InitErrorDetails = {"type": problem, "loc": ("kind",), "input": kind}
        raise ValidationError.from_exception_data("defence", [line]) from None
    entry = section.model_validate(given)
    one.check(entry)
    return entry


Defence = Annotated[SerializeAsAny[Section], BeforeValidator(_validated)]
