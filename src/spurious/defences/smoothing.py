"""Randomised smoothing: the posterior averaged over noise on the map, or over its phases.

The smoothed posterior of a map x is the equal-weight mixture

    q_s(. | x) = 1 / n  sum_i  q(. | x_i)

over n noisy versions x_i of x (Cohen et al. 2019, arXiv:1902.02918, who average a classifier's
votes). What part of it can be certified, and what cannot, is in `spurious.defences.certificate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from spurious import seeds
from spurious.densities.divergences import concatenate, pooled
from spurious.densities.mixtures import mixture, mixture_shape, parameters
from spurious.perturbations.base import like, possible, require
from spurious.posteriors.posterior import Posterior

AT_ONCE = 2048  # noisy maps in memory, where there is no gradient


class Blur(Protocol):
    """What a map is averaged over."""

    def __call__(self, maps: tf.Tensor, normal: tf.Tensor) -> tf.Tensor:
        """One noisy version of each map, differentiable in the maps.

        Args:
            maps: (batch, N, N) in counts.
            normal: independent standard normal numbers, (N, N), which decide the version; the same
                for all maps, so that none depends on its companions.
        """
        ...


@dataclass(frozen=True)
class Noise:
    """White Gaussian noise; densities below zero are set to zero after it.

    Args:
        rms: standard deviation of a pixel's noise, counts.

    Raises:
        ValueError: `rms` is not above zero.
    """

    rms: float

    def __post_init__(self) -> None:
        require(np.nextafter(0, 1), np.inf, rms=self.rms)

    def __call__(self, maps: tf.Tensor, normal: tf.Tensor) -> tf.Tensor:
        """See `Blur`."""
        return possible(maps + like(self.rms, maps) * normal)


@dataclass(frozen=True)
class Phases:
    """Every Fourier mode turned by a Gaussian angle of its own; amplitudes stay.

    The angles are odd in k, as a real map needs; modes that are their own partner keep their phase.
    Only densities below zero, which are set to zero, change the power spectrum.

    Args:
        angle: standard deviation of the angles, radians; 2 or more leaves next to nothing of the
            phases.

    Raises:
        ValueError: `angle` is not above zero.
    """

    angle: float

    def __post_init__(self) -> None:
        require(np.nextafter(0, 1), np.inf, angle=self.angle)

    def __call__(self, maps: tf.Tensor, normal: tf.Tensor) -> tf.Tensor:
        """See `Blur`."""
        n = maps.shape[-1]
        # The imaginary part of a real field's transform is odd in k, with variance N^2 / 2.
        odd = tf.math.imag(tf.signal.rfft2d(normal)) * float(np.sqrt(2) / n)
        angle = tf.cast(self.angle, odd.dtype) * odd
        turn = tf.complex(tf.cos(angle), tf.sin(angle))
        return possible(tf.signal.irfft2d(tf.signal.rfft2d(maps) * turn, (n, n)))


class Smoothed(Posterior):
    """The average of another posterior over noisy versions of a map.

    The noise is drawn once, from the seed: equal maps have equal posteriors, and an attack that
    knows the seed climbs the exact gradient, through the noise and the average. `fresh` gives the
    same defence with other noise at every call.

    Args:
        inner: the posterior that is averaged; its standardiser is that of the average.
        over: what it is averaged over.
        draws: how many noisy versions, n.
        seed: root of the noise.

    Raises:
        ValueError: there is no draw.
    """

    def __init__(self, inner: Posterior, over: Blur, draws: int = 16, seed: int = 0) -> None:
        require(1, np.inf, draws=draws)
        self.inner, self.over, self.draws, self.seed = inner, over, draws, seed
        self.names, self.standardiser = inner.names, inner.standardiser

    def __call__(self, maps: Any) -> Any:
        """The mixture of the posteriors of the noisy versions of each map."""
        few = max(1, AT_ONCE // self.draws)
        if isinstance(maps, np.ndarray) and len(maps) > few:
            parts = (maps[start : start + few] for start in range(0, len(maps), few))
            return concatenate([self._average(tf.constant(part)) for part in parts])
        return self._average(tf.convert_to_tensor(maps))

    def fresh(self) -> FreshlySmoothed:
        """The same average with noise that is drawn anew at every call, for attacks."""
        return FreshlySmoothed(self.inner, self.over, self.draws, self.seed)

    def normal(self, maps: tf.Tensor) -> tf.Tensor:
        """What decides the noisy versions, (draws, N, N)."""
        seed = seeds.stateless(self.seed, "smoothing")
        return tf.random.stateless_normal((self.draws, *maps.shape[1:]), seed, dtype=maps.dtype)

    def _average(self, maps: tf.Tensor) -> Any:
        noisy = [self.over(maps, one) for one in tf.unstack(self.normal(maps))]
        every = self.inner(tf.concat(noisy, axis=0))
        if mixture_shape(every) is None:
            return pooled([self.inner(one) for one in noisy])
        return mixture(*(_regrouped(part, self.draws) for part in _weighted(every)))


class FreshlySmoothed(Smoothed):
    """`Smoothed` with other noise at every call, also within a graph.

    An attack on it follows the expectation over the noise (Athalye et al. 2018, arXiv:1707.07397),
    not one draw of it. Two objects with the same arguments draw the same sequence.
    """

    def __init__(self, inner: Posterior, over: Blur, draws: int = 16, seed: int = 0) -> None:
        super().__init__(inner, over, draws, seed)
        self._generator = tf.random.Generator.from_seed(seeds.integer(seed, "fresh smoothing"))

    def normal(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Smoothed`; other numbers at every call."""
        return self._generator.normal((self.draws, *maps.shape[1:]), dtype=maps.dtype)


def _weighted(mixed: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The parameters of a mixture, its weights normalised: each draw counts the same."""
    means, scales, logits = parameters(mixed)
    return means, scales, tf.nn.log_softmax(logits)


def _regrouped(values: tf.Tensor, draws: int) -> tf.Tensor:
    """(draws * batch, m, ...) to (batch, draws * m, ...)."""
    apart = tf.reshape(values, (draws, -1, *values.shape[1:]))
    together = tf.transpose(apart, [1, 0, *range(2, len(apart.shape))])
    return tf.reshape(together, (-1, draws * values.shape[1], *values.shape[2:]))
