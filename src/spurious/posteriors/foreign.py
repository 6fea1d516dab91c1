"""Functions of NumPy arrays with their gradients, for models of PyTorch, JAX and others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Function = Callable[[np.ndarray], Sequence[np.ndarray]]
Gradient = Callable[..., np.ndarray]


class Foreign:
    """A function of NumPy arrays as a differentiable function of tensors.

    It may be what `--model MODULE:FUNCTION` names, and part of what
    `spurious.Posterior.from_callable` takes.

    Args:
        function: maps (batch, N, N), float32 -> a sequence of arrays, each (batch, ...): means and
            standard deviations, say.
        gradient: the maps, and for each of those arrays the derivatives with respect to it, of its
            shape -> the derivatives with respect to the maps, (batch, N, N).

    >>> def moments(maps):
    ...     return [maps.mean((1, 2))[:, None], np.ones((len(maps), 1))]
    >>> def gradient(maps, of_mean, of_width):
    ...     return np.ones_like(maps) * of_mean[:, :, None] / maps[0].size
    >>> Foreign(moments, gradient)(np.ones((2, 4, 4)))[0].numpy().tolist()
    [[1.0], [1.0]]
    """

    def __init__(self, function: Function, gradient: Gradient) -> None:
        self.function, self.gradient = function, gradient
        self._shapes: list[tuple[int, ...]] = []  # of one map, known from the first call

    def __call__(self, maps: Any) -> list[tf.Tensor]:
        """The arrays as tensors, float32."""
        maps = tf.cast(maps, tf.float32)
        if not self._shapes:
            trial = np.ones((1, *maps.shape[1:]), np.float32)
            self._shapes = [np.shape(one)[1:] for one in self.function(trial)]
        return list(self._called(maps))

    @tf.custom_gradient
    def _called(self, maps: tf.Tensor) -> Any:
        kinds = [tf.float32] * len(self._shapes)
        found = tf.numpy_function(self._forward, [maps], kinds)
        for one, shape in zip(found, self._shapes, strict=True):
            one.set_shape((maps.shape[0], *shape))

        def backward(*upstream: tf.Tensor) -> tf.Tensor:
            slope = tf.numpy_function(self._backward, [maps, *upstream], tf.float32)
            return tf.ensure_shape(slope, maps.shape)

        return tuple(found), backward

    def _forward(self, maps: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(one, np.float32) for one in self.function(maps)]

    def _backward(self, maps: np.ndarray, *upstream: np.ndarray) -> np.ndarray:
        return np.asarray(self.gradient(maps, *upstream), np.float32)
