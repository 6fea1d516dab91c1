"""Systematics that know where in the field a pixel lies, the same for every map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from spurious import seeds
from spurious.description.marks import Doc, Held, Searched, Unless, Within
from spurious.description.quantities import Angle, Budget, Length
from spurious.lazy import tf
from spurious.perturbations.base import like
from spurious.perturbations.effect import Effect, require


@dataclass(frozen=True)
class GainDrift(Effect):
    """A gain that drifts across the field: x (1 + amplitude (cos t s(i) + sin t s(j))).

    s is one sine wave (or `order` of them) across the field, 0 at its middle and continuous at
    its periodic edge; i is the pixel's place along a map's first axis, j along its second, t the
    angle. The mean gain is exactly 1, its RMS deviation amplitude / sqrt(2) at any angle.
    """

    amplitude: Annotated[
        Any,
        Within(-0.5, 0.5),
        Searched(-0.5, 0.5),
        Doc("relative; the gain itself stays positive below 1 / sqrt(2)"),
    ]
    angle: Annotated[
        Any,
        Angle,
        Within(-360, 360),
        Searched(0.0, 180.0, why="half a turn and both signs are all directions"),
        Doc("of the drift, from a map's first axis towards its second"),
    ] = 0.0
    order: Annotated[
        int, Within(1, 8), Doc("waves across the field; below half the pixels of a side")
    ] = 1

    LIMITS: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order < 1 or self.order != int(self.order):
            raise ValueError(f"order = {self.order} must be a whole number of at least 1")

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`."""
        n = maps.shape[-1]
        place = (np.arange(n) + 0.5) / n - 0.5
        wave = like(np.sin(2 * np.pi * self.order * place), maps)
        angle = like(self.angle, maps) * like(np.pi / 180, maps)
        pattern = tf.cos(angle) * wave[:, None] + tf.sin(angle) * wave
        return maps * (like(self.amplitude, maps) * pattern)


@dataclass(frozen=True)
class Stripes(Effect):
    """Scan stripes: offsets left between bands of the field that were scanned one by one.

    The offsets are Gaussian and, over the field, of mean 0 and RMS `amplitude`; they belong to the
    instrument, so every map has the same. Not differentiable in anything but the amplitude.
    """

    amplitude: Annotated[Any, Budget, Searched(-10.0, 10.0), Doc("RMS of the offsets")]
    stripes: Annotated[
        int,
        Within(2, 4096),
        Unless(16),
        Doc("bands across the field; at most the pixels of a side"),
    ]
    axis: Annotated[
        Literal[0, 1],
        Unless(0),
        Doc("axis of a map along which a stripe runs; 0: it is a band of columns"),
    ]
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stripes < 2 or self.stripes != int(self.stripes):
            raise ValueError(f"stripes = {self.stripes} must be a whole number of at least 2")
        if self.axis not in (0, 1):
            raise ValueError(f"axis = {self.axis} must be 0 or 1")

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`.

        Raises:
            ValueError: there are more stripes than pixels.
        """
        n = maps.shape[-1]
        if self.stripes > n:
            raise ValueError(f"stripes = {self.stripes} must be at most the {n} pixels of a side")
        draw = seeds.generator(self.seed, "stripes").normal(size=self.stripes)
        offsets = draw[np.arange(n) * self.stripes // n]
        offsets = (offsets - offsets.mean()) / offsets.std()
        line = like(offsets, maps) * like(self.amplitude, maps)
        return tf.zeros_like(maps) + (line if self.axis == 0 else line[:, None])


@dataclass(frozen=True)
class Masked(Effect):
    """Holes in the map, around bright stars for example, filled in by interpolation.

    The holes are discs at random places that may overlap, periodic as the map and the same for all
    maps. A hole's pixels become means of the pixels outside the holes, weighted by a Gaussian of
    their distance with the standard deviation `radius` (normalised convolution; Knutsson & Westin
    1993, CVPR). Differentiable in the maps and in `blend`.
    """

    blend: Annotated[
        Any,
        Within(0, 1),
        Unless(1.0),
        Searched(0.0, 1.0),
        Doc("from 0, the map as it was, to 1, the holes filled in"),
    ]
    fraction: Annotated[float, Within(0, 0.5), Held(0.05), Doc("share of the pixels in holes")]
    radius: Annotated[
        float, Length, Within(0, 50), Held(2.0), Doc("of a hole, which has one pixel at least")
    ]
    box_size: float
    seed: int

    AMPLITUDE: ClassVar[str] = "blend"
    LIMITS: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0, 0.9, fraction=self.fraction)
        require(0, np.inf, radius=self.radius, box_size=self.box_size)

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`."""
        n = maps.shape[-1]
        radius = self.radius * n / self.box_size
        holes = like(_holes(n, radius, self.fraction, self.seed), maps)
        weights, kernel = _neighbours(n, radius, self.fraction, self.seed)
        mean = tf.reduce_mean(maps, axis=(-2, -1), keepdims=True)
        seen = tf.signal.rfft2d((maps - mean) * (1 - holes))
        kernel = tf.complex(like(kernel, maps), tf.zeros(kernel.shape, maps.dtype))
        filling = mean + tf.signal.irfft2d(seen * kernel, [n, n]) / like(weights, maps)
        return like(self.blend, maps) * holes * (filling - maps)


@lru_cache(maxsize=8)
def _holes(n: int, radius: float, fraction: float, seed: int) -> np.ndarray:
    """1.0 in holes, else 0.0, (n, n); `radius` in pixels. A larger fraction adds to a smaller."""
    generator = seeds.generator(seed, "masked")
    holes, wanted = np.zeros(n * n, bool), round(fraction * n * n)
    while (missing := wanted - holes.sum()) > 0:
        centre = generator.integers(n, size=2)
        rows, columns = (np.abs((np.arange(n) - c + n // 2) % n - n // 2) for c in centre)
        distance = np.hypot(rows[:, None], columns).ravel()
        new = np.flatnonzero((distance <= radius) & ~holes)
        holes[new[np.argsort(distance[new], kind="stable")][:missing]] = True
    return holes.reshape(n, n).astype(np.float64)


@lru_cache(maxsize=8)
def _neighbours(n: int, radius: float, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight of all that a pixel sees outside the holes, (n, n), and the Gaussian's transfer."""
    rows, columns = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)
    kernel = np.exp(-2 * (np.pi * max(radius, 1.0)) ** 2 * (rows**2 + columns**2))
    seen = np.fft.rfft2(1 - _holes(n, radius, fraction, seed)) * kernel
    # Deep in a hole many radii wide, nothing is seen: the mean of the map fills it.
    return np.maximum(np.fft.irfft2(seen, (n, n)), 1e-4), kernel
