"""Constraints on the power spectrum: what may change in Fourier space.

Each is a projection: the nearest map (in the sum of squared changes) that satisfies it. All keep
k = 0, a map's mean density, so that they bind the raw spectrum and the contrast's alike; and all
count the modes in the corners beyond the Nyquist frequency, which `spectra` leaves out, as annuli
of their own, because an attack would hide there.

Each alone holds to float32 rounding. With a ball or with densities near zero they conflict, and
an attack satisfies those two exactly and these nearly (`constraints.satisfy`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated

import numpy as np

from spurious.description.marks import Doc, Within
from spurious.description.quantities import Wavenumbers
from spurious.lazy import tf
from spurious.perturbations.base import like
from spurious.spectra import cosmic_variance


@dataclass(frozen=True)
class PhaseOnly:
    """Every Fourier mode keeps its amplitude; phases are free."""

    def __call__(self, maps: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """See `Constraint`."""
        before, after = _fourier(clean), _fourier(maps)
        return _replaced(maps, before, after, _scaled(before, after, tf.abs(before), tf.abs(after)))


@dataclass(frozen=True)
class BinPreserving:
    """Every annulus of k keeps its power; power may move between its modes."""

    def __call__(self, maps: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """See `Constraint`."""
        return Bounded(0.0)(maps, clean)


@dataclass(frozen=True)
class Bounded:
    """|dP / P| of every annulus stays within a fraction of one map's cosmic variance.

    P is the clean map's own power, its cosmic variance sqrt(2 / n_modes). A float64 variable of
    TensorFlow as fraction lets one trace of an attack serve all its values.
    """

    fraction: Annotated[float, Within(0, 100), Doc("of the cosmic variance")]

    def __post_init__(self) -> None:
        if not self.fraction >= 0:
            raise ValueError(f"fraction = {self.fraction} must be at least 0")

    def __call__(self, maps: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """See `Constraint`."""
        before, after = _fourier(clean), _fourier(maps)
        n = clean.shape[-1]
        clean_power, power = _annulus_power(before, n), _annulus_power(after, n)
        slack = like(self.fraction * cosmic_variance(_n_modes(n)), power)
        low, high = clean_power * tf.maximum(1 - slack, 0), clean_power * (1 + slack)
        wanted = _at_modes(tf.clip_by_value(power, low, high), n)
        scaled = _scaled(before, after, tf.sqrt(wanted), tf.sqrt(_at_modes(power, n)))
        return _replaced(maps, before, after, scaled)


@dataclass(frozen=True)
class BandLimited:
    """Only modes with low <= |k| <= high may change."""

    k: Annotated[tuple[float, float], Wavenumbers, Doc("low and high; k = 0 never changes")]
    box_size: float

    def __post_init__(self) -> None:
        low, high = self.k
        if not 0 <= low < high:
            raise ValueError(f"low = {low} must be at least 0 and below high = {high}")

    def __call__(self, maps: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """See `Constraint`."""
        before, after = _fourier(clean), _fourier(maps)
        k = _modes(clean.shape[-1])[0] * 2 * np.pi / self.box_size
        free = (k >= self.k[0]) & (k <= self.k[1])
        return _replaced(maps, before, after, tf.where(free, after, before))


def _fourier(maps: tf.Tensor) -> tf.Tensor:
    """Modes of the half plane; an array is made a tensor first, or rfft2d would round it."""
    return tf.signal.rfft2d(tf.convert_to_tensor(maps))


def _scaled(before: tf.Tensor, after: tf.Tensor, wanted: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
    """`after` times wanted / found; the clean modes where nothing is left to scale."""
    factor = tf.cast(tf.math.divide_no_nan(wanted, found), after.dtype)
    return tf.where(found > 0, after * factor, before)


def _replaced(maps: tf.Tensor, before: tf.Tensor, after: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
    """Maps with the modes `after` replaced by `wanted`, and the mean by the clean one.

    Only the difference is transformed back, so that maps with nothing to correct stay bit by bit.
    """
    n = maps.shape[-1]
    mean = _modes(n)[0] == 0
    correction = tf.where(mean, before, wanted) - after
    return maps + tf.signal.irfft2d(correction, [n, n])


def _annulus_power(modes: tf.Tensor, n: int) -> tf.Tensor:
    """Sum of |mode|^2 over each annulus of the full plane, (batch, annuli)."""
    _, annulus, weight = _modes(n)
    squared = tf.math.real(modes) ** 2 + tf.math.imag(modes) ** 2
    flat = tf.reshape(squared * tf.constant(weight, squared.dtype), (-1, annulus.size))
    count = len(_n_modes(n))
    return tf.transpose(tf.math.unsorted_segment_sum(tf.transpose(flat), annulus.ravel(), count))


def _at_modes(power: tf.Tensor, n: int) -> tf.Tensor:
    """The value of each mode's annulus: (batch, annuli) -> (batch, N, N // 2 + 1)."""
    return tf.gather(power, _modes(n)[1], axis=1)


def _n_modes(n: int) -> np.ndarray:
    """Modes of each annulus over the full plane, k = 0 first."""
    _, annulus, weight = _modes(n)
    return np.bincount(annulus.ravel(), weight.ravel())


@lru_cache(maxsize=8)
def _modes(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each mode of `rfft2d`: |k| / k_F, annulus (the nearest whole), modes of the full plane.

    The annuli are those of `spectra`, one off because k = 0 comes first, and go on in the corners.
    """
    rows = np.fft.fftfreq(n, 1 / n)[:, None]
    columns = np.fft.rfftfreq(n, 1 / n)[None, :]
    radius = np.hypot(rows, columns)
    alone = (columns == 0) | (columns == n / 2)
    weight = np.broadcast_to(np.where(alone, 1.0, 2.0), radius.shape)
    return radius, np.floor(radius + 0.5).astype(np.int32), weight
