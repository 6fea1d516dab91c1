"""Families of systematics: points of a cube [0, 1]^d stand for systematics of one kind.

A coordinate of the cube maps linearly to a parameter, to its logarithm where it spans decades, or
to its asinh where it also has a sign. The logistic has the coordinates (log a, log transition,
asinh beta) with transition = -b / a, the density at which it switches, so that the switch does not
move when the slope changes; it is reported as the paper's (a, b, beta).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from spurious import config
from spurious.config import search as cfg
from spurious.config import systematics as entries
from spurious.perturbations.effect import Effect
from spurious.perturbations.systematics import (
    Baryons,
    Beam,
    Calibration,
    CorrelatedNoise,
    GainDrift,
    Logistic,
    Masked,
    Saturation,
    Stripes,
)

PAPER = {"a": 0.25, "b": -15.0, "beta": 3.0}
EFFECTS: dict[str, type[Effect]] = {
    "baryons": Baryons,
    "beam": Beam,
    "calibration": Calibration,
    "correlated_noise": CorrelatedNoise,
    "gain_drift": GainDrift,
    "masked": Masked,
    "saturation": Saturation,
    "stripes": Stripes,
}
UNITS = {"rms": "count", "radius": "Mpc/h"}
SIGNED = ("threshold", "beta")  # of many sizes and perhaps 0 or below: searched in their asinh
AT_BOUND = 1e-3  # of the cube's side: what ends that near to a bound was stopped by it

Scale = Literal["linear", "log", "asinh"]


class Coordinate(NamedTuple):
    """One parameter that is free; `low` and `high` are values of the parameter itself.

    Attributes:
        name: of the parameter.
        low: its value where the cube's coordinate is 0.
        high: its value where the cube's coordinate is 1.
        scale: the function of the parameter that is linear in the cube's coordinate.
        unit: of the parameter; empty if it has none.
    """

    name: str
    low: float
    high: float
    scale: Scale
    unit: str

    @property
    def ends(self) -> tuple[float, float]:
        """`scale` of `low` and of `high`."""
        return self.scaled(self.low), self.scaled(self.high)

    def scaled(self, value: float) -> float:
        """`scale` of a value."""
        if self.scale == "linear":
            return float(value)
        return float(np.log(value) if self.scale == "log" else np.arcsinh(value))

    def at(self, place: Any) -> Any:
        """The parameter where the cube's coordinate is `place`: a tensor gives a tensor."""
        low, high = self.ends
        return self.unscaled(low + place * (high - low))

    def unscaled(self, scaled: Any) -> Any:
        """The inverse of `scaled`: a tensor gives a tensor."""
        if self.scale == "linear":
            return scaled
        if tf.is_tensor(scaled):
            return tf.exp(scaled) if self.scale == "log" else tf.sinh(scaled)
        return float(np.exp(scaled) if self.scale == "log" else np.sinh(scaled))

    def place(self, value: float) -> float:
        """The inverse of `at`; outside [0, 1] if the value is out of bounds."""
        low, high = self.ends
        return (self.scaled(value) - low) / (high - low)


class Family(ABC):
    """Systematics of one kind as points (d,) of a cube.

    Attributes:
        name: of the family.
        coordinates: the d parameters that are free.
        known: parameters to try first.
    """

    name: str
    coordinates: tuple[Coordinate, ...]
    known: tuple[dict[str, float], ...] = ()

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.coordinates)

    def effect(self, point: Any) -> Effect:
        """The systematic at a point; a tensor gives one that is differentiable in the point."""
        places = tf.unstack(point) if tf.is_tensor(point) else [float(x) for x in point]
        pairs = zip(self.coordinates, places, strict=True)
        return self.of({one.name: one.at(place) for one, place in pairs})

    def scaled(self, point: Any) -> np.ndarray:
        """The coordinates at a point, each in its own scale, (d,)."""
        lows = np.array([one.ends[0] for one in self.coordinates])
        return lows + np.asarray(point, np.float64) * self.widths

    def scaled_effect(self, scaled: tf.Tensor) -> Effect:
        """The systematic at scaled coordinates (d,), whatever their bounds."""
        pairs = zip(self.coordinates, tf.unstack(scaled), strict=True)
        return self.of({one.name: one.unscaled(value) for one, value in pairs})

    def at_bound(self, point: Any) -> list[str]:
        """Names of the coordinates that lie on an end of their range: wider ones may give more."""
        places = np.asarray(point, np.float64)
        ends = (places <= AT_BOUND) | (places >= 1 - AT_BOUND)
        return [one.name for one, end in zip(self.coordinates, ends, strict=True) if end]

    @abstractmethod
    def of(self, values: Mapping[str, Any]) -> Effect:
        """The systematic with these values, numbers or tensors, of the coordinates."""

    def coordinate_values(self, point: Any) -> dict[str, float]:
        """The value of each coordinate's parameter at a point."""
        pairs = zip(self.coordinates, np.asarray(point, np.float64), strict=True)
        return {one.name: float(one.at(float(place))) for one, place in pairs}

    def from_coordinates(self, values: Mapping[str, float]) -> np.ndarray:
        """The point (d,) with these values of the coordinates; may lie outside the cube."""
        return np.array([one.place(values[one.name]) for one in self.coordinates])

    def parameters(self, point: Any) -> dict[str, float]:
        """The parameters as they are reported; by default the coordinates' values."""
        return self.coordinate_values(point)

    def point(self, parameters: Mapping[str, float]) -> np.ndarray:
        """The inverse of `parameters`; may lie outside the cube."""
        return self.from_coordinates(parameters)

    @property
    def widths(self) -> np.ndarray:
        """How far each coordinate goes in its own scale, (d,).

        A gradient by the cube's coordinates, divided by it, is by the parameters in their scales.
        """
        return np.array([high - low for low, high in (one.ends for one in self.coordinates)])


class LogisticFamily(Family):
    """The paper's systematic; reported as (a, b, beta), searched in (a, transition, beta)."""

    def __init__(self, name: str, settings: cfg.Logistic) -> None:
        self.name = name
        bounds = settings.free
        self.coordinates = (
            Coordinate("a", bounds["a"].low, bounds["a"].high, "log", "1/count"),
            Coordinate(
                "transition", bounds["transition"].low, bounds["transition"].high, "log", "count"
            ),
            Coordinate("beta", bounds["beta"].low, bounds["beta"].high, "asinh", "count"),
        )
        self.known = (PAPER,)

    def of(self, values: Mapping[str, Any]) -> Logistic:
        """See `Family`."""
        return Logistic(values["a"], -values["a"] * values["transition"], values["beta"])

    def parameters(self, point: Any) -> dict[str, float]:
        """The paper's a, b and beta."""
        values = self.coordinate_values(point)
        return {
            "a": values["a"],
            "b": -values["a"] * values["transition"],
            "beta": values["beta"],
        }

    def point(self, parameters: Mapping[str, float]) -> np.ndarray:
        """See `Family`."""
        a, b, beta = (parameters[name] for name in ("a", "b", "beta"))
        return self.from_coordinates({"a": a, "transition": -b / a, "beta": beta})


@dataclass(frozen=True)
class EffectFamily(Family):
    """Any other `Effect`, with some parameters free and the others fixed.

    Args:
        name: of the family.
        kind: class of the systematics.
        coordinates: free parameters; those of a vector are called `<name>_1`, `<name>_2` and so on.
        fixed: the other arguments of the class.
        vector: name of the argument that is made of several coordinates, if there is one.
    """

    name: str
    kind: type[Effect]
    coordinates: tuple[Coordinate, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    vector: str | None = None
    known: tuple[dict[str, float], ...] = ()

    def of(self, values: Mapping[str, Any]) -> Effect:
        """See `Family`."""
        if self.vector is None:
            return self.kind(**values, **self.fixed)
        elements = [values[one.name] for one in self.coordinates]
        vector = tf.stack(elements) if tf.is_tensor(elements[0]) else tuple(elements)
        return self.kind(**{self.vector: vector}, **self.fixed)


def build_families(
    settings: config.Search, box_size: float = 128.0, seed: int = 0
) -> dict[str, Family]:
    """Every family of `search.families`, by name.

    Args:
        settings: the section `search`.
        box_size: side of a map, Mpc/h.
        seed: root of what is drawn once: noise, stripes, holes.
    """
    return {
        name: build_family(name, family, box_size, seed)
        for name, family in settings.families.items()
    }


def build_family(name: str, settings: cfg.Family, box_size: float, seed: int) -> Family:
    """One family; arguments as of `build_families`."""
    if isinstance(settings, cfg.Logistic):
        return LogisticFamily(name, settings)
    given = {key: getattr(settings, key) for key in type(settings).model_fields}
    kind = EFFECTS[given.pop("kind")]
    surroundings = {"box_size": box_size, "seed": seed}
    given |= {key: value for key, value in surroundings.items() if key in kind.__annotations__}
    fixed = {key: value for key, value in given.items() if key not in settings.free}
    if isinstance(settings, cfg.Calibration):
        slopes = _numbered("log_slope", settings.log_slopes, len(settings.knots) - 1)
        return EffectFamily(name, kind, slopes, fixed, "log_slopes")
    free = (_coordinate(settings, key, bounds) for key, bounds in settings.free.items())
    return EffectFamily(name, kind, tuple(free), fixed)


def _coordinate(settings: cfg.Family, name: str, bounds: cfg.Bounds) -> Coordinate:
    scale: Scale = "asinh" if name in SIGNED else "linear"
    if name in settings.LOGARITHMIC:
        scale = "log"
    unit = _unit(settings, name)
    return Coordinate(name, bounds.low, bounds.high, scale, unit)


def _unit(settings: cfg.Family, name: str) -> str:
    plausible = entries.ranges(settings.ENTRY) if settings.ENTRY else {}
    return plausible[name][2] if name in plausible else UNITS.get(name, "")


def _numbered(name: str, bounds: cfg.Bounds, count: int) -> tuple[Coordinate, ...]:
    numbers: Sequence[int] = range(1, count + 1)
    return tuple(Coordinate(f"{name}_{i}", bounds.low, bounds.high, "linear", "") for i in numbers)
