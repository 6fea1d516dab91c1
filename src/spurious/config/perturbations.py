"""Entries of the section `attacks`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spurious.config.attacks import (
    BIM,
    FGSM,
    PGD,
    Amplitude,
    AutoPGD,
    InitialConditions,
    Match,
    MinimumNorm,
    RandomSign,
    Universal,
    WhiteBox,
)
from spurious.config.quantities import InverseDensity, Section
from spurious.config.systematics import Systematic

__all__ = [
    "BIM",
    "FGSM",
    "PGD",
    "Amplitude",
    "AutoPGD",
    "InitialConditions",
    "Logistic",
    "Match",
    "MinimumNorm",
    "Perturbation",
    "RandomSign",
    "Universal",
    "WhiteBox",
]


class Logistic(Section):
    """The paper's systematic (Eq. 3): x + beta / (1 + exp(a x + b))."""

    kind: Literal["logistic"]
    a: InverseDensity
    b: float
    beta: Amplitude


Perturbation = Annotated[
    RandomSign | WhiteBox | InitialConditions | Logistic | Systematic, Field(discriminator="kind")
]
