"""The search: what it maximises, what it keeps within, and the families of systematics it tries."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from spurious.description.families import AnyFamily
from spurious.description.names import Name
from spurious.description.section import Section


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
