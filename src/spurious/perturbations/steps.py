"""Steps uphill, and where they start.

Sizes are in counts under a norm: `linf`, the largest change of a pixel, or `l2`, the root of the
mean squared change over a map's pixels. The second is the L2 norm over N for N x N pixels, so that
a size means the same for maps of any N.
"""

from __future__ import annotations

from typing import Annotated, Literal

from spurious import seeds
from spurious.description.marks import Doc
from spurious.lazy import tf

Norm = Literal["linf", "l2"]
AnyNorm = Annotated[Norm, Doc("linf: every pixel, or l2: the root mean square over a map's pixels")]
"""The type of an attack's field."""
Decay = Literal["constant", "linear"]
PIXELS = (-2, -1)


def rms(change: tf.Tensor) -> tf.Tensor:
    """Root of the mean square over each map's pixels, (batch, 1, 1)."""
    return tf.sqrt(tf.reduce_mean(change**2, PIXELS, keepdims=True))


def direction(gradient: tf.Tensor, norm: Norm) -> tf.Tensor:
    """Steepest ascent of size one under the norm: the sign, or the gradient over its RMS.

    A gradient that is zero gives no step.
    """
    if norm == "linf":
        return tf.sign(gradient)
    # First over the largest: squares of a small float32 gradient would underflow.
    largest = tf.reduce_max(tf.abs(gradient), PIXELS, keepdims=True)
    gradient = tf.math.divide_no_nan(gradient, largest)
    return tf.math.divide_no_nan(gradient, rms(gradient))


def accumulate(velocity: tf.Tensor, gradient: tf.Tensor, momentum: float) -> tf.Tensor:
    """Momentum over gradients of unit L1 norm (Dong et al. 2018, arXiv:1710.06081, Eq. 6)."""
    size = tf.reduce_sum(tf.abs(gradient), PIXELS, keepdims=True)
    return momentum * velocity + tf.math.divide_no_nan(gradient, size)


def scheduled(alpha: tf.Tensor, step: tf.Tensor, steps: int, decay: Decay) -> tf.Tensor:
    """Size of a step: constant, or falling linearly from alpha to alpha / steps."""
    if decay == "constant":
        return alpha
    return alpha * (1 - tf.cast(step, alpha.dtype) / steps)


def starts(seed: int, count: int) -> tf.Tensor:
    """Seeds of `count` random starts, (count, 2, 2): a pair for the pattern, one for its size."""
    purposes = ("attack start", "attack radius")
    return tf.constant([[seeds.stateless(seed, p, i) for p in purposes] for i in range(count)])


def draw_start(clean: tf.Tensor, size: tf.Tensor, norm: Norm, seed: tf.Tensor) -> tf.Tensor:
    """Maps drawn uniformly from a ball around the clean ones.

    The change is the same for every map, so that it does not depend on a map's companions.

    Args:
        clean: (batch, N, N).
        size: radius of the ball, counts.
        norm: of the ball.
        seed: one of `starts`, (2, 2).
    """
    shape, dtype = tf.shape(clean)[1:], clean.dtype
    if norm == "linf":
        return clean + size * tf.random.stateless_uniform(shape, seed[0], -1, 1, dtype)
    pattern = tf.random.stateless_normal(shape, seed[0], dtype=dtype)
    uniform = tf.random.stateless_uniform((), seed[1], dtype=dtype)
    radius = uniform ** (1 / tf.cast(tf.size(pattern), dtype))
    return clean + size * radius * pattern / rms(pattern)
