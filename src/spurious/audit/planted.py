"""A posterior with a known weakness."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from spurious import seeds
from spurious.audit.measurement import Listener
from spurious.perturbations.base import like, possible
from spurious.posteriors.posterior import Posterior

DISTANCE = 10.0  # clean standard deviations by which the pattern moves the mean


class Planted(Posterior):
    """A Gaussian with another posterior's mean and widths, whose mean also follows a pattern.

    With the pattern t of plus or minus one, drawn at random,

        mean = mean of the original + DISTANCE std <x, t> / (epsilon N^2),

    so x + epsilon t, which lies in the ball, moves the mean of every parameter by `DISTANCE`
    standard deviations, whatever else it does to the original; noise of the same size moves it by
    only `DISTANCE` / N.

    Args:
        original: the posterior that receives the weakness.
        epsilon: size of the pattern, counts.
        seed: draws the pattern.
    """

    def __init__(self, original: Posterior, epsilon: float, seed: int = 0) -> None:
        self.names, self.standardiser = original.names, original.standardiser
        self._original, self._epsilon, self._seed = original, epsilon, seed

    def __call__(self, maps: Any) -> Any:
        """See `Posterior`."""
        maps = tf.convert_to_tensor(maps)
        before = self._original(maps)
        overlap = tf.reduce_mean(maps * self._pattern(maps), axis=(1, 2)) / self._epsilon
        shift = DISTANCE * tf.cast(overlap, before.dtype)[:, None]
        std = before.stddev()
        return tfp.distributions.MultivariateNormalDiag(before.mean() + shift * std, std)

    def examples(self, maps: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The maps with the pattern added, and with it taken away."""
        maps = tf.convert_to_tensor(maps)
        change = self._epsilon * self._pattern(maps)
        return possible(maps + change), possible(maps - change)

    def _pattern(self, maps: tf.Tensor) -> tf.Tensor:
        signs = seeds.generator(self._seed, "planted").integers(0, 2, maps.shape[1:])
        return like(2.0 * signs - 1.0, maps)


def known(heard: Listener, planted: Planted, maps: Any) -> np.ndarray:
    """Damage by the pattern, with the better of both signs: KL(perturbed || clean), (n,)."""
    return np.max([heard(one).kl for one in planted.examples(maps)], axis=0)
