"""What a perturbation is."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf


class Perturbation(Protocol):
    """A change of maps that leaves them possible: densities stay at or above zero."""

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """Perturb each map on its own: the result does not depend on its companions in the batch.

        Args:
            maps: (batch, N, N) in counts, at or above zero.
            truth: the maps' true parameters (batch, p); only attacks that aim away from the truth
                need it, the others ignore it.

        Returns:
            The perturbed maps: shape, type and unit of `maps`, at or above zero.
        """
        ...


def possible(maps: tf.Tensor, upper: float | None = None) -> tf.Tensor:
    """Clip densities to zero and, if given, to `upper`."""
    maps = tf.maximum(maps, like(0.0, maps))
    return maps if upper is None else tf.minimum(maps, like(upper, maps))


def like(value: Any, maps: tf.Tensor) -> tf.Tensor:
    """A number or tensor in the type of `maps`; `tf.cast` would first round a number to float32."""
    return tf.cast(value, maps.dtype) if tf.is_tensor(value) else tf.constant(value, maps.dtype)
