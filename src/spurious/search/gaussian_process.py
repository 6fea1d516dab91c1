"""A Gaussian process that learns from values and from gradients, for few points in [0, 1]^d.

The covariance of values is Matern's with nu = 5/2 and one length a coordinate; that of gradients is
its derivative (Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning", Eq. 4.17 and
Sec. 9.4). With u = x / length, D = u - u', s = sqrt(5) |D| and e = exp(-s):

    cov(f, f')           = (1 + s + s^2 / 3) e
    cov(f, df'/du'_j)    = 5/3 (1 + s) e D_j
    cov(df/du_i, df'/du'_j) = 5/3 e ((1 + s) [i = j] - 5 D_i D_j)

all of it times one variance. Mean and variance have closed-form estimates; the lengths and two
nuggets, for values and for gradients, maximise the marginal likelihood. The nugget of gradients is
what lets the process live with kinks, where a gradient says little of the next point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

ROOT5 = np.sqrt(5.0)
FIRST_LENGTH = 0.5
LENGTHS = (0.03, 10.0)
NUGGETS = (1e-7, 1.0)  # relative to the variance of the process
FIRST_NUGGETS = (1e-6, 1e-3)
SPREAD = 1.0  # of the prior on the logarithms of lengths: data that say nothing leave them be
ITERATIONS = 40
SMALLEST_VARIANCE = 1e-30  # of data that are all alike


@dataclass(frozen=True)
class Data:
    """Points (n, d) with values and derivatives, one row for each in blocks of n."""

    points: np.ndarray
    observed: np.ndarray  # (1 + d, n), NaN where unknown

    @classmethod
    def of(cls, points: np.ndarray, values: np.ndarray, gradients: np.ndarray) -> Data:
        """From `points` (n, d), `values` (n,) and `gradients` (n, d)."""
        return cls(points, np.vstack([values, gradients.T]))

    def joined(self, other: Data) -> Data:
        """These points and those."""
        return Data(
            np.vstack([self.points, other.points]), np.hstack([self.observed, other.observed])
        )

    @property
    def known(self) -> np.ndarray:
        """Which of the (1 + d) n rows were observed."""
        return np.isfinite(self.observed).ravel()

    def scaled(self, lengths: np.ndarray) -> np.ndarray:
        """What is known, derivatives by u = x / length."""
        return (self.observed * np.append(1.0, lengths)[:, None]).ravel()[self.known]

    def select(self, row: int) -> np.ndarray:
        """1 for the known rows of value (0) or of derivative i (1 + i), else 0."""
        return np.repeat(np.arange(len(self.observed)) == row, len(self.points))[self.known] * 1.0


@dataclass(frozen=True)
class GaussianProcess:
    """What `fit` returns.

    Attributes:
        data: what was observed.
        lengths: (d,).
        nuggets: of values and of gradients, relative to the variance.
        mean: constant mean.
        variance: of the process.
        inverse: inverse covariance of what was observed, without the variance.
        weights: that, times what was observed less the mean.
    """

    data: Data
    lengths: np.ndarray
    nuggets: tuple[float, float]
    mean: float
    variance: float
    inverse: np.ndarray
    weights: np.ndarray

    def predict(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the values at `points` (m, d), without nugget."""
        difference = (points[:, None] - self.data.points[None]) / self.lengths
        cross = _values_and_all(difference)[:, self.data.known]
        return self._mean(cross), self._deviation(cross)

    def slope(self, point: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """At one point (d,): mean, standard deviation, and the gradients (d,) of both."""
        cross = _covariance((point[None, None] - self.data.points[None]) / self.lengths)
        cross = cross.reshape(len(point) + 1, -1)[:, self.data.known]
        mean, deviation = self._mean(cross[:1]), self._deviation(cross[:1])
        of_variance = -2 * self.variance * cross[1:] @ (self.inverse @ cross[0])
        return (
            float(mean[0]),
            float(deviation[0]),
            cross[1:] @ self.weights / self.lengths,
            of_variance / (2 * deviation[0]) / self.lengths,
        )

    def with_values(self, points: np.ndarray, values: np.ndarray) -> GaussianProcess:
        """The same process after values were seen at more points, (m, d) and (m,)."""
        seen = self.data.joined(Data.of(points, values, np.full(points.shape, np.nan)))
        return _solved(seen, self.lengths, self.nuggets, self.mean, self.variance)

    def _mean(self, cross: np.ndarray) -> np.ndarray:
        return self.mean + cross @ self.weights

    def _deviation(self, cross: np.ndarray) -> np.ndarray:
        explained = np.einsum("ij,jk,ik->i", cross, self.inverse, cross, optimize=True)
        return np.sqrt(self.variance * np.maximum(1 - explained, 1e-12))


def fit(points: np.ndarray, values: np.ndarray, gradients: np.ndarray) -> GaussianProcess:
    """The process with the lengths and nuggets of largest marginal likelihood.

    Args:
        points: (n, d) in [0, 1]^d, n >= 1.
        values: (n,), finite.
        gradients: (n, d); NaN where unknown.
    """
    data = Data.of(points, values, gradients)
    d = points.shape[1]
    first = np.log([*[FIRST_LENGTH] * d, *FIRST_NUGGETS])
    bounds = [tuple(np.log(LENGTHS))] * d + [tuple(np.log(NUGGETS))] * 2
    found = minimize(
        _negative_log_evidence,
        first,
        args=(data,),
        jac=True,
        bounds=bounds,
        method="L-BFGS-B",
        options={"maxiter": ITERATIONS, "ftol": 1e-6},
    )
    best = np.exp(found.x if np.isfinite(found.fun) else first)
    return _solved(data, best[:d], (float(best[d]), float(best[d + 1])))


def _solved(
    data: Data,
    lengths: np.ndarray,
    nuggets: tuple[float, float],
    mean: float | None = None,
    variance: float | None = None,
) -> GaussianProcess:
    matrix, observed = _matrix(data, lengths, nuggets), data.scaled(lengths)
    inverse = cho_solve(cho_factor(matrix), np.eye(len(matrix)))
    constant = data.select(0)
    if mean is None:
        mean = _constant_mean(inverse, constant, observed)
    weights = inverse @ (observed - mean * constant)
    if variance is None:
        variance = float((observed - mean * constant) @ weights / len(observed))
    return GaussianProcess(
        data, lengths, nuggets, mean, max(variance, SMALLEST_VARIANCE), inverse, weights
    )


def _constant_mean(inverse: np.ndarray, constant: np.ndarray, observed: np.ndarray) -> float:
    """Generalised least squares."""
    return float(constant @ inverse @ observed / (constant @ inverse @ constant))


def _negative_log_evidence(logs: np.ndarray, data: Data) -> tuple[float, np.ndarray]:
    """-log marginal likelihood less the prior, and its gradient, by log lengths and log nuggets."""
    d = data.points.shape[1]
    lengths, nuggets = np.exp(logs[:d]), np.exp(logs[d:])
    matrix = _matrix(data, lengths, (nuggets[0], nuggets[1]))
    observed, constant = data.scaled(lengths), data.select(0)
    try:
        factor = cho_factor(matrix)
    except np.linalg.LinAlgError:
        return np.inf, np.zeros_like(logs)
    inverse = cho_solve(factor, np.eye(len(matrix)))
    residual = observed - _constant_mean(inverse, constant, observed) * constant
    weights = inverse @ residual
    variance = max(float(residual @ weights / len(residual)), SMALLEST_VARIANCE)
    derivatives = np.array([data.select(1 + i) for i in range(d)])
    prior = (logs[:d] - np.log(FIRST_LENGTH)) / SPREAD
    value = (
        0.5 * len(residual) * np.log(variance)
        + np.log(np.diag(factor[0])).sum()
        - derivatives.sum(axis=1) @ logs[:d]  # densities of derivatives by x, not by u
        + 0.5 * prior @ prior
    )
    full = np.zeros((len(data.known),) * 2)
    full[np.ix_(data.known, data.known)] = inverse - np.outer(weights, weights) / variance
    gradient = 0.5 * _traces(data.points, lengths, full)
    gradient += derivatives @ (weights * observed) / variance - derivatives.sum(axis=1)
    gradient += prior / SPREAD
    noise = 0.5 * np.diag(full)[data.known] * np.where(constant > 0, nuggets[0], nuggets[1])
    return value, np.array([*gradient, noise @ constant, noise @ (1 - constant)])


def _matrix(data: Data, lengths: np.ndarray, nuggets: tuple[float, float]) -> np.ndarray:
    """Covariance of all that is known, nuggets included, without the variance."""
    difference = (data.points[:, None] - data.points[None]) / lengths
    size = len(data.known)
    matrix = _covariance(difference).reshape(size, size)[np.ix_(data.known, data.known)]
    return matrix + np.diag(np.where(data.select(0) > 0, *nuggets))


def _decay(difference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s = ROOT5 * np.sqrt(np.sum(difference**2, axis=-1))
    return s, np.exp(-s)


def _values_and_all(difference: np.ndarray) -> np.ndarray:
    """Covariance of values at m points with values and derivatives at n, (m, (1 + d) n)."""
    s, decay = _decay(difference)
    slope = 5 / 3 * ((1 + s) * decay)[..., None] * difference
    blocks = np.concatenate([((1 + s + s**2 / 3) * decay)[..., None], slope], axis=-1)
    return np.moveaxis(blocks, -1, 1).reshape(len(difference), -1)


def _covariance(difference: np.ndarray) -> np.ndarray:
    """Covariance (1 + d, m, 1 + d, n) for scaled differences (m, n, d)."""
    m, n, d = difference.shape
    s, decay = _decay(difference)
    delta = np.moveaxis(difference, -1, 0)
    slope = 5 / 3 * (1 + s) * decay * delta
    blocks = np.empty((1 + d, m, 1 + d, n))
    blocks[0, :, 0] = (1 + s + s**2 / 3) * decay
    blocks[0, :, 1:] = np.moveaxis(slope, 0, 1)
    blocks[1:, :, 0] = -slope
    for i in range(d):
        for j in range(d):
            blocks[1 + i, :, 1 + j] = -25 / 3 * decay * delta[i] * delta[j]
        blocks[1 + i, :, 1 + i] += 5 / 3 * (1 + s) * decay
    return blocks


def _traces(points: np.ndarray, lengths: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sum of `weight` times the derivative of the covariance by each log length, (d,)."""
    n, d = points.shape
    difference = (points[:, None] - points[None]) / lengths
    delta = np.moveaxis(difference, -1, 0)
    s, decay = _decay(difference)
    ratio = decay / np.where(s > 0, s, 1.0)
    w = weight.reshape(1 + d, n, 1 + d, n)
    same = sum(w[1 + i, :, 1 + i] for i in range(d))
    along = sum(w[0, :, 1 + j] * delta[j] for j in range(d))  # mirrored below: w is symmetric
    each = [sum(w[1 + i, :, 1 + j] * delta[j] for j in range(d)) * delta[i] for i in range(d)]
    both = sum(each)
    sums = np.empty(d)
    for m in range(d):
        square = delta[m] ** 2
        value = 5 / 3 * (1 + s) * decay * square * w[0, :, 0]
        mixed = (
            25 / 3 * decay * square * along - 5 / 3 * (1 + s) * decay * delta[m] * w[0, :, 1 + m]
        )
        slopes = 25 / 3 * (decay * square * same - 5 * ratio * square * both)
        slopes += 50 / 3 * decay * each[m]
        sums[m] = np.sum(value + 2 * mixed + slopes)
    return sums
