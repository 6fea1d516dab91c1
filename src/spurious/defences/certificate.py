"""What smoothing with Gaussian noise proves of a regression: bounds of a median.

For any function f of maps, G white Gaussian noise of standard deviation s a pixel and h_p(x) the
p-quantile of f(x + G), every change d of L2 norm at most e obeys

    h_l(x) <= h_1/2(x + d) <= h_u(x),   l = Phi(-e / s),  u = Phi(e / s)

(Chiang et al. 2020, arXiv:2007.03730, Lemma 1; after Cohen et al. 2019 for classes, whose radius
does not apply to a regression). Quantiles are known from n draws only, so the bounds are order
statistics that hold for all with probability `confidence` (binomial; their Section 4).

**Certified** is therefore the median over the noise of each parameter's posterior mean, one
parameter at a time: no change of the map within the budget moves it out of the interval. f may set
negative densities to zero after the noise, as `Noise` does: that is part of f. **Not certified**
are the mixture itself, its mean, its width, any KL divergence, and a change of any other kind, such
as smoothing over phases, whose noise is not added to the map. The median that is measured of a
perturbed map is itself an estimate from n draws.

A budget e is far from what a pixel notices: an RMS change of r a pixel has e = r N, so that noise
of s proves something up to r of about 3 s / N.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.stats import binom, norm

from spurious import seeds
from spurious.defences.smoothing import Noise, Smoothed
from spurious.progress import track


class Certified(NamedTuple):
    """Bounds of the median over the noise of the posterior mean.

    Attributes:
        median: of the map as it is, (n, p).
        low: no allowed change takes the median below, (n, p); -inf if so few draws prove nothing.
        high: nor above, (n, p); inf likewise.
        std: of the smoothed posterior of the map as it is, (n, p).
    """

    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    std: np.ndarray

    @property
    def shift(self) -> np.ndarray:
        """The largest move that is not excluded, in units of `std`, (n, p)."""
        farther = np.maximum(self.high - self.median, self.median - self.low)
        return np.asarray(farther / self.std)


def certify(
    posterior: Smoothed,
    maps: np.ndarray,
    budget: float,
    draws: int = 1000,
    confidence: float = 0.999,
) -> Certified:
    """Bounds that hold for every change of a map within an L2 ball.

    Args:
        posterior: smoothed with `Noise`.
        maps: (n, N, N) in counts.
        budget: largest root mean square of the change over a map's pixels, counts; the L2 norm is
            N times that.
        draws: of the noise, which the bounds are made of; others than the posterior's own.
        confidence: with which all bounds of a map hold.

    Raises:
        ValueError: the posterior is smoothed with something else, for which nothing is proved.
    """
    if not isinstance(posterior.over, Noise):
        raise ValueError(f"{posterior.over}: only white Gaussian noise proves anything")
    found = means(posterior, maps, draws)
    ratio = budget * maps.shape[-1] / posterior.over.rms
    low, high = ranks(draws, ratio, 1 - (1 - confidence) / (2 * len(posterior.names)))
    ends = np.full((1, *found.shape[1:]), np.inf)
    ordered = np.concatenate([-ends, np.sort(found, axis=0), ends])
    return Certified(
        np.median(found, axis=0), ordered[low], ordered[high], posterior(maps).stddev().numpy()
    )


def ranks(n: int, ratio: float, confidence: float) -> tuple[int, int]:
    """Which of n ordered draws bound the median after a change, each with this confidence.

    Counted from 1; 0 stands for minus infinity and n + 1 for infinity, where n are too few.

    Args:
        n: number of draws.
        ratio: L2 norm of the change over the standard deviation of the noise.
        confidence: of each bound.
    """
    # P(k-th smallest of n >= quantile u) = P(fewer than k draws lie below it) = Binom.cdf(k - 1).
    above = int(binom.ppf(confidence, n, norm.cdf(ratio))) + 1
    return n + 1 - above, above


def means(posterior: Smoothed, maps: np.ndarray, draws: int) -> np.ndarray:
    """The inner posterior's mean for so many draws of the noise, (draws, n, p)."""
    clean = tf.convert_to_tensor(maps)

    @tf.function(reduce_retracing=True)
    def at(normal: tf.Tensor) -> tf.Tensor:
        return posterior.inner(posterior.over(clean, normal)).mean()

    numbers = track(range(draws), name="certificate", unit="draw", delay=2)
    root = posterior.seed
    return np.stack(
        [
            at(
                tf.random.stateless_normal(
                    clean.shape[1:], seeds.stateless(root, "certificate", i), dtype=clean.dtype
                )
            ).numpy()
            for i in numbers
        ]
    )
