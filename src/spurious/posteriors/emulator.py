"""Mean and covariance of a summary of maps as functions of the parameters, from simulations.

The mean of each entry is a polynomial in the parameters, fitted by least squares. The covariance
is the same everywhere: that of the residuals of all simulations. Letting the variances vary with
the parameters and not the correlations gives overconfident posteriors where, as in P(k) of
non-Gaussian maps, both vary; and some hundreds of simulations cannot tell how the correlations do.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from threadpoolctl import threadpool_limits

from spurious import seeds
from spurious.errors import UserError

FOLDS = 10
MAX_DEGREE = 6

Ranges = Sequence[tuple[float, float]]
# Matrices here are small: beside other work, threads of the BLAS wait for each other far longer
# than they compute. Hence the limits.


@dataclass(frozen=True)
class Emulator:
    """Gaussian model of a data vector d of b entries: d ~ N(mean(theta), covariance).

    Attributes:
        ranges: (low, high) of each parameter, scaled to [-1, 1] for the polynomials.
        degree: total degree of the polynomials.
        coefficients: of the products of Legendre polynomials, (n_terms, b).
        covariance: unbiased estimate, (b, b).
        dof: its degrees of freedom, simulations minus terms.
        spread: covariance of the coefficients of one entry over the entry's variance,
            (X^T X)^-1 of the design matrix X, (n_terms, n_terms).
    """

    ranges: tuple[tuple[float, float], ...]
    degree: int
    coefficients: np.ndarray
    covariance: np.ndarray
    dof: int
    spread: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """Unbiased estimate of the inverse covariance, (b, b)."""
        return hartlap(self.dof, len(self.covariance)) * np.linalg.inv(self.covariance)

    def mean(self, theta: np.ndarray) -> np.ndarray:
        """Expected data vectors (n, b) at parameters (n, p)."""
        return _terms(theta, self.ranges, self.degree) @ self.coefficients

    def derivative(self, theta: np.ndarray) -> np.ndarray:
        """Derivatives of the mean with respect to each parameter, (n, p, b), in 1 / its unit."""
        return _term_derivatives(theta, self.ranges, self.degree) @ self.coefficients

    def derivative_spread(self, theta: np.ndarray) -> np.ndarray:
        """Covariance of the derivatives' errors over that of the data, (n, p, p).

        The error of d mean / d theta_i of entry a and that of d mean / d theta_j of entry b have
        the covariance spread_ij covariance_ab.
        """
        slope = _term_derivatives(theta, self.ranges, self.degree)
        return slope @ self.spread @ slope.swapaxes(1, 2)


def hartlap(dof: int, size: int) -> float:
    """Factor that makes the inverse of an estimated covariance unbiased.

    (n - size - 2) / (n - 1) for n = dof + 1 simulations of one model (Hartlap, Simon & Schneider
    2007, astro-ph/0608064, eq. 17; Gaussian data).

    Raises:
        ValueError: the factor is not positive; there are too few simulations.
    """
    if dof <= size + 1:
        raise ValueError(f"dof = {dof} must be above size + 1 = {size + 1}")
    return (dof - size - 1) / dof


@threadpool_limits.wrap(limits=1, user_api="blas")
def emulate(
    summaries: np.ndarray, labels: np.ndarray, ranges: Ranges, degree: int | None = None
) -> Emulator:
    """Fit the mean and the covariance of summaries.

    Args:
        summaries: a data vector a simulation, (n, b).
        labels: their parameters, (n, p).
        ranges: (low, high) of each parameter.
        degree: total degree of the polynomials; by default the one up to 6 with the largest
            predictive density of simulations at parameters that were left out (`best_degree`).

    Raises:
        UserError: too few simulations, or too few different parameters, for the degree; summaries
            that are not finite.
        ValueError: the shapes do not agree.
    """
    ranges = tuple((float(low), float(high)) for low, high in ranges)
    summaries, labels = np.asarray(summaries, np.float64), np.asarray(labels, np.float64)
    if labels.shape != (len(summaries), len(ranges)):
        raise ValueError(
            f"labels have shape {labels.shape}, expected {(len(summaries), len(ranges))}"
        )
    if bad := np.sum(~np.isfinite(summaries).all(axis=1)):
        raise UserError(f"{bad} of {len(summaries)} simulations have summaries that are not finite")
    if degree is None:
        _check(labels, summaries.shape[1], ranges, 1)
        degree = best_degree(summaries, labels, ranges)
    _check(labels, summaries.shape[1], ranges, degree)
    return _fit(summaries, labels, ranges, degree)


@threadpool_limits.wrap(limits=1, user_api="blas")
def best_degree(summaries: np.ndarray, labels: np.ndarray, ranges: Ranges) -> int:
    """Degree with the largest Gaussian log density of left-out simulations, 1 to 6.

    Ten-fold cross-validation; all simulations with the same parameters are left out together, so
    that the polynomial is judged between the nodes of a design and not on them.
    """
    nodes, place = np.unique(labels, axis=0, return_inverse=True)
    fold = seeds.generator(0, "emulator folds").permutation(len(nodes)) % FOLDS
    parts = [fold[place.ravel()] == number for number in range(min(FOLDS, len(nodes)))]
    scores = {
        degree: sum(_score(summaries, labels, ranges, degree, part) for part in parts)
        for degree in range(1, MAX_DEGREE + 1)
        if all(_determined(labels[~part], summaries.shape[1], ranges, degree) for part in parts)
    }
    return max(scores, key=scores.__getitem__) if scores else 1


def _fit(summaries: np.ndarray, labels: np.ndarray, ranges: Ranges, degree: int) -> Emulator:
    design = _terms(labels, ranges, degree)
    # By QR: X^T X would square the condition number.
    q, r = np.linalg.qr(design)
    inverse = np.linalg.inv(r)
    coefficients = inverse @ (q.T @ summaries)
    residuals = summaries - design @ coefficients
    dof = len(summaries) - design.shape[1]
    covariance = residuals.T @ residuals / dof
    return Emulator(tuple(ranges), degree, coefficients, covariance, dof, inverse @ inverse.T)


def _score(
    summaries: np.ndarray, labels: np.ndarray, ranges: Ranges, degree: int, left_out: np.ndarray
) -> float:
    """Sum of ln N(d | mean, covariance) over the left-out simulations, up to a constant."""
    fitted = _fit(summaries[~left_out], labels[~left_out], ranges, degree)
    residuals = summaries[left_out] - fitted.mean(labels[left_out])
    whitened = np.linalg.solve(np.linalg.cholesky(fitted.covariance), residuals.T)
    log_det = np.linalg.slogdet(fitted.covariance)[1]
    return -0.5 * float(np.sum(whitened**2) + len(residuals) * log_det)


def _check(labels: np.ndarray, size: int, ranges: Ranges, degree: int) -> None:
    n, n_terms = len(labels), len(_exponents(len(ranges), degree))
    needed = size + n_terms + 2
    if n < needed:
        raise UserError(
            f"{n} simulations are too few for the covariance of {size} bins and a mean of "
            f"{n_terms} coefficients: at least {needed} are needed"
        )
    if not _determined(labels, size, ranges, degree):
        raise UserError(
            f"degree = {degree}: the simulations' parameters do not determine a polynomial of "
            f"{n_terms} coefficients; choose a lower degree or more different parameters"
        )


def _determined(labels: np.ndarray, size: int, ranges: Ranges, degree: int) -> bool:
    """Whether the fit is unique and its covariance can be inverted."""
    n_terms = len(_exponents(len(ranges), degree))
    if len(labels) < size + n_terms + 2:
        return False
    return bool(np.linalg.matrix_rank(_terms(labels, ranges, degree)) == n_terms)


def _exponents(p: int, degree: int) -> list[tuple[int, ...]]:
    """Degrees in each of p parameters of every term of total degree up to `degree`."""
    every = itertools.product(range(degree + 1), repeat=p)
    return [powers for powers in every if sum(powers) <= degree]


def _terms(theta: np.ndarray, ranges: Ranges, degree: int) -> np.ndarray:
    """Products of Legendre polynomials at parameters (n, p): (n, n_terms)."""
    values = legendre.legvander(_scaled(theta, ranges), degree)
    return _products(values, _exponents(len(ranges), degree))


def _term_derivatives(theta: np.ndarray, ranges: Ranges, degree: int) -> np.ndarray:
    """Derivatives of the terms with respect to each parameter: (n, p, n_terms)."""
    scaled, exponents = _scaled(theta, ranges), _exponents(len(ranges), degree)
    values = legendre.legvander(scaled, degree)
    # Coefficients of the derivative of each polynomial in the basis of one degree less.
    slopes = legendre.legvander(scaled, max(degree - 1, 0)) @ legendre.legder(np.eye(degree + 1))
    columns = []
    for i, (low, high) in enumerate(ranges):
        factors = values.copy()
        factors[:, i] = slopes[:, i] * 2 / (high - low)
        columns.append(_products(factors, exponents))
    return np.stack(columns, axis=1)


def _products(values: np.ndarray, exponents: list[tuple[int, ...]]) -> np.ndarray:
    """Values (n, p, degree + 1) of one-dimensional polynomials to those of the terms."""
    return np.stack(
        [
            np.prod([values[:, i, power] for i, power in enumerate(powers)], axis=0)
            for powers in exponents
        ],
        axis=1,
    )


def _scaled(theta: np.ndarray, ranges: Ranges) -> np.ndarray:
    low, high = np.transpose(ranges)
    return 2 * (np.asarray(theta, np.float64) - low) / (high - low) - 1
