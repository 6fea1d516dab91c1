"""How good posteriors are, on maps whose true parameters are known.

Whether their widths are calibrated, `spurious.quality.coverage` tests in more depth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from spurious.bootstrap import bootstrap_weights, interval, mean_interval
from spurious.quality.coverage import checked, pit

COVERAGES = {"coverage_68": 0.68, "coverage_95": 0.95}
EDGE = 0.1
Statistic = Callable[[np.ndarray], np.ndarray]


def metrics(
    distribution: Any,
    truth: np.ndarray,
    names: Sequence[str],
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Test metrics, by name: `nll` and `chi2`, and for each parameter `<name>_<metric>`.

    =================  =====================================================================
    `nll`              mean of -log p(truth), in nats
    `chi2`             mean of (mean - truth)^T C^-1 (mean - truth) / p, with the posterior's
                       mean and covariance C; 1 if calibrated
    `rmse`             root mean square of posterior mean - truth
    `r2`               1 - mean squared error / variance of the truth
    `relative_error`   mean of `|posterior mean - truth| / |truth|`
    `sigma`            mean standard deviation of the posterior
    `z_mean`, `z_rms`  of z = (posterior mean - truth) / standard deviation; 0 and 1 if calibrated
    `coverage_68/95`   fraction of truths inside the central 68 / 95 % credible interval
    =================  =====================================================================

    Each is {"mean", "low", "high"} with a 95 % bootstrap interval over the maps. The variance of
    the truth belongs to the design, not to chance: resamples keep it.

    Args:
        distribution: batch_shape (n,), event_shape (p,).
        truth: (n, p).
        names: the p parameters.
        seed: root seed of the resamples, and of the draws that PITs without closed form need.
        groups: number of the simulation that each map is of, (n,): maps of one simulation are
            resampled together. Default: each map is a simulation of its own.

    Raises:
        ValueError: shapes do not agree, or a parameter is the same in all maps, which
            leaves R^2 undefined.
    """
    truth = checked(distribution, truth, names)
    if np.any(np.ptp(truth, axis=0) == 0):
        raise ValueError("truth must differ between the maps in every parameter")
    weights = bootstrap_weights(len(truth), seed, groups)
    mean, sigma = distribution.mean().numpy(), distribution.stddev().numpy()
    levels = pit(distribution, truth, seed=seed)
    log_prob = np.asarray(distribution.log_prob(truth.astype(mean.dtype)), np.float64)
    distance = _squared_distance(mean - truth, np.asarray(distribution.covariance(), np.float64))
    result = {"nll": mean_interval(-log_prob, weights)}
    result["chi2"] = mean_interval(distance / truth.shape[1], weights)
    for i, name in enumerate(names):
        one = _one(mean[:, i], sigma[:, i], levels[:, i], truth[:, i])
        result |= {f"{name}_{metric}": interval(value, weights) for metric, value in one.items()}
    return result


def over_grid(
    mean: np.ndarray,
    std: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
    cells: int | None = None,
) -> dict[str, Any]:
    """Errors at each true cosmology: how they vary over the plane of parameters.

    Args:
        mean: posterior means, (n, p).
        std: posterior standard deviations, (n, p).
        truth: (n, p).
        names: the p parameters.
        cells: None gathers the maps of equal truth, as on a grid of cosmologies. A number
            gathers those in the same of `cells` equal cells a parameter between the smallest and
            the largest truth, for a design in which no two cosmologies are equal.

    Returns:
        JSON-able, lists over the k cosmologies: `n_maps`, and for each parameter's name
        {"truth", "bias", "rmse", "z_rms"}: the true value (or a cell's centre), mean and root
        mean square of posterior mean - truth, and of the same in standard deviations.
    """
    mean, std, truth = (np.asarray(a, np.float64) for a in (mean, std, truth))
    if not mean.shape == std.shape == truth.shape == (len(truth), len(names)) or len(truth) == 0:
        raise ValueError(
            f"shapes {mean.shape}, {std.shape} and {truth.shape} and {len(names)} names do not "
            "agree, or there are no maps"
        )
    places = truth if cells is None else _centres(truth, cells)
    nodes, member, n_maps = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    member = member.ravel()  # of shape (n, 1) in some versions of NumPy

    def average(values: np.ndarray) -> np.ndarray:
        return np.bincount(member, values) / n_maps

    result: dict[str, Any] = {"n_maps": n_maps.tolist()}
    for i, name in enumerate(names):
        error = mean[:, i] - truth[:, i]
        result[name] = {
            "truth": nodes[:, i].tolist(),
            "bias": average(error).tolist(),
            "rmse": np.sqrt(average(error**2)).tolist(),
            "z_rms": np.sqrt(average((error / std[:, i]) ** 2)).tolist(),
        }
    return result


def edge(
    mean: np.ndarray,
    std: np.ndarray,
    truth: np.ndarray,
    ranges: Mapping[str, tuple[float, float]],
    seed: int,
    groups: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """What the prior does: errors at the edges of its box beside those in the interior.

    A posterior's mean averages over the prior's box, which ends at the edge, so that truths
    there are pulled inward. A map is at an edge of a parameter if its truth lies within the outer
    10 % of the range (exclusive: of an 11-node grid, only the outermost nodes).

    Args:
        mean: posterior means, (n, p).
        std: posterior standard deviations, (n, p).
        truth: (n, p).
        ranges: parameter name -> (low, high) of the prior, in the order of the last axis.
        seed: root seed of the bootstrap resamples.
        groups: as in `metrics`.

    Returns:
        Parameter -> part -> {"n_maps": int, and as in `metrics` `inward`, `rmse`, `z_rms`}.
        Parts: `low` and `high` edge, `edge` (both) and `interior`; one without maps is left out.
        `inward` is the mean of posterior mean - truth, counted positive toward the middle of the
        range.
    """
    truth = np.asarray(truth, np.float64)
    result = {}
    for i, (name, (low, high)) in enumerate(ranges.items()):
        place = (truth[:, i] - low) / (high - low)
        margin = EDGE * (1 - 1e-6)  # a node at 10 % of the range may lie a rounding error inside
        at = {"low": place < margin, "high": place > 1 - margin}
        at["edge"] = at["low"] | at["high"]
        at["interior"] = ~at["edge"]
        error, sign = mean[:, i] - truth[:, i], np.where(place < 0.5, 1, -1)
        result[name] = {
            part: _part(error[rows], sign[rows], std[rows, i], seed, _take(groups, rows))
            for part, rows in at.items()
            if rows.any()
        }
    return result


def _part(
    error: np.ndarray, sign: np.ndarray, std: np.ndarray, seed: int, groups: np.ndarray | None
) -> dict[str, Any]:
    weights = bootstrap_weights(len(error), seed, groups)
    return {
        "n_maps": len(error),
        "inward": mean_interval(sign * error, weights),
        "rmse": interval(_root_mean(error**2), weights),
        "z_rms": interval(_root_mean((error / std) ** 2), weights),
    }


def _one(
    mean: np.ndarray, sigma: np.ndarray, levels: np.ndarray, truth: np.ndarray
) -> dict[str, Statistic]:
    """The metrics of one parameter, as functions of the maps' weights; arguments (n,)."""
    error = mean - truth
    inside = {name: np.abs(levels - 0.5) <= p / 2 for name, p in COVERAGES.items()}
    return {
        "rmse": _root_mean(error**2),
        "r2": _mean(1 - error**2 / np.var(truth)),
        "relative_error": _mean(np.abs(error / truth)),
        "sigma": _mean(sigma),
        "z_mean": _mean(error / sigma),
        "z_rms": _root_mean((error / sigma) ** 2),
        **{name: _mean(values.astype(float)) for name, values in inside.items()},
    }


def _mean(values: np.ndarray) -> Statistic:
    return lambda weights: weights @ values


def _root_mean(values: np.ndarray) -> Statistic:
    return lambda weights: np.sqrt(weights @ values)


def _squared_distance(error: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """e^T C^-1 e of each map, (n,), for errors (n, p) and covariances (n, p, p)."""
    return np.sum(error * np.linalg.solve(covariance, error[..., None])[..., 0], axis=1)


def _centres(truth: np.ndarray, cells: int) -> np.ndarray:
    """Centre of the cell in which each truth lies, (n, p)."""
    low, width = truth.min(axis=0), np.ptp(truth, axis=0) / cells
    number = np.minimum((truth - low) // np.where(width > 0, width, 1), cells - 1)
    return low + width * (number + 0.5)


def _take(groups: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if groups is None else np.asarray(groups)[rows]
