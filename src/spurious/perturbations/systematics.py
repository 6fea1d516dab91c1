"""Physical-looking systematics: one function of the density, the same for every map and pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.optimize import brentq
from scipy.special import expit

from spurious.perturbations.base import like, possible


@dataclass(frozen=True)
class Logistic:
    """The paper's systematic (Eq. 3): x + beta / (1 + exp(a x + b)).

    For a > 0 it adds `beta` counts to pixels well below the density -b / a and leaves those well
    above alone, over a transition of width about 1 / a; the paper's is (0.25, -15, 3). A negative
    `beta` takes counts away, never below zero. Differentiable in the maps and in the parameters,
    which may be numbers or scalar tensors.

    Args:
        a: slope, 1/counts.
        b: offset.
        beta: amplitude, counts.
    """

    a: Any
    b: Any
    beta: Any

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`."""
        return possible(self.unclipped(maps))

    def unclipped(self, maps: Any) -> tf.Tensor:
        """Eq. 3 as it stands, where a negative `beta` can lead to negative densities."""
        maps = tf.convert_to_tensor(maps)
        a, b, beta = (like(value, maps) for value in (self.a, self.b, self.beta))
        return maps + beta * tf.sigmoid(-(a * maps + b))


def matched(systematic: Logistic, maps: Any, mean_square: float) -> Logistic:
    """The systematic with the size of `beta` that changes `maps` by `mean_square` on average.

    The sign of `beta` is kept (0 counts as positive).

    Args:
        systematic: numbers a, b and beta.
        maps: (batch, N, N) in counts.
        mean_square: mean over all pixels of the squared change after clipping, counts^2.

    Raises:
        ValueError: `mean_square` is negative, or no amplitude reaches it: the systematic touches
            no pixel, or it would have to take away more than there is.
    """
    if not mean_square >= 0:
        raise ValueError(f"mean_square = {mean_square} must be at least 0")
    if mean_square == 0:
        return replace(systematic, beta=0.0)
    density = np.asarray(maps, np.float64).ravel()
    shape = expit(-(float(systematic.a) * density + float(systematic.b)))
    if float(systematic.beta) >= 0:
        return replace(systematic, beta=_added(shape, mean_square))
    return replace(systematic, beta=-_removed(shape, density, mean_square))


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
