"""Keras layers that Keras itself lacks; importing this module registers them for loading."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from spurious import spectra

# Relative to (Mpc/h)^2; a map without fluctuations has P = 0, and its logarithm must be finite.
SMALLEST_POWER = 1e-12
SMALLEST_MEAN = 1e-3  # counts a pixel: a map of 64 x 64 pixels with four particles


@keras.saving.register_keras_serializable(package="spurious")
class WrapPadding(keras.layers.Layer):
    """Pad (batch, N, N, channels) by `width` pixels a side with the opposite side's pixels.

    Simulation boxes are periodic: with this padding a rolled map gives rolled features.
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width

    def call(self, images: Any) -> Any:
        """Pad rows, then columns (so that corners wrap too)."""
        return _wrapped(_wrapped(images, self.width, axis=1), self.width, axis=2)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "width": self.width}


def _wrapped(images: Any, width: int, axis: int) -> Any:
    """Pad one axis with the pixels of its other end.

    TensorFlow's own gradient of a slice is as large as the whole, zeros and all, and here are three
    of them to add up. It is enough to add the borders of what arrives to its core, with the same
    bits. Where both ends overlap, three numbers meet in a pixel, in TensorFlow's own order.
    """
    if not tf.is_tensor(images) or (images.shape[axis] or 0) < 2 * width:
        return _joined(images, width, axis)

    @tf.custom_gradient
    def padded(images: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return _joined(images, width, axis), lambda upstream: _folded(upstream, width, axis)

    return padded(images)


def _joined(images: Any, width: int, axis: int) -> Any:
    last, first = _slice(images, -width, None, axis), _slice(images, None, width, axis)
    return ops.concatenate([last, images, first], axis=axis)


def _folded(upstream: tf.Tensor, width: int, axis: int) -> tf.Tensor:
    """The adjoint of `_joined`: what the borders got is due to the pixels that they repeat."""
    first = _slice(upstream, width, 2 * width, axis) + _slice(upstream, -width, None, axis)
    last = _slice(upstream, -2 * width, -width, axis) + _slice(upstream, None, width, axis)
    core = _slice(upstream, 2 * width, -2 * width, axis)
    return tf.concat([first, core, last], axis)


def _slice(images: Any, start: int | None, stop: int | None, axis: int) -> Any:
    return images[(slice(None),) * axis + (slice(start, stop),)]


@keras.saving.register_keras_serializable(package="spurious")
class Contrast(keras.layers.Layer):
    """Maps (batch, N, N) in counts to their contrast x / mean(x) - 1, of the same shape.

    The mean is each map's own: a factor on all of a map's pixels changes nothing. A map whose mean
    is below `SMALLEST_MEAN`, such as an empty one, is divided by that: nothing becomes infinite.
    """

    def call(self, maps: Any) -> Any:
        """The contrast of each map."""
        mean = ops.mean(maps, axis=(-2, -1), keepdims=True)
        return maps / ops.maximum(mean, SMALLEST_MEAN) - 1


@keras.saving.register_keras_serializable(package="spurious")
class LogPower(keras.layers.Layer):
    """Maps (batch, N, N) in counts to ln P(k) of their contrast, (batch, n_bins).

    The bins are those of `spurious.spectra`, P in (Mpc/h)^2.

    Args:
        box_size: side of the maps, Mpc/h.
    """

    def __init__(self, box_size: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.box_size = float(box_size)

    def call(self, maps: Any) -> Any:
        """The logarithm of the binned power of each map."""
        power = spectra.power(maps, self.box_size, contrast=True)
        return tf.math.log(tf.maximum(power, SMALLEST_POWER))

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "box_size": self.box_size}


def log_power(maps: np.ndarray, box_size: float, batch_size: int = 1024) -> np.ndarray:
    """What `LogPower` makes of maps (n, N, N), `batch_size` of them at a time: (n, n_bins)."""
    layer = LogPower(box_size)
    parts = (maps[start : start + batch_size] for start in range(0, len(maps), batch_size))
    return np.concatenate([layer(part).numpy() for part in parts])
