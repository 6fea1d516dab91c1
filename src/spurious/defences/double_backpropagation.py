"""Gradients by the pixels that are themselves differentiable in the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spurious.lazy import tf

PIXELS = (-2, -1)


def squared_gradient(
    function: Callable[[tf.Tensor], tf.Tensor], maps: tf.Tensor, std: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """A function's values and the squared norms of its gradients by the standardised pixels.

    Args:
        function: maps -> one number a map, (batch,), in which maps do not mix.
        maps: (batch, N, N), counts.
        std: counts in one standard unit.

    Returns:
        Both (batch,).
    """
    with tf.GradientTape() as tape:
        tape.watch(maps)
        values = function(maps)
    gradient = std * tape.gradient(values, maps)
    return values, tf.reduce_sum(gradient**2, PIXELS)


def information(
    posterior: Callable[[tf.Tensor], Any], maps: tf.Tensor, std: float
) -> tuple[Any, tf.Tensor]:
    """The posterior of maps, and the trace of the pixels' information through its mean, (batch,).

    Arguments are those of `squared_gradient`, with a posterior as the function.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        found = posterior(maps)
        means = tf.unstack(found.mean(), axis=-1)
    slopes = tf.stack([std * tape.gradient(mean, maps) for mean in means], axis=1)
    flat = tf.reshape(slopes, (tf.shape(slopes)[0], len(means), -1))
    # In units of the posterior's width: L^-1 d mean, for the covariance L L^T.
    factor = tf.linalg.cholesky(found.covariance())
    return found, tf.reduce_sum(tf.linalg.triangular_solve(factor, flat) ** 2, (1, 2))
