"""Intervals of statistics over maps: by resampling the maps, and of counts known to be binomial.

Efron & Tibshirani (1993), An Introduction to the Bootstrap: percentile intervals. Maps of one
simulation share their initial conditions, so resamples draw simulations, with all their maps.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import binom

from spurious import seeds

LEVEL = 0.95
RESAMPLES = 1000
AT_A_TIME = 50  # resamples drawn as integers, which need as much memory as the weights


def bootstrap_weights(n: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Share of each of n maps in each bootstrap resample, (RESAMPLES, n); every row sums to 1.

    Args:
        n: number of maps.
        seed: root seed of the resamples.
        groups: number of the simulation that each map is of, (n,); a resample holds either all
            maps of a simulation or none. Default: each map is a simulation of its own.

    Raises:
        ValueError: there are no maps, or `groups` has another shape.
    """
    group = np.arange(n) if groups is None else np.asarray(groups)
    if n < 1 or group.shape != (n,):
        raise ValueError(f"groups have shape {group.shape}, for {n} maps")
    member = np.unique(group, return_inverse=True)[1]
    count = int(member.max()) + 1
    draw = seeds.generator(seed, "bootstrap")
    weights = np.empty((RESAMPLES, n))
    for first in range(0, RESAMPLES, AT_A_TIME):
        part = weights[first : first + AT_A_TIME]
        part[:] = draw.multinomial(count, np.full(count, 1 / count), size=len(part))[:, member]
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def mean_interval(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Mean of `values` (n,) over maps with its bootstrap interval."""
    values = np.asarray(values, np.float64)
    return interval(lambda w: w @ values, weights)


def interval(
    statistic: Callable[[np.ndarray], np.ndarray], weights: np.ndarray
) -> dict[str, float]:
    """A statistic of the sample with its percentile bootstrap interval, of probability LEVEL.

    Args:
        statistic: maps' weights (resamples, n) -> value per resample (resamples,).
        weights: from `bootstrap_weights`.
    """
    low, high = ends(statistic(weights))
    return {
        "mean": float(statistic(equal_weights(weights))[0]),
        "low": float(low),
        "high": float(high),
    }


def ends(resampled: np.ndarray) -> np.ndarray:
    """Both ends of the percentile interval along the first axis: (2, ...) of (resamples, ...)."""
    return np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)


def equal_weights(weights: np.ndarray) -> np.ndarray:
    """The weights of the sample itself, (1, n), for `weights` (resamples, n)."""
    n = weights.shape[1]
    return np.full((1, n), 1 / n)


def binomial_band(n: int, share: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the central interval, of probability LEVEL at least, of the share of n maps.

    Each map counts independently with probability `share`; the ends have its shape.
    """
    low, high = (binom.ppf(q, n, share) / n for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return np.clip(low, 0, 1), np.clip(high, 0, 1)
