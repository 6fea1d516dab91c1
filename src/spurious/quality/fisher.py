"""What the power spectrum can tell at best: the Fisher matrix of ln P(k), from simulations.

    F_ij = (d mu / d theta_i)^T C^-1 (d mu / d theta_j)

with the mean mu(theta) and the covariance C of ln P(k) of `spurious.posteriors.emulator`, the same
as the likelihood's. The derivatives are those of the polynomial mean, so that any design will do,
grid or not, and each node has its own matrix. On a grid `from_differences` takes differences of
the mean ln P(k) between neighbouring nodes instead; with ten maps a node their noise holds several
times the information of the signal, so that only the mean matrix over all nodes is of use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spurious.errors import UserError
from spurious.posteriors.emulator import Emulator, emulate, hartlap


@dataclass(frozen=True)
class Forecast:
    """Cramer-Rao bounds at the nodes of a design.

    Attributes:
        ranges: (low, high) of each of the p parameters, by name.
        nodes: parameters at which the matrices hold, (n_nodes, p).
        fisher: Fisher matrix of one map at each, (n_nodes, p, p), in 1 / (unit of i x unit of j).
        degree: of the polynomial whose derivatives were taken.
    """

    ranges: dict[str, tuple[float, float]]
    nodes: np.ndarray
    fisher: np.ndarray
    degree: int

    @property
    def sigma(self) -> np.ndarray:
        """Smallest standard deviation of an unbiased estimate, all else unknown: (n_nodes, p).

        It knows no prior, and may be larger than the box.
        """
        return _sigma(self.fisher)

    @property
    def sigma_with_prior(self) -> np.ndarray:
        """The same for the best linear estimate that knows the prior's variance: (n_nodes, p).

        Its error has the covariance (F + V^-1)^-1, with the variances V = width^2 / 12 of the flat
        prior; of all linear estimates none has less on average over the prior, were F the same
        everywhere.
        """
        low, high = np.transpose(list(self.ranges.values()))
        return _sigma(self.fisher + np.diag(12 / (high - low) ** 2))

    @property
    def rmse(self) -> dict[str, float]:
        """Root mean square of `sigma` over the nodes, by parameter."""
        return self._rms(self.sigma)

    @property
    def rmse_with_prior(self) -> dict[str, float]:
        """Root mean square of `sigma_with_prior` over the nodes: what a test RMSE compares to."""
        return self._rms(self.sigma_with_prior)

    def _rms(self, sigma: np.ndarray) -> dict[str, float]:
        return dict(zip(self.ranges, np.sqrt(np.mean(sigma**2, axis=0)).tolist(), strict=True))


def forecast(
    labels: np.ndarray,
    log_power: np.ndarray,
    ranges: Mapping[str, Sequence[float]],
    degree: int | None = None,
    nodes: np.ndarray | None = None,
) -> Forecast:
    """Fisher forecast for one map, without the bias of noisy derivatives (`fisher_matrices`).

    Args:
        labels: parameters of the simulations, (n, p).
        log_power: ln P(k) of their maps' contrast, (n, b).
        ranges: parameter name -> (low, high), in the order of the labels.
        degree: of the polynomial mean; by default the one that cross-validation chooses, or the
            next lower one that leaves all matrices positive.
        nodes: where to forecast, (n_nodes, p); by default at each different row of `labels`.

    Raises:
        UserError: there are too few simulations for the fit, or a matrix is not positive: the
            noise of its derivatives is larger than what they tell.
    """
    box = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
    nodes = np.unique(labels, axis=0) if nodes is None else np.asarray(nodes, np.float64)
    fitted = emulate(log_power, labels, list(box.values()), degree)
    fisher = fisher_matrices(fitted, nodes)
    while degree is None and _not_positive(fisher) and fitted.degree > 1:
        fitted = emulate(log_power, labels, list(box.values()), fitted.degree - 1)
        fisher = fisher_matrices(fitted, nodes)
    if bad := _not_positive(fisher):
        raise UserError(
            f"{bad} of {len(nodes)} Fisher matrices are not positive: {len(labels)} simulations "
            f"are too few for derivatives of degree {fitted.degree}"
        )
    return Forecast(box, nodes, fisher, fitted.degree)


def fisher_matrices(fitted: Emulator, nodes: np.ndarray) -> np.ndarray:
    """Unbiased Fisher matrices at `nodes` (n_nodes, p): (n_nodes, p, p), not always positive.

    The noise of the estimated derivatives D makes E[D^T C^-1 D] exceed the truth by
    tr(C^-1 Cov(noise)), which for b entries is b times the derivatives' variance in units of C;
    that is subtracted. The inverse covariance has the Hartlap correction. Both hold for Gaussian
    data.
    """
    slope = fitted.derivative(nodes)
    noise = len(fitted.covariance) * fitted.derivative_spread(nodes)
    return slope @ fitted.precision @ slope.swapaxes(1, 2) - noise


def from_differences(
    labels: np.ndarray, log_power: np.ndarray, ranges: Mapping[str, Sequence[float]]
) -> Forecast | None:
    """The forecast of finite differences between the nodes of a grid: a check of `forecast`.

    Args:
        labels: parameters of the simulations, (n, p).
        log_power: ln P(k) of their maps' contrast, (n, b).
        ranges: parameter name -> (low, high) of the prior, in the order of the labels.

    Returns:
        One matrix for each interior value of the first parameter (`difference_matrices`), with nan
        for the other parameters of its "node"; None if the design is no grid with at least three
        nodes a parameter, or has too few maps a node: some fifty are needed.
    """
    fisher = difference_matrices(labels, log_power)
    if fisher is None or _not_positive(fisher):
        return None
    box = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
    nodes = np.full((len(fisher), len(box)), np.nan)
    nodes[:, 0] = np.unique(labels[:, 0])[1:-1]
    return Forecast(box, nodes, fisher, 1)


def difference_matrices(labels: np.ndarray, log_power: np.ndarray) -> np.ndarray | None:
    """Unbiased Fisher matrices of a grid, from central differences between its nodes.

    At each interior node the derivatives are central differences of the mean ln P(k) of the maps
    at its neighbours, and the covariance is that of all maps with the node's value of the first
    parameter (Omega_m, along which the scatter of ln P changes most) about their nodes' means. The
    noise of the means adds tr(C^-1 (C_+ / n_+ + C_- / n_-)) / (2 h)^2 to F_ii, which is subtracted.
    One node alone is mostly noise: matrices are averaged over the nodes that share a covariance.

    Args:
        labels: parameters of the simulations, (n, p).
        log_power: data vectors, (n, b).

    Returns:
        (k - 2, p, p) for k values of the first parameter; None if the design is no grid with at
        least three nodes a parameter and two maps a node, or the covariances need more maps.
    """
    grid = _grid(labels)
    if grid is None:
        return None
    axes, place, counts = grid
    n_bins, shape = log_power.shape[1], counts.shape
    means = np.zeros((counts.size, n_bins))
    np.add.at(means, place, log_power)
    means /= counts.reshape(-1, 1)
    residuals, row = log_power - means[place], np.unravel_index(place, shape)[0]
    dof = counts.reshape(shape[0], -1).sum(axis=1) - counts[0].size
    if dof.min() <= n_bins + 1:
        return None
    covariances = np.stack(
        [residuals[row == i].T @ residuals[row == i] / dof[i] for i in range(shape[0])]
    )
    precisions = np.stack(
        [hartlap(n, n_bins) * np.linalg.inv(c) for n, c in zip(dof, covariances, strict=True)]
    )
    means = means.reshape(*shape, n_bins)
    return np.stack(
        [
            _mean_matrix(means[i - 1 : i + 2], counts[i - 1 : i + 2], covariances[i - 1 : i + 2],
                         precisions[i], [axes[0][i - 1 : i + 2], *axes[1:]])
            for i in range(1, shape[0] - 1)
        ]
    )  # fmt: skip


def _mean_matrix(
    means: np.ndarray,
    counts: np.ndarray,
    covariances: np.ndarray,
    precision: np.ndarray,
    axes: Sequence[np.ndarray],
) -> np.ndarray:
    """Mean Fisher matrix of the interior nodes of the middle of three values of the first axis.

    Args:
        means: mean data vectors, (3, ..., b).
        counts: maps a node, (3, ...).
        covariances: of the data at each of the three values, (3, b, b).
        precision: inverse of the middle one, unbiased, (b, b).
        axes: values along each axis.
    """
    noise_at = np.einsum("ab,vba->v", precision, covariances)
    noise_at[1] = len(precision)  # what Hartlap's factor makes of it on average
    inner = (slice(1, 2), *(slice(1, -1) for _ in axes[1:]))
    slopes, noises = [], []
    for i, values in enumerate(axes):
        after = tuple(slice(2, None) if j == i else part for j, part in enumerate(inner))
        before = tuple(slice(None, -2) if j == i else part for j, part in enumerate(inner))
        width = (values[2:] - values[:-2]).reshape([-1 if j == i else 1 for j in range(len(axes))])
        slopes.append((means[after] - means[before]) / width[..., None])
        above, below = noise_at[[2, 0]] if i == 0 else noise_at[[1, 1]]
        noises.append(np.mean((above / counts[after] + below / counts[before]) / width**2))
    slope = np.stack(slopes, axis=-2).reshape(-1, len(axes), means.shape[-1])
    return np.mean(slope @ precision @ slope.swapaxes(1, 2), axis=0) - np.diag(noises)


def _grid(labels: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, np.ndarray] | None:
    """Values along each axis, flat number of each map's node, and maps a node; None if no grid."""
    found = [np.unique(column, return_inverse=True) for column in labels.T]
    axes, shape = [values for values, _ in found], tuple(len(values) for values, _ in found)
    if min(shape) < 3 or np.prod(shape) * 2 > len(labels):
        return None
    place = np.ravel_multi_index([inverse.reshape(-1) for _, inverse in found], shape)
    counts = np.bincount(place, minlength=int(np.prod(shape)))
    return (axes, place, counts.reshape(shape)) if counts.min() >= 2 else None


def _not_positive(matrices: np.ndarray) -> int:
    return int(np.sum(np.linalg.eigvalsh(matrices)[:, 0] <= 0))


def _sigma(fisher: np.ndarray) -> np.ndarray:
    return np.sqrt(np.diagonal(np.linalg.inv(fisher), axis1=1, axis2=2))
