"""Can two sets of vectors be told apart? AUROC, a linear discriminant, T^2 and MMD.

Permutation p-values are (1 + number of permutations at least as extreme) / (1 + PERMUTATIONS)
(Phipson & Smyth 2010, arXiv:1603.05766): never zero, and uniform where there is no difference.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.spatial.distance import pdist, squareform

from spurious import seeds

PERMUTATIONS = 1999


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


def mean_test(first: np.ndarray, second: np.ndarray, seed: int) -> float:
    """P-value of a difference between the means of two independent samples.

    A permutation test of n m / (n + m) |difference of the means|^2: Hotelling's T^2 for vectors
    whose covariance within a sample is the unit matrix.

    Args:
        first: (n, d), whitened.
        second: (m, d), whitened.
        seed: root of the permutations.
    """
    joined = np.concatenate([first, second])
    joined = joined - joined.mean(axis=0)
    # With the joint mean zero, the sum over one sample determines the difference of the means.
    belongs = _deals(len(first), len(second), seed, "mean test")
    values = ((belongs @ joined) ** 2).sum(axis=1)
    return _p_value(values)


def mmd_test(first: np.ndarray, second: np.ndarray, seed: int) -> tuple[float, float]:
    """Squared maximum mean discrepancy of two independent samples and its p-value.

    The unbiased estimate of Gretton et al. (2012), JMLR 13, 723, eq. 3, which can be negative,
    with the kernel exp(-|x - y|^2 / (2 h^2)), h the median distance between two vectors of both
    samples; permutation test.

    Args:
        first: (n, d), n > 1.
        second: (m, d), m > 1.
        seed: root of the permutations.
    """
    n, m = len(first), len(second)
    squared = pdist(np.concatenate([first, second]), "sqeuclidean")
    width = max(float(np.median(np.sqrt(squared))), np.finfo(float).tiny ** 0.5)
    kernel = squareform(np.exp(-squared / (2 * width**2)))  # zero, not one, on the diagonal
    belongs = _deals(n, m, seed, "MMD test")
    within = ((belongs @ kernel) * belongs).sum(axis=1)
    across = belongs @ kernel.sum(axis=1) - within
    outside = kernel.sum() - within - 2 * across
    values = within / (n * (n - 1)) + outside / (m * (m - 1)) - 2 * across / (n * m)
    return float(values[0]), _p_value(values)


@lru_cache(maxsize=4)  # a test of many perturbations of the same maps draws the same
def _deals(n: int, m: int, seed: int, purpose: str) -> np.ndarray:
    """Which of n + m vectors are in the first sample: first as it is, then at random; float."""
    belongs = np.zeros((1 + PERMUTATIONS, n + m))
    belongs[:, :n] = 1
    seeds.generator(seed, purpose).permuted(belongs[1:], axis=1, out=belongs[1:])
    belongs.setflags(write=False)
    return belongs


def _p_value(values: np.ndarray) -> float:
    """Of the first value among all, larger ones being more extreme."""
    # Rounding must not make a permutation of equal value less extreme than the sample itself.
    slack = 1e-12 * np.abs(values).max()
    return float(np.mean(values >= values[0] - slack))
