"""Products with many small triangular matrices, and their inverses."""

from __future__ import annotations

import math

import tensorflow as tf

LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


def multiply(matrices: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Products of (..., p, p) and (..., p), by sums: no matrix unit rounds them to 10 bits."""
    return tf.reduce_sum(matrices * x[..., None, :], axis=-1)


def solve(trils: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Solve L z = x for each pair of (..., p, p) and (..., p), by forward substitution.

    Far faster than `tf.linalg.triangular_solve` for many small systems.
    """
    z: list[tf.Tensor] = []
    for j in range(x.shape[-1]):
        rest = x[..., j]
        for k in range(j):
            rest -= trils[..., j, k] * z[k]
        z.append(rest / trils[..., j, j])
    return tf.stack(z, axis=-1)
