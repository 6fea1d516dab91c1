"""Systematics of the response: one function of the density, the same for every map and pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from spurious.description.marks import Doc, Held, Searched, Unless, Within
from spurious.description.quantities import Densities, Density, InverseDensity
from spurious.lazy import tf
from spurious.perturbations.base import like
from spurious.perturbations.effect import Effect, require

EMPTY = 1e-6  # a density that counts as none, where a logarithm is taken; counts


@dataclass(frozen=True)
class Logistic(Effect):
    """The paper's systematic (Eq. 3): x + beta / (1 + exp(a x + b)).

    For a > 0 it adds `beta` counts to pixels well below the density -b / a and leaves those well
    above alone, over a transition of width about 1 / a; the paper's is (0.25, -15, 3). A negative
    `beta` takes counts away, never below zero. Differentiable in the maps and in the parameters,
    which may be numbers or scalar tensors.

    A search moves the density -b / a at which it switches in place of b, so that the switch does
    not move when the slope changes.
    """

    a: Annotated[
        Any,
        InverseDensity,
        Searched(0.01, 2.0, "log", why="1/a: from more than the mean density to half a particle"),
        Doc("slope; 1/a is the width of the switch"),
    ]
    b: Annotated[
        Any,
        Searched(
            5.0,
            400.0,
            "log",
            name="transition",
            unit="count",
            why="-b/a: from below the emptiest pixel to where one in a thousand lies above",
        ),
        Doc("offset"),
    ]
    beta: Annotated[
        Any,
        Density,
        Searched(-30.0, 30.0, "asinh", why="half the mean density, ten times the paper's"),
        Doc("what is added below the transition"),
    ]

    AMPLITUDE: ClassVar[str] = "beta"
    POINTWISE: ClassVar[bool] = True
    KNOWN: ClassVar[tuple[dict[str, float], ...]] = ({"a": 0.25, "b": -15.0, "beta": 3.0},)

    def __post_init__(self) -> None:
        """Any number is a possible amplitude here; the paper's formula has no limits."""

    @classmethod
    def from_search(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """See `Effect`: b of the transition."""
        a, beta = values["a"], values["beta"]
        return {"a": a, "b": -a * values["transition"], "beta": beta}

    @classmethod
    def to_search(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """See `Effect`: the transition of b."""
        a, beta = values["a"], values["beta"]
        return {"a": a, "transition": -values["b"] / a, "beta": beta}

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """Eq. 3 less the map, where a negative `beta` can lead to negative densities."""
        a, b, beta = (like(value, maps) for value in (self.a, self.b, self.beta))
        return beta * tf.sigmoid(-(a * maps + b))


@dataclass(frozen=True)
class Saturation(Effect):
    """A detector that saturates: x -> x (1 + (x / threshold)^p)^(-strength / p), p the sharpness.

    Well below the threshold nothing happens; well above, the recorded density grows as
    x^(1 - strength). The logarithmic slope d ln y / d ln x = 1 - strength u / (1 + u) with
    u = (x / threshold)^p is never negative: the order of densities is kept.
    """

    strength: Annotated[
        Any,
        Within(0, 1),
        Searched(
            0.001, 1.0, "log", why="from half a per cent of the brightest pixel to a full detector"
        ),
        Doc("slope lost well above the threshold; at 1 nothing more is recorded"),
    ]
    threshold: Annotated[
        Any,
        Density,
        Within(1, 1e5),
        Searched(10.0, 2000.0, "log", why="from below the emptiest pixel to the brightest"),
        Doc("density at which it sets in"),
    ]
    sharpness: Annotated[
        Any,
        Within(0.5, 20),
        Searched(0.5, 20.0, "log", why="from a bend over two decades of density to an edge"),
        Doc("p; the transition spans about a factor exp(4 / p) in density"),
    ] = 4.0

    AMPLITUDE: ClassVar[str] = "strength"
    LIMITS: ClassVar[tuple[float, float]] = (0.0, 1.0)
    POINTWISE: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(EMPTY, np.inf, threshold=self.threshold, sharpness=self.sharpness)

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`."""
        values = (self.strength, self.threshold, self.sharpness)
        strength, threshold, sharpness = (like(value, maps) for value in values)
        log_ratio = tf.math.log(tf.maximum(maps, like(EMPTY, maps)) / threshold)
        log_loss = strength / sharpness * tf.math.softplus(sharpness * log_ratio)
        return maps * tf.math.expm1(-log_loss)


@dataclass(frozen=True)
class Calibration(Effect):
    """An error of the calibration curve: a smooth, monotone spline in density through few knots.

    The curve is the rational-quadratic spline of Gregory & Delbourgo (1982, IMA J. Numer. Anal. 2,
    123): continuous with its first derivative, and monotone whatever the slopes, because they are
    given by their logarithms. Its slope at a knot is the geometric mean of the mean slopes on
    either side; beyond the last knot it goes on straight. Zero density stays zero.
    """

    amplitude: Annotated[
        Any,
        Within(-5, 5),
        Unless(1.0),
        Held(1.0),  # it only scales the slopes
        Doc("factor on all log_slopes; 0 is the perfect calibration"),
    ]
    knots: Annotated[
        tuple[float, ...],
        Densities,
        Held((0.0, 10.0, 25.0, 50.0, 75.0, 125.0, 250.0, 500.0)),
        Doc("where the curve bends, from 0 on; straight beyond the last"),
    ]
    log_slopes: Annotated[
        tuple[Annotated[float, Within(-1, 1)], ...],
        Searched(
            -1.0,
            1.0,
            name="log_slope",
            why="what is plausible at most; 0.3 is a slope off by a third",
            elements=lambda given: len(given["knots"]) - 1,
        ),
        Doc("ln of the mean slope between neighbouring knots"),
    ]

    POINTWISE: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.consistent(vars(self))

    @staticmethod
    def consistent(given: Mapping[str, Any]) -> None:
        """Refuse knots that do not increase from 0, and slopes that do not fit between them."""
        knots, slopes = given["knots"], given.get("log_slopes")
        if len(knots) < 2 or knots[0] != 0 or not np.all(np.diff(knots) > 0):
            raise ValueError(f"knots = {list(knots)} must increase from 0")
        # `len` does not work for a graph's tensor
        if slopes is not None and (count := int(np.shape(slopes)[0])) != len(knots) - 1:
            raise ValueError(
                f"log_slopes: {count} given, one fewer than the {len(knots)} knots are needed"
            )

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`; every term holds a slope minus 1, so that a straight curve adds exactly 0.

        With the place t in an interval of width w from 0 to 1, the mean slope s and the slopes
        d0 and d1 at its ends, the spline minus the density is
        w t [s ((s - 1) t + (d0 - 1)(1 - t)) - c t (1 - t)] / [s + c t (1 - t)],
        c = d0 + d1 - 2 s, on top of the change at the interval's beginning.
        """
        knots, width = like(self.knots, maps), like(np.diff(self.knots), maps)
        log_slope = like(self.amplitude, maps) * like(self.log_slopes, maps)
        middle = (log_slope[1:] + log_slope[:-1]) / 2
        ends = tf.math.expm1(tf.concat([log_slope[:1], middle, log_slope[-1:]], axis=0))
        mean = tf.math.expm1(log_slope)
        start = tf.cumsum(width * mean, exclusive=True)

        interval = self._intervals(maps)
        w, s, d0, d1 = (tf.gather(v, interval) for v in (width, mean, ends[:-1], ends[1:]))
        place = tf.clip_by_value((maps - tf.gather(knots, interval)) / w, 0, 1)
        both = place * (1 - place)
        bend = (d0 + d1 - 2 * s) * both
        above = (1 + s) * (s * place + d0 * (1 - place)) - bend
        within = w * place * above / (1 + s + bend)
        beyond = tf.maximum(maps - knots[-1], 0) * ends[-1]
        return tf.gather(start, interval) + within + beyond

    def _intervals(self, maps: tf.Tensor) -> tf.Tensor:
        """Number of the interval between knots in which each pixel's density lies."""
        inner = like(self.knots[1:-1], maps)
        found = tf.searchsorted(inner, tf.reshape(maps, [-1]), side="right")
        return tf.reshape(found, tf.shape(maps))
