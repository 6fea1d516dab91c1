"""Can perturbed vectors be told from clean ones? AUROC, a linear discriminant, T^2, ranks and MMD.

Row i of both samples is the same simulation, and no test makes use of that: labels are permuted
freely, not within pairs, as if perturbed and clean maps were of different universes, as they are
for a survey. Sums of products leave out products within a fold of the simulations, where a vector
would meet its own partner. So what a test sees has no more scatter than independent samples have,
if a simulation's two vectors are not anticorrelated, and p-values are valid: uniform where the
samples are independent and alike, and rarely small where they are nearly the same.

Permutation p-values are (1 + number of permutations at least as extreme) / (1 + PERMUTATIONS)
(Phipson & Smyth 2010, arXiv:1603.05766): never zero.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.spatial.distance import pdist, squareform
from scipy.stats import norm, rankdata

from spurious import seeds

PERMUTATIONS = 4999


def auroc(clean: np.ndarray, perturbed: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probability that a perturbed map has the larger score, ties counted half.

    Args:
        clean: scores of the clean maps, (n,).
        perturbed: scores of the perturbed ones, (n,).
        weights: of the maps, the same for clean and perturbed, (r, n); need not be normalised.

    Returns:
        The area under the receiver operating characteristic for each row of weights, (r,).
    """
    order = np.argsort(clean)
    below = np.zeros((len(weights), len(clean) + 1))
    np.cumsum(weights[:, order], axis=1, out=below[:, 1:])
    first, last = (np.searchsorted(clean[order], perturbed, side) for side in ("left", "right"))
    share = (below[:, first] + below[:, last]) / 2
    return np.clip((weights * share).sum(axis=1) / weights.sum(axis=1) ** 2, 0, 1)


def discriminant(clean: np.ndarray, perturbed: np.ndarray) -> np.ndarray:
    """Direction in which perturbed vectors differ most from clean ones, (d,).

    Fisher's: S^-1 (mean of perturbed - mean of clean), S the pooled covariance within each set,
    shrunk towards a multiple of the unit matrix by d / (d + degrees of freedom of S).

    Args:
        clean: (n, d).
        perturbed: (m, d).
    """
    difference = perturbed.mean(axis=0) - clean.mean(axis=0)
    within = np.concatenate([clean - clean.mean(axis=0), perturbed - perturbed.mean(axis=0)])
    dof, d = max(len(within) - 2, 1), within.shape[1]
    covariance = within.T @ within / dof
    share = d / (d + dof)
    unit = np.eye(d) * max(np.trace(covariance) / d, np.finfo(float).tiny)
    return np.linalg.solve((1 - share) * covariance + share * unit, difference)


def mean_test(clean: np.ndarray, perturbed: np.ndarray, fold: np.ndarray, seed: int) -> float:
    """P-value of a difference between the means of perturbed and clean vectors.

    A permutation test of D_k . D_l, summed over pairs of different folds, with D_k the sum over
    fold k of perturbed minus clean: Hotelling's T^2, cross-fitted, for vectors whose covariance
    within a sample is the unit matrix.

    Args:
        clean: (n, d), whitened.
        perturbed: (n, d), whitened.
        fold: of each row, (n,), at least two different.
        seed: root of the permutations.
    """
    joined = np.concatenate([perturbed, clean])
    joined = joined - joined.mean(axis=0)
    sign, member = _signs(tuple(fold), seed, "mean test"), np.tile(fold, 2)
    total = np.zeros((len(sign), joined.shape[1]))
    within = np.zeros(len(sign))
    for one in np.unique(fold):
        difference = sign[:, member == one] @ joined[member == one]
        total += difference
        within += (difference**2).sum(axis=1)
    return _p_value((total**2).sum(axis=1) - within)


def rank_test(clean: np.ndarray, perturbed: np.ndarray, fold: np.ndarray, seed: int) -> float:
    """P-value of one number a simulation being larger, or smaller, where maps are perturbed.

    Two-sided permutation test of the sum of ranks (Mann & Whitney 1947, Ann. Math. Stat. 18, 50).

    Args:
        clean: (n,).
        perturbed: (n,).
        fold: of each row, (n,).
        seed: root of the permutations.
    """
    ranks = rankdata(np.concatenate([perturbed, clean])) - len(clean) - 0.5
    return _p_value(np.abs(_signs(tuple(fold), seed, "rank test") @ ranks))


def mmd_test(
    clean: np.ndarray, perturbed: np.ndarray, fold: np.ndarray, seed: int
) -> tuple[float, float]:
    """Squared maximum mean discrepancy of perturbed and clean vectors and its p-value.

    The unbiased estimate of Gretton et al. (2012), JMLR 13, 723, eq. 4, which can be negative,
    without terms within a fold, and with the kernel exp(-|x - y|^2 / (2 h^2)), h the median
    distance between two vectors of both samples; permutation test.

    Args:
        clean: (n, d).
        perturbed: (n, d).
        fold: of each row, (n,), at least two different.
        seed: root of the permutations.
    """
    squared = pdist(np.concatenate([perturbed, clean]), "sqeuclidean")
    width = max(float(np.median(np.sqrt(squared))), np.finfo(float).tiny ** 0.5)
    member = np.tile(fold, 2)
    other = member[:, None] != member
    kernel = squareform(np.exp(-squared / (2 * width**2))) * other
    sign = _signs(tuple(fold), seed, "MMD test")
    values = ((sign @ kernel) * sign).sum(axis=1) / (other.sum() / 4)
    return float(values[0]), _p_value(values)


def auroc_test(value: float, n: int) -> float:
    """P-value of a cross-fitted AUROC of n perturbed and n clean maps, against 1/2, one-sided.

    Normal approximation with the variance of `chance_variance`.
    """
    return float(norm.sf((value - 0.5) / np.sqrt(chance_variance(n))))


def chance_variance(n: int) -> float:
    """Variance of a cross-fitted AUROC where nothing has changed: (2 n + 1) / (6 n^2).

    Twice that of Mann and Whitney, (2 n + 1) / (12 n^2): the same chance differences between parts
    k and l help the discriminant that is trained on k and judges l and the one that does the
    reverse. With D_k that of K parts in d whitened dimensions, the score of part k is D_k . (sum of
    the other D_l) in units of its own standard deviation; scores of two parts have the correlation
    1 / (K - 1), so their mean has the variance 2 / K instead of 1 / K, for any K.
    """
    return (2 * n + 1) / (6 * n**2)


@lru_cache(maxsize=4)  # a test of many perturbations of the same maps draws the same
def _signs(fold: tuple[int, ...], seed: int, purpose: str) -> np.ndarray:
    """+1 for perturbed, -1 for clean, (1 + PERMUTATIONS, 2 n): first as it is, then at random.

    Labels are permuted within each fold, among all its vectors, so that both are as many in each.
    """
    n, member = len(fold), np.tile(fold, 2)
    sign = np.ones((1 + PERMUTATIONS, 2 * n))
    sign[:, n:] = -1
    draw = seeds.generator(seed, purpose)
    for one in np.unique(member):
        columns = np.flatnonzero(member == one)
        sign[1:, columns] = draw.permuted(sign[1:, columns], axis=1)
    sign.setflags(write=False)
    return sign


def _p_value(values: np.ndarray) -> float:
    """Of the first value among all, larger ones being more extreme."""
    # Rounding must not make a permutation of equal value less extreme than the sample itself.
    slack = 1e-12 * np.abs(values).max()
    return float(np.mean(values >= values[0] - slack))
