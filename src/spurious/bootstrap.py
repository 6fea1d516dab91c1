"""Bootstrap intervals of statistics over maps and trainings, and binomial intervals of counts.

Efron & Tibshirani (1993), An Introduction to the Bootstrap: percentile intervals. Maps of one
simulation share their initial conditions, so resamples draw simulations, with all their maps.

Where a statistic is a mean over T independent trainings of a network, both are resampled
(`Hierarchy`): simulations as above, and T - 1 of the T trainings with replacement, so that the
variance of their mean is unbiased (Rao & Wu 1988, J. Am. Stat. Assoc. 83, 231). Percentiles of so
few trainings are too narrow (Hesterberg 2015, Am. Stat. 69, 371, Section 3), so the interval is
estimate +- t s: s is the standard deviation over the resamples, and t the quantile of Student's
distribution with the degrees of freedom of Satterthwaite (1946, Biometrics Bull. 2, 110),

    1 / nu = (1 / (v_T + v_S)^2) (v_T^2 / (T - 1) + v_S^2 / (S - 1)),

with v_T and v_S the variances due to the T trainings and the S simulations. A statistic that cannot
be negative, such as a KL divergence, has its interval in the logarithm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import binom, t

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


class Hierarchy:
    """Resamples of several trainings, and of the simulations on which each was tried.

    A resample draws a simulation that several trainings share equally often for all of them. With
    one training, intervals are percentiles of the bootstrap over maps.

    Args:
        groups: for each training, the number of the simulation that each of its maps is of, (n_t,).
        seed: root seed of the resamples.

    Raises:
        ValueError: there is no training, or one without maps.
    """

    def __init__(self, groups: Sequence[np.ndarray], seed: int) -> None:
        if not groups or min(map(len, groups)) == 0:
            raise ValueError(f"{[len(group) for group in groups]} maps of each training: none is 0")
        self.groups, self.seed = [np.asarray(group) for group in groups], seed
        self.count = len(groups)

    @cached_property
    def maps(self) -> list[np.ndarray]:
        """For each training the share of each of its maps in each resample, (RESAMPLES, n_t)."""
        every = np.unique(np.concatenate(self.groups))
        shared = bootstrap_weights(len(every), self.seed)
        found = []
        for group in self.groups:
            weights = shared[:, np.searchsorted(every, group)]
            total = weights.sum(axis=1, keepdims=True)
            # A resample may hold none of the few maps of a training: then each counts the same.
            found.append(
                np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / len(group))
            )
        return found

    @cached_property
    def shares(self) -> np.ndarray:
        """Share of each training in each resample, (RESAMPLES, T)."""
        draw, drawn = seeds.generator(self.seed, "bootstrap of trainings"), max(self.count - 1, 1)
        even = np.full(self.count, 1 / self.count)
        return draw.multinomial(drawn, even, size=RESAMPLES) / drawn

    def interval(
        self, statistics: Sequence[Callable[[np.ndarray], np.ndarray]], positive: bool = False
    ) -> dict[str, float]:
        """The mean of a statistic over the trainings with its interval, of probability LEVEL.

        Args:
            statistics: of each training, its maps' weights (resamples, n_t) -> (resamples,).
            positive: whether the statistic cannot be negative.
        """
        mean, low, high = self.bounds(statistics, positive)
        return {"mean": float(mean), "low": float(low), "high": float(high)}

    def bounds(
        self, statistics: Sequence[Callable[[np.ndarray], np.ndarray]], positive: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and both ends, each (...), of statistics that are (resamples, ...)."""
        pairs = list(zip(statistics, self.maps, strict=True))
        resampled = np.stack([statistic(weights) for statistic, weights in pairs])
        found = np.stack([statistic(equal_weights(weights))[0] for statistic, weights in pairs])
        if self.count == 1:
            return (found[0], *ends(resampled[0]))
        # Rounding may take what is zero below it: then there is no logarithm.
        positive &= bool((resampled > 0).all() and (found > 0).all())
        simulations = len(np.unique(np.concatenate(self.groups)))
        return _widened(found, resampled, self.shares, simulations, positive)

    def mean_interval(
        self, values: Sequence[np.ndarray], positive: bool = False
    ) -> dict[str, float]:
        """Mean over trainings of the mean over maps of `values`, (n_t,) each, with its interval."""
        return self.interval([_mean_of(one) for one in values], positive)


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    values = np.asarray(values, np.float64)
    return lambda weights: weights @ values


def _widened(
    found: np.ndarray, resampled: np.ndarray, shares: np.ndarray, simulations: int, positive: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and ends of an interval with few trainings; see the top of the module.

    Args:
        found: of each training, (T, ...).
        resampled: of each training with its maps resampled, (T, R, ...).
        shares: of the trainings in each resample, (R, T).
        simulations: how many there are.
        positive: whether the interval is one of the logarithm.
    """
    scaled: Callable[[Any], Any] = np.log if positive else np.asarray
    estimate = found.mean(axis=0)
    joint = scaled(np.einsum("rt,tr...->r...", shares, resampled)).std(axis=0)
    of_trainings = scaled(found).var(axis=0, ddof=1) / len(found)
    of_maps = scaled(resampled.mean(axis=0)).var(axis=0)
    squares = of_trainings**2 / (len(found) - 1) + of_maps**2 / max(simulations - 1, 1)
    total = (of_trainings + of_maps) ** 2
    freedom = np.divide(total, squares, out=np.ones_like(total), where=squares > 0)
    half = t.ppf((1 + LEVEL) / 2, freedom) * joint
    low, high = scaled(estimate) - half, scaled(estimate) + half
    return (estimate, np.exp(low), np.exp(high)) if positive else (estimate, low, high)


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
