"""The search: what it maximises, what it keeps within, and the families of systematics it tries."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from spurious.config import systematics
from spurious.config.names import Name
from spurious.config.quantities import Range, Section


class Bounds(Range):
    """A parameter of a family that is free: between which values it is searched."""


def _is_free(given: Any) -> str:
    return "free" if isinstance(given, dict | Bounds) else "fixed"


# Told apart before validation, so that an error names one of them and not both.
Parameter = Annotated[
    Annotated[Bounds, Tag("free")] | Annotated[float, Tag("fixed")], Discriminator(_is_free)
]
"""A parameter of a family: free between bounds, or fixed to a number."""


def _bounds(low: float, high: float) -> Bounds:
    return Bounds(low=low, high=high)


class Family(Section):
    """Systematics that differ in the values of their free parameters.

    Attributes:
        ENTRY: the entry of `attacks` whose plausible ranges the parameters must respect.
        LOGARITHMIC: parameters that are searched in their logarithm.
    """

    ENTRY: ClassVar[type[Section] | None] = None
    LOGARITHMIC: ClassVar[tuple[str, ...]] = ()

    @property
    def free(self) -> dict[str, Bounds]:
        """Free parameters and their bounds, in order."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in given.items() if isinstance(value, Bounds)}

    def widened(self, factor: float) -> Self:
        """The same with ranges that reach `factor` times as far, as far as is plausible.

        Ends move away from 0, and the lower one of a parameter that is searched in its logarithm
        towards it.
        """
        plausible, wider = _plausible(self.ENTRY), {}
        for name, bounds in self.free.items():
            inwards = name in self.LOGARITHMIC or bounds.low > 0
            low = bounds.low / factor if inwards else bounds.low * factor
            high = bounds.high * factor if bounds.high > 0 else bounds.high / factor
            least, most, _ = plausible.get(name, (-math.inf, math.inf, ""))
            wider[name] = Bounds(low=max(low, float(least)), high=min(high, float(most)))
        return self.model_copy(update=wider)

    @model_validator(mode="after")
    def _possible(self) -> Family:
        if not self.free:
            raise ValueError("no parameter is free: give at least one as {low: ..., high: ...}")
        for name in self.LOGARITHMIC:
            if name in self.free and self.free[name].low <= 0:
                raise ValueError(f"{name}.low = {self.free[name].low} must be greater than 0")
        for name, (low, high, _) in _plausible(self.ENTRY).items():
            for value in _numbers(getattr(self, name)):
                if not low <= value <= high:
                    raise ValueError(f"{name}: {value:g} must be between {low:g} and {high:g}")
        return self


def _plausible(entry: type[Section] | None) -> dict[str, tuple[float, float, str]]:
    return systematics.ranges(entry) if entry else {}


def _numbers(parameter: Any) -> tuple[float, ...]:
    return (parameter.low, parameter.high) if isinstance(parameter, Bounds) else (float(parameter),)


class Logistic(Family):
    """The paper's systematic, x + beta / (1 + exp(a x + b)), by its slope, place and amplitude."""

    LOGARITHMIC = ("a", "transition")

    kind: Literal["logistic"]
    a: Bounds = Field(
        _bounds(0.01, 2.0),
        description="slope, 1/count; in its logarithm. 1/a is the switch's width: from more than "
        "the mean density of 64, where it is nearly a gain, to half a particle, where it is a step",
    )
    transition: Bounds = Field(
        _bounds(5.0, 400.0),
        description="-b/a in counts, where it switches; in its logarithm. From below the "
        "emptiest pixel of the pilot to where one in a thousand lies above",
    )
    beta: Bounds = Field(
        _bounds(-30.0, 30.0),
        description="counts; in asinh(beta), both signs. Half the mean density, ten times the "
        "paper's: a larger one empties or doubles whole ranges of density, which nobody overlooks",
    )


class Calibration(Family):
    """A calibration curve with knots that are fixed and slopes between them that are free."""

    ENTRY = systematics.Calibration

    kind: Literal["calibration"]
    amplitude: Literal[1] = Field(1, description="not free: it only scales the slopes")
    knots: tuple[float, ...] = Field(
        (0.0, 10.0, 25.0, 50.0, 75.0, 125.0, 250.0, 500.0),
        min_length=2,
        description="counts, increasing from 0; by default 7 slopes between 8 knots",
    )
    log_slopes: Bounds = Field(
        _bounds(-1.0, 1.0),
        description="of each ln of the mean slope between two knots: 0.3 is a slope off by a "
        "third, more than instruments that are calibrated at all; 1 is what is plausible at most",
    )

    @model_validator(mode="after")
    def _increasing(self) -> Calibration:
        if self.knots[0] != 0 or not all(one < other for one, other in pairwise(self.knots)):
            raise ValueError(f"knots = {list(self.knots)} must increase from 0")
        return self


class Saturation(Family):
    """A detector that saturates."""

    ENTRY = systematics.Saturation
    LOGARITHMIC = ("strength", "threshold", "sharpness")

    kind: Literal["saturation"]
    strength: Parameter = Field(
        _bounds(0.001, 1.0),
        description="in its logarithm. Power law x^(1 - strength) above the threshold: from what "
        "changes the brightest pixel by half a per cent to a detector that is full",
    )
    threshold: Parameter = Field(
        _bounds(10.0, 2000.0),
        description="counts; in its logarithm. From below the emptiest pixel of the pilot, where "
        "all are bent, to the brightest",
    )
    sharpness: Parameter = Field(
        _bounds(0.5, 20.0),
        description="in its logarithm. From a bend over two decades of density to an edge: all "
        "that is plausible",
    )


class GainDrift(Family):
    """A gain that drifts across the field; half a turn and both signs are all directions."""

    ENTRY = systematics.GainDrift

    kind: Literal["gain_drift"]
    amplitude: Parameter = Field(_bounds(-0.5, 0.5), description="relative")
    angle: Parameter = Field(_bounds(0.0, 180.0), description="degrees")
    order: int = Field(1, ge=1, le=8, description="waves across the field")


class Stripes(Family):
    """Offsets between bands of the field; their pattern is drawn once."""

    ENTRY = systematics.Stripes

    kind: Literal["stripes"]
    amplitude: Parameter = Field(_bounds(-10.0, 10.0), description="RMS in counts, with a sign")
    stripes: int = Field(16, ge=2, le=4096, description="bands across the field")
    axis: Literal[0, 1] = Field(0, description="axis of a map along which a stripe runs")


class Masked(Family):
    """Holes filled in by interpolation; their places are drawn once."""

    ENTRY = systematics.Masked

    kind: Literal["masked"]
    blend: Bounds = Field(_bounds(0.0, 1.0), description="1: filled in")
    fraction: float = Field(0.05, description="share of pixels in holes")
    radius: float = Field(2.0, description="of a hole, Mpc/h")


class Beam(Family):
    """A point-spread function of another width than assumed."""

    ENTRY = systematics.Beam

    kind: Literal["beam"]
    mismatch: Parameter = Field(_bounds(-0.5, 1.0), description="relative error of the width")
    fwhm: Parameter = Field(4.0, description="assumed width at half maximum, Mpc/h")


class Baryons(Family):
    """Matter that feedback drives out of peaks."""

    ENTRY = systematics.Baryons

    kind: Literal["baryons"]
    amplitude: Parameter = Field(_bounds(-0.5, 0.5), description="share of the matter moved")
    scale: Parameter = Field(_bounds(0.0, 20.0), description="how far, Mpc/h")
    threshold: Parameter = Field(0.0, description="counts; in its asinh where it is free")


class CorrelatedNoise(Family):
    """Noise with the power spectrum k^index, drawn once."""

    ENTRY = systematics.CorrelatedNoise

    kind: Literal["correlated_noise"]
    rms: Parameter = Field(_bounds(0.0, 20.0), description="counts")
    index: Parameter = _bounds(-4.0, 2.0)

    @model_validator(mode="after")
    def _not_negative(self) -> CorrelatedNoise:
        if min(_numbers(self.rms)) < 0:
            raise ValueError(f"rms: {min(_numbers(self.rms)):g} must be at least 0")
        return self


AnyFamily = Annotated[
    Logistic
    | Calibration
    | Saturation
    | GainDrift
    | Stripes
    | Masked
    | Beam
    | Baryons
    | CorrelatedNoise,
    Field(discriminator="kind"),
]


class ShiftS8(Section):
    """The mean shift of S_8 = sigma_8 sqrt(Omega_m / 0.3), in clean standard deviations."""

    kind: Literal["shift_s8"]
    sign: Literal[-1, 1] = Field(1, description="+1: towards more S_8")


class Shift(Section):
    """The mean shift along a direction in parameter space, in clean standard deviations."""

    kind: Literal["shift"]
    direction: dict[Name, float] = Field(description="parameter -> component; others are 0")

    @model_validator(mode="after")
    def _somewhere(self) -> Shift:
        if not any(self.direction.values()):
            raise ValueError(f"direction = {self.direction} must have a component that is not 0")
        return self


class FractionMoved(Section):
    """The fraction of maps whose posterior mean moves by more than so many clean sigmas."""

    kind: Literal["fraction_moved"]
    sigmas: float = Field(2.0, gt=0, le=100)


def _goal_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


Goal = Annotated[
    Annotated[Literal["kl", "kl_symmetrised"], Tag("name")]
    | Annotated[ShiftS8, Tag("shift_s8")]
    | Annotated[Shift, Tag("shift")]
    | Annotated[FractionMoved, Tag("fraction_moved")],
    Discriminator(
        _goal_kind,
        custom_error_type="goal",
        custom_error_message=(
            "must be kl, kl_symmetrised, or a section of kind shift_s8, shift or fraction_moved"
        ),
    ),
]

LEAST = 1e-4  # a limit below it would drown in the rounding of float32


class Fences(Section):
    """Limits on what a systematic changes; none: no limit.

    Those called `mean_...` bound a change of the mean over the search's maps, where changes of
    opposite sign cancel, as it is; `mean_shift` and all others bound the change of single maps, by
    its upper bound of the search's `confidence`. Rounding in float32 moves a height by less than
    its tolerance, which stands in `spurious.search.fences`.
    """

    power: float | None = Field(
        None, ge=LEAST, lt=10, description="max over bins of the RMS over maps of dP/P, contrast"
    )
    cosmic: float | None = Field(
        None, ge=1e-3, le=100, description="the same in units of one map's cosmic variance"
    )
    chi2: float | None = Field(
        None, ge=LEAST, le=1e4, description="mean over maps of the sum of that squared"
    )
    raw_power: float | None = Field(
        None, ge=LEAST, lt=10, description="`power` of the counts, blind to a shift of the mean"
    )
    mean_shift: float | None = Field(
        None, ge=1e-5, lt=1, description="RMS over maps of the relative change of a map's mean"
    )
    rms: float | None = Field(None, ge=1e-3, le=1e4, description="RMS change of a pixel, counts")
    pdf: float | None = Field(
        None, ge=0.01, le=100, description="RMS over maps of d' of the PDF: AUROC Phi(d' / sqrt 2)"
    )
    scattering: float | None = Field(
        None, ge=0.01, le=100, description="the same of the scattering transform"
    )
    mean_power: float | None = Field(
        None, ge=LEAST, lt=1, description="max over bins of |dP/P| of the mean spectrum, contrast"
    )
    mean_cosmic: float | None = Field(
        None, ge=1e-3, le=100, description="the same in units of one map's cosmic variance"
    )
    mean_chi2: float | None = Field(
        None, ge=LEAST, le=1e4, description="sum over bins of that squared: no correlations"
    )
    mean_raw_power: float | None = Field(
        None, ge=LEAST, lt=1, description="`mean_power` of the counts, blind to a shift"
    )
    mean_density: float | None = Field(
        None, ge=1e-5, lt=1, description="|change of the mean density of all maps|, relative"
    )

    @property
    def limits(self) -> dict[str, float]:
        """Name -> limit of the fences that are there."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: limit for name, limit in given.items() if limit is not None}

    @model_validator(mode="after")
    def _some(self) -> Fences:
        if not self.limits:
            allowed = ", ".join(type(self).model_fields)
            raise ValueError(f"no fence: the search needs at least one of {allowed}")
        return self


class Heights(Section):
    """Heights of a fence at which the Pareto front is wanted; none: no front along that fence."""

    power: tuple[float, ...] = Field((), description="largest RMS of dP/P of the contrast")
    cosmic: tuple[float, ...] = Field((), description="in units of one map's cosmic variance")
    mean_shift: tuple[float, ...] = Field((), description="RMS relative change of a map's mean")
    mean_power: tuple[float, ...] = Field((), description="largest |dP/P| of the mean spectrum")
    mean_cosmic: tuple[float, ...] = Field((), description="in units of one map's cosmic variance")
    pdf: tuple[float, ...] = Field((), description="d' of the PDF")

    @model_validator(mode="after")
    def _increasing(self) -> Heights:
        for name in type(self).model_fields:
            heights = getattr(self, name)
            rising = all(one < other for one, other in pairwise(heights))
            if heights and (heights[0] < LEAST or not rising):
                raise ValueError(
                    f"{name}: {list(heights)} must increase, from {LEAST:g} at the least"
                )
        return self


class Search(Section):
    """One Optuna study a family, each with the same goal, fences and budget."""

    starts: int = Field(24, ge=1, description="proposals of a family, each refined by gradients")
    refine_steps: int = Field(12, ge=0, le=1000, description="evaluations a start, after its own")
    maps: int = Field(
        128, ge=2, description="test simulations in the objective; the rest confirm it"
    )
    goal: Goal = Field("kl", description="what is maximised")
    fences: Fences = Field(description="what must not change by more")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="with which each fence holds for maps not searched on"
    )
    families: dict[Name, AnyFamily] = Field(min_length=1, description="what is tried, by name")
    front: Heights = Field(Heights(), description="fence heights of the Pareto front")
