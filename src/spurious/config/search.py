"""The search and its bounds."""

from __future__ import annotations

from pydantic import Field, field_validator

from spurious.config.quantities import Range, Section


class Bounds(Section):
    """Where the search looks for a logistic systematic."""

    a: Range = Field(description="1/count; searched in its logarithm")
    transition: Range = Field(description="-b/a in counts, where it switches; in its logarithm")
    beta: Range = Field(description="counts; searched in asinh(beta), both signs")

    @field_validator("a", "transition")
    @classmethod
    def _positive(cls, searched_in_logarithm: Range) -> Range:
        if searched_in_logarithm.low <= 0:
            raise ValueError(f"low = {searched_in_logarithm.low} must be greater than 0")
        return searched_in_logarithm


class Search(Section):
    """The Optuna study over (a, b, beta)."""

    starts: int = Field(24, ge=1, description="proposals, each refined by gradients")
    refine_steps: int = Field(12, ge=0, le=1000, description="SLSQP iterations a start")
    maps: int = Field(
        128, ge=2, description="test simulations in the objective; the rest confirm it"
    )
    max_power_change: float = Field(
        0.05, gt=0, lt=1, description="fence: max over bins of |dP/P| of the contrast"
    )
    bounds: Bounds
