"""Gradients by the pixels that are themselves differentiable in the weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

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
        # In units of the posterior's width: rows of L^-1 mean, for the covariance C = L L^T.
        factor = tf.stop_gradient(tf.linalg.cholesky(found.covariance()))
        whitened = tf.linalg.triangular_solve(factor, found.mean()[..., None])[..., 0]
        means = tf.unstack(whitened, axis=-1)
    gradients = [std * tape.gradient(mean, maps) for mean in means]
    return found, sum(tf.reduce_sum(one**2, PIXELS) for one in gradients)
