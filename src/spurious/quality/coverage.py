"""Whether posteriors are honest: does a credible region of 68 % hold the truth 68 % of the time?

Three tests, each on maps whose true parameters are known:

==================  ========================================================================
`pit`               each parameter alone: its marginal CDF at the truth is uniform if honest
`sbc_ranks`         the same by samples: ranks of the truths (Talts et al. 2018)
`tarp`              all parameters at once, so that wrong correlations show (Lemos et al. 2023)
==================  ========================================================================

All are necessary conditions: a posterior equal to the prior passes them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from spurious import seeds
from spurious.bootstrap import bootstrap_weights, ends, equal_weights
from spurious.densities.divergences import Pooled
from spurious.densities.grid import Gridded
from spurious.densities.mixtures import parameters

tfd = tfp.distributions

LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Tarp:
    """Expected coverage of joint credible regions, from `tarp`.

    Attributes:
        levels: credibility levels alpha, (n_levels,).
        ecp: expected coverage probability at each level; equal to the level if honest.
        low: lower end of its 95 % bootstrap interval, level by level.
        high: upper end.
        deviation: max over the levels of |ECP - alpha|.
        p_value: probability of a deviation as large or larger if the posteriors are honest, from
            the bootstrap; its smallest value is 1 / (RESAMPLES + 1).
    """

    levels: np.ndarray
    ecp: np.ndarray
    low: np.ndarray
    high: np.ndarray
    deviation: float
    p_value: float

    @property
    def summary(self) -> dict[str, float]:
        """The two numbers that sum it up, JSON-able."""
        return {"deviation": self.deviation, "p_value": self.p_value}


def pit(distribution: Any, truth: np.ndarray, n_samples: int = 4096, seed: int = 0) -> np.ndarray:
    """Probability integral transform: each parameter's marginal CDF at the truth, shape (n, p).

    Uniform on [0, 1] if the posteriors are honest. Exact for mixtures of Gaussians, for densities
    on a grid and for pools of these; for other distributions the fraction of `n_samples` draws
    below the truth.
    """
    if isinstance(distribution, Gridded):
        return distribution.marginal_cdf(truth).numpy()
    if isinstance(distribution, Pooled):
        return np.mean([pit(one, truth, n_samples, seed) for one in distribution.members], axis=0)
    try:
        return _mixture_cdf(truth, *parameters(distribution))
    except ValueError:  # no mixture of Gaussians
        return np.mean(_below(distribution, truth, n_samples, seed), axis=0)


def credible_coverage(pit: np.ndarray, levels: np.ndarray = LEVELS) -> np.ndarray:
    """Share of truths inside the central credible interval of each level, (n_levels, p).

    Args:
        pit: from `pit`, (n, p).
        levels: probabilities of the intervals, (n_levels,).
    """
    inside = 2 * np.abs(np.asarray(pit)[None] - 0.5) <= np.asarray(levels)[:, None, None]
    return inside.mean(axis=1)


def sbc_ranks(
    distribution: Any, truth: np.ndarray, n_samples: int = 99, seed: int = 0
) -> np.ndarray:
    """Simulation-based calibration: number of posterior draws below each truth, (n, p).

    Uniform on 0, ..., `n_samples` if the posteriors are honest. A histogram of the ranks that is
    high in the middle tells of posteriors too wide, at both ends too narrow, aslant biased.
    Choose bins that divide n_samples + 1; then each holds a binomial number of the n ranks
    (`spurious.bootstrap.binomial_band`). Talts et al. (2018), arXiv:1804.06788, algorithm 1.
    """
    return np.sum(_below(distribution, truth, n_samples, seed), axis=0)


def tarp(
    distribution: Any,
    truth: np.ndarray,
    ranges: Mapping[str, tuple[float, float]],
    n_samples: int = 500,
    seed: int = 0,
    groups: np.ndarray | None = None,
    levels: np.ndarray = LEVELS,
) -> Tarp:
    """Tests of Accuracy with Random Points: coverage of all parameters jointly.

    For each map a reference point is drawn in the prior's box, with its sides scaled to one. The
    share f of posterior samples nearer to it than the truth is uniform if the posteriors are
    honest; the expected coverage at level alpha is the share of maps with f <= alpha. It lies
    below alpha on the left and above on the right if posteriors are too wide, the other way round
    if they are too narrow or biased. Lemos et al. (2023), arXiv:2302.03026, algorithm 2.

    Args:
        distribution: batch_shape (n,), event_shape (p,).
        truth: (n, p).
        ranges: parameter name -> (low, high) of the prior, in the order of the last axis.
        n_samples: posterior draws per map.
        seed: root seed of reference points, draws and resamples.
        groups: number of the simulation that each map is of, (n,): maps of one simulation are
            resampled together.
        levels: credibility levels, increasing within [0, 1].

    Raises:
        ValueError: shapes do not agree.
    """
    truth = checked(distribution, truth, list(ranges))
    share = _nearer(distribution, truth, ranges, n_samples, seed)
    inside = (share[:, None] <= levels).astype(np.float64)
    weights = bootstrap_weights(len(truth), seed, groups)
    ecp, resampled = (equal_weights(weights) @ inside)[0], weights @ inside
    low, high = ends(resampled)
    deviation = float(np.max(np.abs(ecp - levels)))
    # How far resamples lie from the sample tells how far the sample would from the diagonal.
    chance = np.max(np.abs(resampled - ecp), axis=1)
    p_value = (1 + np.sum(chance >= deviation)) / (1 + len(chance))
    return Tarp(np.asarray(levels), ecp, low, high, deviation, float(p_value))


def checked(distribution: Any, truth: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The truth in double precision.

    Raises:
        ValueError: there are no maps, or its shape is not the distribution's, or the names not
            as many as parameters.
    """
    shape = (*distribution.batch_shape, *distribution.event_shape)
    truth = np.asarray(truth, np.float64)
    if truth.shape != shape or len(names) != shape[-1] or len(truth) == 0:
        raise ValueError(
            f"truth has shape {truth.shape} and there are {len(names)} names, "
            f"for posteriors of shape {shape}"
        )
    return truth


def _mixture_cdf(truth: np.ndarray, means: Any, scales: Any, logits: Any) -> np.ndarray:
    """Marginal CDFs of `mixtures.mixture(means, scales, logits)`, (n, p)."""
    if scales.shape.rank == means.shape.rank + 1:  # Cholesky factors L: variances diag(L L^T)
        scales = tf.sqrt(tf.reduce_sum(scales**2, axis=-1))
    weights = tf.nn.softmax(logits)[..., None]
    levels = tfd.Normal(means, scales).cdf(tf.cast(truth, means.dtype)[:, None])
    return tf.reduce_sum(weights * levels, axis=1).numpy()


def _below(distribution: Any, truth: np.ndarray, n_samples: int, seed: int) -> np.ndarray:
    """Which draws lie below the truth in each parameter, (n_samples, n, p)."""
    samples = distribution.sample(n_samples, seed=seeds.stateless(seed, "coverage")).numpy()
    return samples < np.asarray(truth, samples.dtype)


def _nearer(
    distribution: Any,
    truth: np.ndarray,
    ranges: Mapping[str, tuple[float, float]],
    n_samples: int,
    seed: int,
) -> np.ndarray:
    """Share of draws nearer to a map's reference point than its truth is, (n,)."""
    low, high = np.array(list(ranges.values()), np.float64).T
    draw = seeds.generator(seed, "tarp")
    reference = draw.random(truth.shape)
    samples = distribution.sample(n_samples, seed=seeds.stateless(seed, "tarp")).numpy()
    distance, limit = (
        np.linalg.norm((points - low) / (high - low) - reference, axis=-1)
        for points in (samples, truth)
    )
    rank = np.sum(distance < limit, axis=0)
    # A uniform number within its step makes the share of an honest posterior exactly uniform.
    return (rank + draw.random(len(truth))) / (n_samples + 1)
