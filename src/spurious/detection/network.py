"""A learned detector: one layer of fixed convolutions, gated pooling and a trained read-out.

Detectors of hidden messages met the same question, weak changes of single pixels under strong
natural structure, and answered it so: a bank of small high-pass filters, whose responses are pooled
where the image is alike, and a linear classifier (Fridrich & Kodovsky 2012, "Rich models for
steganalysis of digital images", IEEE TIFS 7, 868; Kodovsky, Fridrich & Holub 2012, IEEE TIFS 7,
432). As a network:

1. ln(x + 0.02) and 8 sqrt(x) of the density x, convolved with the eight 3 x 3 products of
   (1, 1, 1), (1, 0, -1) and (1, -2, 1) that have zero sum, periodic;
2. |r|, tanh^2(r / q) for two q, the mean of each over the pixels of each of five classes of the
   local density; filters that are each other's transposed share a channel; logarithms;
3. beside these, square roots of the shares of the classes and of pixels below or above one of
   18 densities;
4. a linear read-out, trained by `spurious.detection.detector` on other simulations than it judges.

Only the read-out has weights to be trained, in closed form, so some hundreds of maps suffice where
a deep network wants many more. It sees no cosmology.

An attack may want to go unnoticed, so gradients flow through all of it. Where a feature is a count,
whose own gradient is zero, the way back takes a smooth step for the sudden one (a straight-through
estimate; "backward pass differentiable approximation" of Athalye et al. 2018, arXiv:1802.00420).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import tensorflow as tf

from spurious.networks.layers import WrapPadding

MEAN = 64.0  # counts a pixel where the density is 1
FLOOR = 0.02  # densities below hardly differ in the logarithm
CLASSES = (-1.2, -0.6, 0.0, 0.6)  # between the classes: mean ln(x + FLOOR) of 3 x 3 pixels
SOFT = {"logarithm": (0.1, 0.4), "root": (0.3, 1.0)}  # q, about the clean responses' quartiles
SPARSE = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)  # shares of pixels not above these
DENSE = (1.0, 1.2, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0)  # and above these
TINY = 1e-4  # of a mean response: below it, the logarithm says no more
BATCH = 64
STEEPNESS = 8.0  # of the smooth steps on the way back, per unit of ln(x + FLOOR)
LEAST = 1e-4  # below it, the square root's way back takes its slope there
SMALLEST = 1e-6  # of the largest variance of a principal component: those below are rounding
MAPS_PER_COMPONENT = 4


def features(maps: np.ndarray, contrast: bool) -> np.ndarray:
    """What the read-out sees of each map.

    Args:
        maps: (n, N, N) in counts.
        contrast: divide each map by its own mean, which a survey does not know otherwise. Else
            by 64, so that the mean is seen as well.

    Returns:
        (n, d), float64. None changes when a map is rolled, rotated by 90 degrees or flipped.
    """
    starts = range(0, len(maps), BATCH)
    parts = (tf.constant(maps[start : start + BATCH], tf.float32) for start in starts)
    found = [differentiable(part, contrast).numpy() for part in parts]
    return np.concatenate(found).astype(np.float64)


@dataclass(frozen=True)
class Whitening:
    """Features in units of what clean maps of all cosmologies do.

    Attributes:
        mean: of each feature that varies, (b,).
        entries: which do, (b,).
        directions: principal components, each of variance 1, (b, c).
    """

    mean: np.ndarray
    entries: np.ndarray
    directions: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> Whitening:
        """Learn from features (n, d) of clean maps, of other simulations than will be judged."""
        entries = np.flatnonzero(np.ptp(values, axis=0) > 1e-6)
        chosen = values[:, entries]
        spread = chosen.std(axis=0)
        variance, direction = np.linalg.eigh(np.cov((chosen / spread).T).reshape(len(spread), -1))
        keep = variance > SMALLEST * variance[-1]
        keep[: -max(1, len(values) // MAPS_PER_COMPONENT)] = False
        scaled = direction[:, keep] / np.sqrt(variance[keep]) / spread[:, None]
        return cls(chosen.mean(axis=0), entries, scaled)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Whitened features (n, c) of features (n, d)."""
        return (values[:, self.entries] - self.mean) @ self.directions


@tf.function(reduce_retracing=True)
def differentiable(maps: tf.Tensor, contrast: bool) -> tf.Tensor:
    """`features` of a tensor of maps, float32, with gradients to them."""
    density = maps / tf.reduce_mean(maps, axis=(1, 2), keepdims=True) if contrast else maps / MEAN
    logarithm = tf.math.log(density + FLOOR)
    local = tf.nn.avg_pool2d(_padded(logarithm), 3, 1, "VALID")
    count = tf.shape(maps)[0]
    gates = _gates(tf.reshape(local, (count, -1)))
    shares = tf.reduce_mean(gates, axis=1)
    found = [_root(shares), *_shares(density, logarithm)]
    for name, field in (("logarithm", logarithm), ("root", 8 * _root(density))):
        responses = tf.nn.conv2d(_padded(field), tf.constant(_bank(), tf.float32), 1, "VALID")
        for pooled in _nonlinear(responses, SOFT[name]):
            flat = tf.reshape(_merged(pooled), (count, -1, len(_channels())))
            pixels = tf.cast(tf.shape(flat)[1], flat.dtype)
            means = tf.einsum("bif,big->bfg", flat, gates) / pixels
            ratio = (means + TINY) / (shares[:, None] + 2 * TINY)
            size = ratio.shape[1] * ratio.shape[2]
            found.append(tf.reshape(tf.math.log(ratio), (count, size)))
    return tf.concat(found, axis=1)


def _padded(field: tf.Tensor) -> tf.Tensor:
    """(batch, N, N) to (batch, N + 2, N + 2, 1), periodic."""
    return WrapPadding(1).call(field[..., None])


def _nonlinear(responses: tf.Tensor, soft: tuple[float, ...]) -> Iterator[tf.Tensor]:
    yield tf.abs(responses)
    for q in soft:
        yield tf.tanh((responses / q) ** 2)


def _gates(local: tf.Tensor) -> tf.Tensor:
    """One for the class of each pixel, zero for the others: (batch, pixels, classes)."""
    above = [_step(local > edge, local - edge) for edge in CLASSES]
    ends = [tf.ones_like(local), *above, tf.zeros_like(local)]
    return tf.stack([low - high for low, high in pairwise(ends)], axis=-1)


def _shares(density: tf.Tensor, logarithm: tf.Tensor) -> list[tf.Tensor]:
    """Square roots of the shares of sparse and of dense pixels, each (batch, 1)."""
    chosen = [_step(density <= x, float(np.log(x + FLOOR)) - logarithm) for x in SPARSE]
    chosen += [_step(density > x, logarithm - float(np.log(x + FLOOR))) for x in DENSE]
    return [_root(tf.reduce_mean(one, axis=(1, 2)))[:, None] for one in chosen]


def _step(chosen: tf.Tensor, margin: tf.Tensor) -> tf.Tensor:
    """1 where chosen, else 0, with the gradient of a smooth step of the margin."""
    smooth = tf.sigmoid(STEEPNESS * margin)
    return tf.cast(chosen, tf.float32) + (smooth - tf.stop_gradient(smooth))


@tf.custom_gradient
def _root(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """The square root, with a finite gradient at zero."""
    return tf.sqrt(x), lambda upstream: 0.5 * upstream / tf.sqrt(tf.maximum(x, LEAST))


def _pairs() -> list[tuple[int, int]]:
    """Which two of the three profiles make each filter of the bank."""
    return [(a, b) for a, b in product(range(3), range(3)) if (a, b) != (0, 0)]


def _bank() -> np.ndarray:
    """The filters, each of zero sum and unit length: (3, 3, 1, 8)."""
    profiles = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], float)
    filters = [np.outer(profiles[a], profiles[b]) for a, b in _pairs()]
    return np.stack([f / np.linalg.norm(f) for f in filters], axis=-1)[:, :, None]


def _channels() -> list[list[int]]:
    """Numbers of the filters that share a channel, being each other's transposed."""
    unordered = sorted({tuple(sorted(pair)) for pair in _pairs()})
    return [[i for i, pair in enumerate(_pairs()) if tuple(sorted(pair)) == one]
            for one in unordered]  # fmt: skip


def _merged(responses: tf.Tensor) -> tf.Tensor:
    return tf.stack(
        [tf.reduce_mean(tf.gather(responses, one, axis=-1), axis=-1) for one in _channels()],
        axis=-1,
    )
