"""The audit: budgets of the security curves, and what the checks ask for."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from spurious.description.quantities import Budget
from spurious.description.section import Section


def _increasing(values: tuple[float, ...], least: float) -> tuple[float, ...]:
    """Refuse budgets that make no curve."""
    ordered = all(a < b for a, b in pairwise(values))
    if len(values) < 2 or not ordered or values[0] < least:
        raise ValueError(f"{list(values)} must be at least two numbers that increase from {least}")
    return values


class Budgets(Section):
    """Sizes of changes, smallest first, in one unit."""

    values: tuple[float, ...] = Field(description="above 0, increasing, at least two")
    unit: Literal["std", "count"]

    @field_validator("values")
    @classmethod
    def _a_curve(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if values and values[0] == 0:
            raise ValueError(f"{values[0]} must be above 0: no budget does no damage")
        return _increasing(values, 0)

    def counts(self, std: float) -> list[float]:
        """The budgets in counts, for a data set whose pixels have standard deviation `std`."""
        return [Budget(value=value, unit=self.unit).counts(std) for value in self.values]


class Fractions(Section):
    """Changes of the power in every annulus of k, smallest first."""

    values: tuple[float, ...] = Field(description="at least 0, increasing, at least two")
    unit: Literal["cosmic_variance"]

    @field_validator("values")
    @classmethod
    def _a_curve(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return _increasing(values, 0)


class Thresholds(Section):
    """What a check asks for; docs/checks says why these."""

    sigmas: float = Field(2.0, gt=0, le=100, description="a shift of the mean that counts as moved")
    tolerance: float = Field(
        0.02, ge=0, lt=1, description="relative decline of a mean that is put down to rounding"
    )
    saturation: float = Field(
        0.1, gt=0, lt=1, description="relative gain of twice the steps, or of a long attack"
    )
    full: float = Field(0.99, gt=0, le=1, description="share of maps fooled at the largest budget")
    gradient_error: float = Field(0.05, gt=0, lt=1, description="of a finite difference, relative")
    gradient_maps: float = Field(0.9, gt=0, le=1, description="share of maps within that error")
    zero_pixels: float = Field(0.5, ge=0, lt=1, description="largest share of zeros in a gradient")
    spread: float = Field(0.1, gt=0, le=2, description="relative spread over random starts")
    cosmic: float = Field(
        0.02, ge=0, description="excess over a fraction of the cosmic variance, in its units"
    )
    planted: float = Field(0.9, gt=0, le=1, description="share of the planted damage to be found")
    planted_maps: float = Field(0.9, gt=0, le=1, description="share of maps in which it must be")


class Audit(Section):
    """Damage against budget, and checks that tell when not to believe it."""

    maps: int = Field(48, ge=4, description="test maps attacked, drawn once")
    steps: int = Field(20, ge=2, le=10_000, description="of the strongest attack; BIM has ten")
    constrained_steps: int = Field(
        40, ge=2, le=10_000, description="the same where the power spectrum is limited too"
    )
    restarts: int = Field(1, ge=1, le=100, description="its random starts; the best is kept")
    linf: Budgets = Budgets(values=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0), unit="std")
    l2: Budgets = Budgets(values=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3), unit="std")
    cosmic: Fractions = Fractions(values=(0.0, 0.01, 0.03, 0.1, 0.3, 1.0), unit="cosmic_variance")
    cosmic_rms: Budget = Field(
        Budget(value=0.05, unit="std"), description="largest RMS change beside those fractions"
    )
    epsilon: Budget = Field(
        Budget(value=0.1, unit="std"),
        description="largest change of a pixel in checks at one budget: the paper's ten steps",
    )
    fraction: float = Field(
        0.1, ge=0, le=100, description="of the cosmic variance, in checks of `bounded`"
    )
    starts: int = Field(3, ge=2, le=100, description="random starts that must agree")
    reference_maps: int = Field(8, ge=1, description="maps of which a long attack is made")
    reference_steps: int = Field(200, ge=2, le=10_000, description="of that long attack")
    transfer: int = Field(2, ge=0, description="other posteriors whose attacks are transferred")
    thresholds: Thresholds = Thresholds()
