"""Amplitudes matched to a given mean squared change, so that perturbations can be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from spurious.lazy import tf
from spurious.perturbations.effect import Effect
from spurious.perturbations.response import Logistic

AnyEffect = TypeVar("AnyEffect", bound=Effect)
LARGEST = 1e12  # amplitude at which the search for one that is large enough gives up


def matched(systematic: AnyEffect, maps: Any, mean_square: float) -> AnyEffect:
    """The systematic with the size of its amplitude that changes `maps` by `mean_square`.

    The sign of the amplitude is kept (0 counts as positive). In closed form for a logistic that
    adds matter, otherwise by root finding, in float64.

    Args:
        systematic: parameters as numbers; its amplitude is the one that the class names.
        maps: (batch, N, N) in counts.
        mean_square: mean over all pixels of the squared change after clipping, counts^2.

    Raises:
        ValueError: `mean_square` is negative, or no amplitude reaches it: the systematic touches
            no pixel, or it would have to take away more than there is.
    """
    if not mean_square >= 0:
        raise ValueError(f"mean_square = {mean_square} must be at least 0")
    negative = float(getattr(systematic, systematic.AMPLITUDE)) < 0
    if mean_square == 0:
        amplitude = 0.0
    elif isinstance(systematic, Logistic):
        amplitude = _logistic(systematic, np.asarray(maps, np.float64).ravel(), mean_square)
    else:
        amplitude = _by_root(systematic, np.asarray(maps, np.float64), mean_square, negative)
    return _scaled(systematic, -amplitude if negative and amplitude else amplitude)


def _scaled(systematic: AnyEffect, amplitude: Any) -> AnyEffect:
    return cast(AnyEffect, replace(cast(Any, systematic), **{systematic.AMPLITUDE: amplitude}))


def _by_root(systematic: Effect, maps: np.ndarray, mean_square: float, negative: bool) -> float:
    """Size of the amplitude of any effect whose change grows with it."""
    sign = -1.0 if negative else 1.0
    largest = abs(systematic.LIMITS[0 if negative else 1])
    tensor = tf.constant(maps)

    @tf.function
    def compiled(size: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean((_scaled(systematic, sign * size)(tensor) - tensor) ** 2)

    def reached(size: float) -> float:
        return float(compiled(tf.constant(size, tensor.dtype)))

    # From small amplitudes upwards, because large ones can overflow.
    low, high = 0.0, min(largest, 0.01, float(np.sqrt(mean_square)))
    while not reached(high) >= mean_square:
        if high >= min(largest, LARGEST):
            raise ValueError(_out_of_reach(systematic, mean_square, reached(high), high))
        low, high = high, min(largest, 4 * high)
    while low == 0 or reached(low) > mean_square:
        low = (low or high) / 4

    def excess(log_size: float) -> float:
        return reached(float(np.exp(log_size))) / mean_square - 1

    return float(np.exp(brentq(excess, np.log(low), np.log(high), xtol=1e-12)))


def _out_of_reach(systematic: Effect, wanted: float, most: float, size: float) -> str:
    if most == 0:
        return "the systematic touches no pixel of these maps"
    return (
        f"mean_square = {wanted:g} is out of reach: {type(systematic).__name__} with "
        f"{systematic.AMPLITUDE} of size {size:g} changes the mean square by {most:g}"
    )


def _logistic(systematic: Logistic, density: np.ndarray, mean_square: float) -> float:
    shape = expit(-(float(systematic.a) * density + float(systematic.b)))
    if float(systematic.beta) >= 0:
        return _added(shape, mean_square)
    return _removed(shape, density, mean_square)


def _added(shape: np.ndarray, mean_square: float) -> float:
    """Beta > 0, where nothing is clipped: <change^2> = beta^2 <shape^2>."""
    unit = np.mean(shape**2)
    if unit == 0:
        raise ValueError("the systematic touches no pixel of these maps")
    return float(np.sqrt(mean_square / unit))


def _removed(shape: np.ndarray, density: np.ndarray, mean_square: float) -> float:
    """-beta > 0 such that <min(-beta shape, density)^2> = mean_square, by root finding."""
    touched = shape > 1e-30  # below that no float32 amplitude moves a pixel
    n, density, log_shape = density.size, density[touched], np.log(shape[touched])
    largest = np.sum(density**2) / n
    if mean_square >= largest:
        raise ValueError(
            f"mean_square = {mean_square:g} is out of reach: taking away all density that the "
            f"systematic touches changes the mean square by {largest:g}"
        )

    def excess(log_amplitude: float) -> float:
        wanted = np.exp(np.minimum(log_amplitude + log_shape, 700.0))  # no overflow
        removed = np.minimum(wanted, density)
        return float(np.sum(removed**2) / n - mean_square)

    # At `low` even the most touched pixel loses less than asked; at `high` the last one loses all.
    low = 0.5 * np.log(mean_square) - log_shape.max() - 1e-9
    high = np.log(density.max()) - log_shape.min() + 1e-9
    return float(np.exp(brentq(excess, low, high, xtol=1e-12)))
