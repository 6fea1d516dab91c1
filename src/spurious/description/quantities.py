"""Quantities: numbers that params.yaml writes with their unit."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from spurious.description.section import Section


class Quantity(Section):
    """A number with its unit; beside a field's type, it says how params.yaml writes the field."""

    def number(self, std: float) -> Any:
        """What a class gets: the number in its own unit, the last of those allowed.

        Args:
            std: standard deviation of all training pixels, counts, for quantities in that unit.
        """
        return getattr(self, "value")  # noqa: B009, each quantity declares its own

    @classmethod
    def units(cls) -> tuple[str, ...]:
        """The units in which it may be written; the last is that of `number`."""
        return get_args(cls.model_fields["unit"].annotation)


class Length(Quantity):
    """A comoving length."""

    value: float = Field(gt=0)
    unit: Literal["Mpc/h"]


class Density(Quantity):
    """A density, or a change of one."""

    value: float
    unit: Literal["count"]


class InverseDensity(Quantity):
    """A slope in density."""

    value: float
    unit: Literal["1/count"]


class Angle(Quantity):
    """A direction."""

    value: float
    unit: Literal["deg"]


class Budget(Quantity):
    """Size of a change of a map: in standard deviations of all training pixels, or in counts."""

    value: float = Field(ge=0)
    unit: Literal["std", "count"]

    def counts(self, std: float) -> float:
        """The budget in counts, for a data set whose pixels have standard deviation `std`."""
        return self.value * std if self.unit == "std" else self.value

    def number(self, std: float) -> float:
        """See `Quantity`: counts."""
        return self.counts(std)


class NoiseBudget(Quantity):
    """Size of a change of a simulation's white noise: |n' - n| / |n|."""

    value: float = Field(ge=0, le=1)
    unit: Literal["noise_norm"]


class Densities(Quantity):
    """Densities that increase from 0."""

    values: tuple[float, ...] = Field(min_length=2)
    unit: Literal["count"]

    @model_validator(mode="after")
    def _increasing(self) -> Densities:
        steps = zip(self.values, self.values[1:], strict=False)
        if self.values[0] != 0 or not all(one < other for one, other in steps):
            raise ValueError(f"values = {list(self.values)} must increase from 0")
        return self

    def number(self, std: float) -> tuple[float, ...]:
        """See `Quantity`: counts."""
        return self.values


class Wavenumbers(Quantity):
    """A range of |k|."""

    low: float = Field(ge=0)
    high: float
    unit: Literal["h/Mpc"]

    @model_validator(mode="after")
    def _ordered(self) -> Wavenumbers:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be less than high = {self.high}")
        return self

    def number(self, std: float) -> tuple[float, float]:
        """See `Quantity`: low and high."""
        return self.low, self.high


class Range(Section):
    """A closed interval."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be less than high = {self.high}")
        return self


MAX_AXIS = 1000  # values; the paper's grid has 11 an axis


class Axis(Section):
    """Equally spaced values from start to stop, both included; at most `MAX_AXIS` of them."""

    start: float
    stop: float
    step: float = Field(gt=0)

    @model_validator(mode="after")
    def _whole_steps(self) -> Axis:
        steps = (self.stop - self.start) / self.step
        if not steps < MAX_AXIS:
            raise ValueError(
                f"step = {self.step} from {self.start} to {self.stop} makes {steps + 1:.3g} "
                f"values, at most {MAX_AXIS} are allowed"
            )
        if steps < 0 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"stop = {self.stop} is not start = {self.start} "
                f"plus a whole number of steps of {self.step}"
            )
        return self

    def values(self) -> list[float]:
        """The values, rounded to twelve decimals, so that 0.15000000000000002 is 0.15."""
        count = round((self.stop - self.start) / self.step) + 1
        return [round(self.start + i * self.step, 12) for i in range(count)]
