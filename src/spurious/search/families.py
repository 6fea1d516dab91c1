"""Families of systematics: points of a cube [0, 1]^d stand for systematics of one kind.

A coordinate of the cube maps linearly to a parameter, to its logarithm where it spans decades, or
to its asinh where it also has a sign. Which parameters are searched, where and how is what the
class of the systematic says of its fields (`spurious.description.marks.Searched`). One may be
searched in place of the class's own: the logistic moves in (a, transition, beta) with transition =
-b / a, the density at which it switches, and is reported as the paper's (a, b, beta).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf

from spurious import config
from spurious.description import family as cfg
from spurious.description.fields import filled
from spurious.description.marks import Scale
from spurious.perturbations.effect import Effect

AT_BOUND = 1e-3  # of the cube's side: what ends that near to a bound was stopped by it


class Coordinate(NamedTuple):
    """One parameter that is free; `low` and `high` are values of the parameter itself.

    Attributes:
        name: of the parameter.
        low: its value where the cube's coordinate is 0.
        high: its value where the cube's coordinate is 1.
        scale: the function of the parameter that is linear in the cube's coordinate.
        unit: of the parameter; empty if it has none.
        vector: the argument of the class whose element it is, if it is one.
    """

    name: str
    low: float
    high: float
    scale: Scale
    unit: str
    vector: str = ""

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


@dataclass(frozen=True)
class Family:
    """Systematics of one kind as points (d,) of a cube.

    Attributes:
        name: of the family.
        kind: class of the systematics.
        coordinates: the d parameters that are free; those of a vector have the same `vector`.
        fixed: the other parameters.
    """

    name: str
    kind: type[Effect]
    coordinates: tuple[Coordinate, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> tuple[dict[str, float], ...]:
        """Parameters to try first."""
        return self.kind.KNOWN

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

    def of(self, values: Mapping[str, Any]) -> Effect:
        """The systematic with these values, numbers or tensors, of the coordinates."""
        given = dict(self.fixed)
        for one in self.coordinates:
            if not one.vector:
                given[one.name] = values[one.name]
            elif one.vector not in given:
                given[one.vector] = self._vector(one.vector, values)
        return cast(Any, self.kind)(**self.kind.from_search(given))

    def _vector(self, name: str, values: Mapping[str, Any]) -> Any:
        elements = [values[one.name] for one in self.coordinates if one.vector == name]
        return tf.stack(elements) if tf.is_tensor(elements[0]) else tuple(elements)

    def coordinate_values(self, point: Any) -> dict[str, float]:
        """The value of each coordinate's parameter at a point."""
        pairs = zip(self.coordinates, np.asarray(point, np.float64), strict=True)
        return {one.name: float(one.at(float(place))) for one, place in pairs}

    def from_coordinates(self, values: Mapping[str, float]) -> np.ndarray:
        """The point (d,) with these values of the coordinates; may lie outside the cube."""
        return np.array([one.place(values[one.name]) for one in self.coordinates])

    def parameters(self, point: Any) -> dict[str, float]:
        """The class's own parameters as they are reported: without those that are fixed."""
        values = self.kind.from_search({**self.fixed, **self.coordinate_values(point)})
        return {name: value for name, value in values.items() if name not in self.fixed}

    def point(self, parameters: Mapping[str, float]) -> np.ndarray:
        """The inverse of `parameters`; may lie outside the cube."""
        values = self.kind.to_search({**self.fixed, **parameters})
        return self.from_coordinates(values)

    @property
    def widths(self) -> np.ndarray:
        """How far each coordinate goes in its own scale, (d,).

        A gradient by the cube's coordinates, divided by it, is by the parameters in their scales.
        """
        return np.array([high - low for low, high in (one.ends for one in self.coordinates)])


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
    kind, fixed = cast(type[Effect], settings.CLASS), settings.fixed()
    filling = {"box_size": box_size, "seed": seed}
    fixed |= {key: filling[key] for key in filled(kind)}
    coordinates: list[Coordinate] = []
    for one in settings.MOVED:
        if one.key in settings.free:
            coordinates += _coordinates(one, settings.free[one.key], fixed)
    return Family(name, kind, tuple(coordinates), fixed)


def _coordinates(one: cfg.Moved, free: cfg.Bounds, fixed: Mapping[str, Any]) -> list[Coordinate]:
    """Those of a parameter: one, or of a vector one for each element."""
    searched = one.field.searched
    if searched is None or searched.elements is None:
        return [Coordinate(one.key, free.low, free.high, one.scale, one.unit)]
    return [
        Coordinate(f"{searched.name}_{i + 1}", free.low, free.high, one.scale, one.unit, one.key)
        for i in range(searched.elements(fixed))
    ]
