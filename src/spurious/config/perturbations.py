"""Entries of the section `attacks`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from spurious.config.attacks import (
    BIM,
    FGSM,
    PGD,
    AutoPGD,
    InitialConditions,
    MinimumNorm,
    RandomSign,
    Universal,
    WhiteBox,
)
from spurious.config.custom import Custom, is_custom
from spurious.config.systematics import Logistic, Matching, Systematic

__all__ = [
    "BIM",
    "FGSM",
    "PGD",
    "AutoPGD",
    "InitialConditions",
    "Logistic",
    "Match",
    "Matching",
    "MinimumNorm",
    "Perturbation",
    "RandomSign",
    "Universal",
    "WhiteBox",
]

Match = Matching

BuiltIn = Annotated[
    RandomSign | WhiteBox | InitialConditions | Systematic, Field(discriminator="kind")
]


def _home(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return "custom" if is_custom(kind) else "built_in"


Perturbation = Annotated[
    Annotated[BuiltIn, Tag("built_in")] | Annotated[Custom, Tag("custom")], Discriminator(_home)
]
