"""A posterior's gradient compared with finite differences, map by map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from spurious import seeds
from spurious.audit.measurement import BATCH
from spurious.posteriors.posterior import Posterior

RANDOM = 2  # random directions, beside the gradient's sign and the gradient itself


class Agreement(NamedTuple):
    """The gradient of -log q(truth) against finite differences.

    Attributes:
        error: largest relative error over the directions, (n,); inf where the loss changes in
            none of them or is NaN.
        zeros: share of pixels whose gradient is exactly zero, (n,).
    """

    error: np.ndarray
    zeros: np.ndarray


def agreement(
    posterior: Posterior,
    maps: np.ndarray,
    truth: np.ndarray,
    steps: Sequence[float],
    seed: int = 0,
) -> Agreement:
    """Compare the gradient g with central differences along random directions and along g.

    In each direction v, of RMS 1 and without pixels whose density is less than the largest step,
    and for each step h, with the maps x+ = x + h v and x- = x - h v as float32 holds them,

        error = |J(x+) - J(x-) - g . (x+ - x-)| / size,

    where size is the largest of |J(x+) - J(x-)|, |g . (x+ - x-)| and what a random direction of
    the same length would give, |g| |x+ - x-| / N. Sums are in double precision. In each
    direction the step that agrees best counts: large steps feel the curvature, small ones rounding.

    Args:
        posterior: maps -> distribution.
        maps: (n, N, N) in counts.
        truth: their true parameters, (n, p).
        steps: h, in counts.
        seed: draws the random directions.
    """
    parts = [
        _agreement(posterior, maps[rows], truth[rows], steps, seed)
        for rows in (slice(i, i + BATCH) for i in range(0, len(maps), BATCH))
    ]
    return Agreement(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def _agreement(
    posterior: Posterior, maps: np.ndarray, truth: np.ndarray, steps: Sequence[float], seed: int
) -> Agreement:
    maps = np.asarray(maps, np.float32)
    gradient = loss_gradient(posterior, maps, truth)
    free = maps >= max(steps)

    def loss(changed: np.ndarray) -> np.ndarray:
        found = posterior(changed)
        return -found.log_prob(np.asarray(truth, found.dtype.as_numpy_dtype)).numpy()

    errors = []
    for direction in _directions(gradient, seed):
        one = np.where(free, direction, 0)
        each = [_error(loss, maps, gradient, step * one) for step in steps]
        errors.append(np.fmin.reduce(each))
    worst = np.fmax.reduce(errors)
    return Agreement(np.where(np.isnan(worst), np.inf, worst), np.mean(gradient == 0, axis=(1, 2)))


def loss_gradient(posterior: Posterior, maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Gradient of -log q(truth) in each map, (n, N, N) float64; zero where there is none."""
    x = tf.convert_to_tensor(maps)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = posterior(x)
        total = -tf.reduce_sum(found.log_prob(tf.cast(truth, found.dtype)))
    gradient = tape.gradient(total, x)
    return np.zeros(maps.shape) if gradient is None else gradient.numpy().astype(np.float64)


def _directions(gradient: np.ndarray, seed: int) -> list[np.ndarray]:
    """Random signs, the same for every map, the gradient's signs, and the gradient over its RMS."""
    generator = seeds.generator(seed, "finite differences")
    random = [2.0 * generator.integers(0, 2, gradient.shape[1:]) - 1 for _ in range(RANDOM)]
    rms = np.sqrt(np.mean(gradient**2, axis=(1, 2), keepdims=True))
    steepest = np.divide(gradient, rms, out=np.zeros_like(gradient), where=rms > 0)
    return [*(np.broadcast_to(one, gradient.shape) for one in random), np.sign(gradient), steepest]


def _error(
    loss: Callable[[np.ndarray], np.ndarray],
    maps: np.ndarray,
    gradient: np.ndarray,
    change: np.ndarray,
) -> np.ndarray:
    """Relative error of the gradient along a change, (n,); NaN where neither changes."""
    up, down = np.maximum(maps + change, 0), np.maximum(maps - change, 0)
    up, down = up.astype(np.float32), down.astype(np.float32)
    moved = up.astype(np.float64) - down
    found = loss(up).astype(np.float64) - loss(down)
    expected = np.sum(gradient * moved, axis=(1, 2))
    norms = np.linalg.norm(gradient, axis=(1, 2)) * np.linalg.norm(moved, axis=(1, 2))
    size = np.max([np.abs(found), np.abs(expected), norms / maps.shape[-1]], axis=0)
    return np.divide(np.abs(found - expected), size, out=np.full(len(maps), np.nan), where=size > 0)
