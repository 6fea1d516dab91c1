"""White-box attacks in params.yaml: objective, step, budget, and what else must hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from spurious.config.names import PosteriorName
from spurious.description.quantities import Budget, Density, NoiseBudget, Wavenumbers
from spurious.description.section import Section


class Toward(Section):
    """The posterior moves to a chosen cosmology."""

    kind: Literal["toward"]
    omega_m: float = Field(gt=0, lt=1)
    sigma_8: float = Field(gt=0)


class ShiftS8(Section):
    """S_8 = sigma_8 sqrt(Omega_m / 0.3) of the posterior's mean shifts by so many clean sigmas."""

    kind: Literal["shift_s8"]
    sigmas: float = Field(ge=-100, le=100, description="posterior standard deviations, not 0")

    @model_validator(mode="after")
    def _a_shift(self) -> ShiftS8:
        if self.sigmas == 0:
            raise ValueError("sigmas = 0 must not be 0")
        return self


ObjectiveName = Literal[
    "nll", "kl", "kl_perturbed_clean", "kl_clean_perturbed", "overconfident", "underconfident"
]


def _objective_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


# Told apart before validation, so that an error names one of them and not all.
Objective = Annotated[
    Annotated[ObjectiveName, Tag("name")]
    | Annotated[Toward, Tag("toward")]
    | Annotated[ShiftS8, Tag("shift_s8")],
    Discriminator(
        _objective_kind,
        custom_error_type="objective",
        custom_error_message=(
            "must be nll, kl_perturbed_clean (short: kl), kl_clean_perturbed, overconfident, "
            "underconfident, or a section of kind toward or shift_s8"
        ),
    ),
]


class PhaseOnly(Section):
    """Every Fourier mode keeps its amplitude."""

    kind: Literal["phase_only"]


class BinPreserving(Section):
    """Every bin of the power spectrum keeps its power."""

    kind: Literal["bin_preserving"]


class Bounded(Section):
    """Every bin's power changes by at most a fraction of one map's cosmic variance."""

    kind: Literal["bounded"]
    fraction: float = Field(ge=0, le=100)


class BandLimited(Section):
    """Only modes in a range of k may change."""

    kind: Literal["band_limited"]
    k: Wavenumbers


Constraint = Annotated[
    PhaseOnly | BinPreserving | Bounded | BandLimited, Field(discriminator="kind")
]


class RandomSign(Section):
    """Control: every pixel moves by plus or minus epsilon at random."""

    kind: Literal["random_sign"]
    epsilon: Budget


class OnPosterior(Section):
    """An attack that follows a posterior's gradient."""

    on: PosteriorName | None = Field(
        None,
        description="posterior on which the attack is made; none: the target. Budgets in std stay "
        "those of the target, so that the change in counts is the same",
    )

    @model_validator(mode="before")
    @classmethod
    def _unquoted(cls, values: Any) -> Any:
        """YAML 1.1, which PyYAML reads, takes the bare key `on` for true."""
        if isinstance(values, dict) and True in values:
            return {("on" if key is True else key): value for key, value in values.items()}
        return values


class OnMaps(OnPosterior):
    """An attack on maps."""

    upper: Density | None = Field(None, description="largest density; none: any")
    maps: int | None = Field(
        None, ge=1, description="test maps to attack, evenly spaced; none: all"
    )


class FGSM(OnMaps):
    """Fast gradient sign method: one step of size epsilon (Goodfellow et al. 2015)."""

    kind: Literal["fgsm"]
    epsilon: Budget
    objective: Objective = "nll"


class BIM(OnMaps):
    """Basic iterative method (Kurakin et al. 2017; the paper's Eq. 2)."""

    kind: Literal["bim"]
    alpha: Budget
    steps: int = Field(10, ge=1, le=10_000)
    epsilon: Budget | None = Field(None, description="largest change of a pixel; none: alpha steps")
    objective: Objective = "nll"
    constraints: tuple[Constraint, ...] = ()


class Climb(OnMaps):
    """What PGD and Auto-PGD have in common."""

    epsilon: Budget | None = Field(
        None, description="largest change of a pixel (linf), or RMS change (l2); none: any"
    )
    steps: int = Field(20, ge=1, le=10_000)
    norm: Literal["linf", "l2"] = "linf"
    objective: Objective = "nll"
    random_start: bool = True
    restarts: int = Field(1, ge=1, le=1000)
    constraints: tuple[Constraint, ...] = ()
    alpha: Budget | None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.epsilon is None and (self.alpha is None or not self.constraints):
            raise ValueError("epsilon: without one, give alpha and constraints")
        if self.restarts > 1 and not self.random_start:
            raise ValueError(f"restarts = {self.restarts} must be 1 without random_start")
        return self


class PGD(Climb):
    """Projected gradient descent (Madry et al. 2018); with momentum, MI-FGSM (Dong et al. 2018)."""

    kind: Literal["pgd"]
    alpha: Budget | None = Field(None, description="first step; none: steps of 2.5 epsilon in all")
    decay: Literal["constant", "linear"] = Field("constant", description="linear: to alpha / steps")
    momentum: float = Field(0.0, ge=0, le=1)


class AutoPGD(Climb):
    """Auto-PGD, which chooses its own step sizes (Croce & Hein 2020)."""

    kind: Literal["auto_pgd"]
    alpha: Budget | None = Field(
        None,
        description="first step; none: 2 epsilon, within constraints epsilon / 4 (linf) or epsilon",
    )


class Universal(OnMaps):
    """One pattern for all maps (Moosavi-Dezfooli et al. 2017), trained on the training maps."""

    kind: Literal["universal"]
    epsilon: Budget = Field(description="size of the pattern: largest (linf) or RMS (l2)")
    alpha: Budget | None = Field(None, description="first step; none: steps of 2.5 epsilon in all")
    steps: int = Field(100, ge=1, le=100_000, description="each with one batch of maps")
    batch_size: int = Field(32, ge=1, le=4096, description="maps a step")
    norm: Literal["linf", "l2"] = "linf"
    objective: Objective = "nll"


class MinimumNorm(OnMaps):
    """The smallest change that moves the posterior's mean by so many clean sigmas."""

    kind: Literal["minimum_norm"]
    sigmas: float = Field(
        gt=0, le=100, description="clean posterior standard deviations (Mahalanobis)"
    )
    largest: Budget = Field(description="largest budget that is tried")
    norm: Literal["linf", "l2"] = "l2"
    steps: int = Field(20, ge=1, le=10_000, description="of each attack that tries a budget")
    restarts: int = Field(3, ge=1, le=1000, description="random starts at the largest budget")
    bisections: int = Field(7, ge=0, le=30, description="known to 2^-bisections of itself")


class InitialConditions(OnPosterior):
    """Other phases of the white noise; every mode keeps its power, the cosmology stays."""

    kind: Literal["initial_conditions"]
    epsilon: NoiseBudget
    steps: int = Field(20, ge=1, le=1000, description="each a simulation with its gradient")
    maps: int = Field(16, ge=1, description="test maps to attack, evenly spaced; it is slow")
    objective: Objective = "nll"


WhiteBox = FGSM | BIM | PGD | AutoPGD | Universal | MinimumNorm
"""Attacks on maps; `InitialConditions` is one on simulations."""
