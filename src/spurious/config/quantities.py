"""A section of params.yaml, and the quantities that sections are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from spurious.config.names import LONGEST, shown

UNKNOWN_KEY = "unknown_key"  # the type of our own validation error


class Section(BaseModel):
    """One section of params.yaml: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, revalidate_instances="never"
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        """Refuse the first unknown key and say which there are."""
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                context = {
                    "key": str(key)[:LONGEST],
                    "value": shown(values[key]),
                    "allowed": ", ".join(cls.model_fields),
                }
                raise PydanticCustomError(
                    UNKNOWN_KEY, "{key} = {value}: unknown key, must be one of {allowed}", context
                )
        return values


class Length(Section):
    """A comoving length."""

    value: float = Field(gt=0)
    unit: Literal["Mpc/h"]


class Density(Section):
    """A change of density."""

    value: float
    unit: Literal["count"]


class InverseDensity(Section):
    """A slope in density."""

    value: float
    unit: Literal["1/count"]


class Budget(Section):
    """Size of a change of a map: in standard deviations of all training pixels, or in counts."""

    value: float = Field(ge=0)
    unit: Literal["std", "count"]

    def counts(self, std: float) -> float:
        """The budget in counts, for a data set whose pixels have standard deviation `std`."""
        return self.value * std if self.unit == "std" else self.value


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


def parts(section: Section) -> Iterator[Section]:
    """A section and all sections within it."""
    yield section
    for name in type(section).model_fields:
        if isinstance(inner := getattr(section, name), Section):
            yield from parts(inner)
