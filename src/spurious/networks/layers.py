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
        w = self.width
        images = ops.concatenate([images[:, -w:], images, images[:, :w]], axis=1)
        return ops.concatenate([images[:, :, -w:], images, images[:, :, :w]], axis=2)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "width": self.width}


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
