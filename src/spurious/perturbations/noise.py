"""Perturbations that know nothing: the controls, and noise as a systematic."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np

from spurious import seeds
from spurious.description.marks import Doc, Searched, Within
from spurious.description.quantities import Budget
from spurious.lazy import tf
from spurious.perturbations.base import like, possible
from spurious.perturbations.effect import Effect
from spurious.perturbations.filters import filtered


@dataclass(frozen=True)
class RandomSign:
    """Every pixel moves by plus or minus `epsilon`, at random: an attack without its gradient.

    The signs of a map follow from the seed and the map itself, so they do not depend on the
    batch it comes in. Not differentiable in the maps.
    """

    epsilon: Annotated[float, Budget, Doc("size of every pixel's change")]
    seed: int

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon = {self.epsilon} must be at least 0")

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`."""
        maps = tf.convert_to_tensor(maps)
        signs = np.stack([self._signs(one) for one in maps.numpy()])
        return possible(maps + like(self.epsilon, maps) * like(signs, maps))

    def _signs(self, one: np.ndarray) -> np.ndarray:
        """Plus or minus one per pixel of one map."""
        generator = seeds.generator(self.seed, "random sign", zlib.crc32(one.tobytes()))
        return 2 * generator.integers(0, 2, one.shape, dtype=np.int8) - 1


@dataclass(frozen=True)
class GaussianNoise(Effect):
    """Control: white Gaussian noise.

    The noise of a map follows from the seed and the map itself, as for `CorrelatedNoise`.
    """

    rms: Annotated[
        Any,
        Budget,
        Within(0),
        Searched(0.0, 20.0),
        Doc("standard deviation, before negative densities are set to zero"),
    ]
    seed: int

    AMPLITUDE: ClassVar[str] = "rms"
    LIMITS: ClassVar[tuple[float, float]] = (0.0, 1e30)

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`."""
        return like(self.rms, maps) * normals(maps, self.seed, "gaussian noise")


@dataclass(frozen=True)
class CorrelatedNoise(Effect):
    """Gaussian noise with the power spectrum P(k) proportional to k^index, and no mean.

    The noise of a map follows from the seed and the map itself, so it does not depend on the batch
    and differs between maps. Differentiable in `rms` and `index`, and in the maps as if the noise
    did not depend on them.
    """

    rms: Annotated[
        Any,
        Budget,
        Within(0),
        Searched(0.0, 20.0),
        Doc("standard deviation expected of a pixel, before negative densities are set to zero"),
    ]
    index: Annotated[
        Any,
        Within(-4, 2),
        Searched(-4.0, 2.0),
        Doc("slope of the power spectrum: 0 is white, -1 to -2 drifts slowly"),
    ]
    seed: int

    AMPLITUDE: ClassVar[str] = "rms"
    LIMITS: ClassVar[tuple[float, float]] = (0.0, 1e30)

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`."""
        n = maps.shape[-1]
        rows, columns = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)
        k = np.hypot(rows, columns)
        # The half plane holds one of each pair of modes, except where a column is its own partner.
        shares = np.where((columns == 0) | (columns == n / 2), 1.0, 2.0) * (k > 0) / n**2
        amplitude = tf.exp(like(self.index, maps) / 2 * like(np.log(np.maximum(k, 1)), maps))
        variance = tf.reduce_sum(like(shares, maps) * amplitude**2)
        noise = filtered(normals(maps, self.seed, "correlated noise"), amplitude)
        return like(self.rms, maps) * noise / tf.sqrt(variance)


def normals(maps: tf.Tensor, seed: int, purpose: str) -> tf.Tensor:
    """Standard normal draws, one a pixel: shape and type of `maps`, each map's own."""

    def draw(pair: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_normal(tf.shape(maps)[1:], pair, alg="philox")

    return tf.cast(each(draw, maps, seed, purpose), maps.dtype)


def each(
    draw: Callable[[tf.Tensor], tf.Tensor],
    maps: tf.Tensor,
    seed: int,
    purpose: str,
    dtype: str = "float32",
) -> tf.Tensor:
    """`draw` called for each map with a seed pair that follows from the root and the map itself.

    A float32 map and its float64 copy have the same draws.
    """
    first, second = seeds.stateless(seed, purpose)
    pairs = tf.stack([_digests(maps) ^ first, _digests(maps, second)], axis=1)
    # As a graph, because operation by operation a map would take 10 ms.
    return tf.function(partial(tf.map_fn, draw, fn_output_signature=tf.as_dtype(dtype)))(pairs)


def _digests(maps: tf.Tensor, salt: int = 0) -> tf.Tensor:
    """One int32 a map: all of its pixels' bits, each weighted by an odd number of its own."""
    bits = tf.bitcast(tf.stop_gradient(tf.cast(maps, tf.float32)), tf.int32)
    size = int(np.prod(maps.shape[1:]))
    generator = seeds.generator(salt, "digest of a map")
    weights = generator.integers(-(2**30), 2**30, size, dtype=np.int32) * 2 + 1
    return tf.reduce_sum(tf.reshape(bits, [-1, size]) * weights, axis=1)
