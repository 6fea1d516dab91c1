"""What a network sees instead of counts: the transforms of a map that people try first.

Each is a Keras layer from maps (batch, N, N) in counts to what is seen, of the same shape, which is
then standardised as it is in the training maps. Gradients are those of the function itself, so that
none hides an attack: `Clipped` alone has places where they vanish, because what happens there is
not seen indeed.

==================  ============================================================================
`Contrast`          each map over its own mean: blind to a gain (`spurious.networks.layers`)
`LogDensity`        ln(1 + x / mean of the training maps): peaks count less, voids more
`Rank`              share of the training maps' pixels that are emptier: histogram equalisation
`Clipped`           min(x, threshold): blind to how high a peak is
`BandLimit`         modes up to a wavenumber: blind to small scales
==================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from spurious import config
from spurious.data.maps import MapSet, Standardiser
from spurious.errors import UserError
from spurious.networks.layers import Contrast

KNOTS = 128  # of a rank transform: quantiles of the training maps' pixels


class Representation(NamedTuple):
    """What a network sees.

    Attributes:
        layer: maps in counts -> what is seen.
        units: mean and standard deviation of what is seen of the training maps.
    """

    layer: keras.layers.Layer
    units: Standardiser


@keras.saving.register_keras_serializable(package="spurious")
class LogDensity(keras.layers.Layer):
    """Maps (batch, N, N) in counts to ln(1 + x / scale).

    Args:
        scale: density that is neither bright nor faint, counts.
    """

    def __init__(self, scale: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = float(scale)

    def call(self, maps: Any) -> Any:
        """The logarithm of each pixel."""
        return ops.log1p(ops.maximum(maps, 0.0) / self.scale)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="spurious")
class Rank(keras.layers.Layer):
    """Maps (batch, N, N) in counts to the distribution function of densities, piecewise linear.

    At knot i of n the value is i / (n - 1); before the first knot and beyond the last, the line
    goes on. So it rises everywhere, and its gradient is the slope of the piece that a pixel is in:
    the histogram of the training maps.

    Args:
        knots: densities that are equally frequent apart, increasing, counts.
    """

    def __init__(self, knots: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.knots = [float(knot) for knot in knots]
        if len(self.knots) < 2 or not np.all(np.diff(np.asarray(self.knots, np.float32)) > 0):
            raise ValueError("knots must be two at least, and increase")

    def call(self, maps: Any) -> Any:
        """The rank of each pixel."""
        knots = tf.constant(self.knots, maps.dtype)
        found = tf.searchsorted(knots[1:-1], tf.reshape(maps, [-1]), side="right")
        piece = tf.reshape(found, tf.shape(maps))
        low, high = tf.gather(knots, piece), tf.gather(knots, piece + 1)
        share = tf.cast(piece, maps.dtype) + (maps - low) / (high - low)
        return share / (len(self.knots) - 1)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "knots": self.knots}


@keras.saving.register_keras_serializable(package="spurious")
class Clipped(keras.layers.Layer):
    """Maps (batch, N, N) in counts to min(x, upper).

    Args:
        upper: threshold, counts.
    """

    def __init__(self, upper: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.upper = float(upper)

    def call(self, maps: Any) -> Any:
        """Each pixel, at most the threshold."""
        return ops.minimum(maps, self.upper)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "upper": self.upper}


@keras.saving.register_keras_serializable(package="spurious")
class BandLimit(keras.layers.Layer):
    """Maps (batch, N, N) in counts to their modes with |k| <= high, k = 0 among them.

    Args:
        high: h/Mpc.
        box_size: side of a map, Mpc/h.
    """

    def __init__(self, high: float, box_size: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.high, self.box_size = float(high), float(box_size)

    def call(self, maps: Any) -> Any:
        """The map without its small scales."""
        n = maps.shape[-1]
        rows, columns = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)
        seen = np.hypot(rows, columns) * 2 * np.pi / self.box_size <= self.high
        mean = tf.reduce_mean(maps, axis=(-2, -1), keepdims=True)
        modes = tf.signal.rfft2d(maps - mean)
        return mean + tf.signal.irfft2d(tf.where(seen, modes, 0), [n, n])

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "high": self.high, "box_size": self.box_size}


def representation(settings: config.Input, training: MapSet) -> Representation | None:
    """What an entry's `input` describes, with the units of the training maps; none: counts.

    Raises:
        UserError: all training maps would look the same.
    """
    if settings == "counts":
        return None
    layer = _layer(settings, training)
    units = Standardiser.fit(seen(layer, training.maps))
    if not units.std > 1e-6 * abs(units.mean):
        raise UserError(f"input = {layer.name}: nothing of the training maps is left to be seen")
    return Representation(layer, units)


def seen(layer: keras.layers.Layer, maps: np.ndarray, batch_size: int = 1024) -> np.ndarray:
    """What a layer makes of maps (n, N, N), in float64, `batch_size` of them at a time."""
    double = type(layer).from_config({**layer.get_config(), "dtype": "float64"})
    parts = (maps[first : first + batch_size] for first in range(0, len(maps), batch_size))
    return np.concatenate([double(part.astype(np.float64)).numpy() for part in parts])


def _layer(settings: config.Input, training: MapSet) -> keras.layers.Layer:
    options = {"dtype": "float32", "name": getattr(settings, "kind", settings)}
    if isinstance(settings, config.Clipped):
        return Clipped(settings.upper.value, **options)
    if isinstance(settings, config.BandLimit):
        return BandLimit(settings.high.value, training.box_size, **options)
    if settings == "log":
        return LogDensity(Standardiser.fit(training.maps).mean, **options)
    if settings == "rank":
        return Rank(knots_of(training.maps), **options)
    return Contrast(**options)


def knots_of(maps: np.ndarray, count: int = KNOTS) -> list[float]:
    """Quantiles of all pixels of maps, from the least to the largest, each once."""
    found = np.quantile(maps, np.linspace(0, 1, count)).astype(np.float32)
    return [float(knot) for knot in np.unique(found)]
