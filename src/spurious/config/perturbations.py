"""Entries of the section `attacks`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from spurious.config.quantities import Budget, Density, InverseDensity, Section


class RandomSign(Section):
    """Control: every pixel moves by plus or minus epsilon at random."""

    kind: Literal["random_sign"]
    epsilon: Budget


class FGSM(Section):
    """Fast gradient sign method: one step of size epsilon (Goodfellow et al. 2015)."""

    kind: Literal["fgsm"]
    epsilon: Budget
    objective: Literal["nll", "kl"] = "nll"


class BIM(Section):
    """Basic iterative method (Kurakin et al. 2017; the paper's Eq. 2)."""

    kind: Literal["bim"]
    alpha: Budget
    steps: int = Field(10, ge=1, le=10_000)
    epsilon: Budget | None = Field(None, description="largest change of a pixel; none: alpha steps")
    objective: Literal["nll", "kl"] = "nll"


class Match(Section):
    """An amplitude chosen so that the mean squared change equals another perturbation's."""

    match: RandomSign | FGSM | BIM = Field(discriminator="kind")


def _amplitude_kind(value: Any) -> str:
    given = isinstance(value, Match) or (isinstance(value, dict) and "match" in value)
    return "match" if given else "density"


# Told apart before validation, so that an error names one of them and not both.
Amplitude = Annotated[
    Annotated[Density, Tag("density")] | Annotated[Match, Tag("match")],
    Discriminator(_amplitude_kind),
]


class Logistic(Section):
    """The paper's systematic (Eq. 3): x + beta / (1 + exp(a x + b))."""

    kind: Literal["logistic"]
    a: InverseDensity
    b: float
    beta: Amplitude


Perturbation = Annotated[RandomSign | FGSM | BIM | Logistic, Field(discriminator="kind")]
