"""The emulator against polynomials that it must reproduce, and its errors against simulations."""

import numpy as np
import pytest
from scipy import stats

from spurious.errors import UserError
from spurious.posteriors.emulator import best_degree, emulate, hartlap

RANGES = ((0.1, 0.5), (2.0, 3.0))
SIGMA = np.array([[0.04, 0.01, 0.0], [0.01, 0.09, 0.02], [0.0, 0.02, 0.01]])


def draw(n, seed=0):
    return np.random.default_rng(seed).uniform(*np.transpose(RANGES), (n, 2))


def curved(theta):
    """Means of three entries, of total degree 3, not alike in the two parameters."""
    x, y = np.transpose(theta)
    return np.stack([x, y**2 - x * y, x**2 * y + 3], axis=1)


def noisy(theta, seed=1):
    noise = np.random.default_rng(seed).multivariate_normal(np.zeros(3), SIGMA, len(theta))
    return curved(theta) + noise


def test_the_inverse_of_an_estimated_covariance_is_unbiased_only_with_hartlaps_factor():
    dof, size, repeats = 20, 5, 20_000
    draws = stats.wishart(dof, np.eye(size)).rvs(repeats, random_state=0) / dof
    inverse = np.mean(np.linalg.inv(draws), axis=0)
    assert np.mean(np.diag(inverse)) == pytest.approx(20 / 14, rel=0.01)
    np.testing.assert_allclose(hartlap(dof, size) * inverse, np.eye(size), atol=0.02)
    # As the paper writes it, for n = dof + 1 draws.
    assert hartlap(dof, size) == (21 - 5 - 2) / (21 - 1)
    with pytest.raises(ValueError, match="dof = 6 must be above size"):
        hartlap(6, 5)


def test_a_polynomial_and_its_derivatives_are_reproduced():
    theta, new = draw(60), draw(7, seed=2)
    fitted = emulate(curved(theta), theta, RANGES, 3)
    np.testing.assert_allclose(fitted.mean(new), curved(new), rtol=1e-10)
    x, y = new.T
    zero, one = np.zeros(7), np.ones(7)
    by_x = np.stack([one, -y, 2 * x * y], axis=1)
    by_y = np.stack([zero, 2 * y - x, x**2], axis=1)
    np.testing.assert_allclose(fitted.derivative(new), np.stack([by_x, by_y], 1), atol=1e-9)


def test_covariance_and_errors_of_the_derivatives_are_those_of_many_repeats():
    theta, new = draw(80), draw(2, seed=2)
    fits = [emulate(noisy(theta, seed), theta, RANGES, 2) for seed in range(600)]
    assert fits[0].dof == 80 - 6
    truth = emulate(curved(theta), theta, RANGES, 2)
    misfit = truth.covariance * truth.dof / 74  # of degree 2 to a cubic mean: small
    np.testing.assert_allclose(
        np.mean([fit.covariance for fit in fits], axis=0), SIGMA + misfit, atol=1e-3
    )
    errors = np.array([fit.derivative(new) for fit in fits]) - truth.derivative(new)
    found = np.einsum("snia,snjb->nijab", errors, errors) / len(fits)
    expected = np.einsum("nij,ab->nijab", fits[0].derivative_spread(new), SIGMA)
    scale = np.sqrt(np.einsum("niiaa->nia", expected))
    bound = np.einsum("nia,njb->nijab", scale, scale)
    assert np.max(np.abs(found - expected) / bound) < 0.2  # 600 repeats: 4 sigma is 0.23


def test_the_precision_is_the_corrected_inverse():
    theta = draw(40)
    fitted = emulate(noisy(theta), theta, RANGES, 1)
    expected = np.linalg.inv(fitted.covariance) * (37 - 3 - 1) / 37
    np.testing.assert_allclose(fitted.precision, expected)


def test_cross_validation_finds_the_degree_and_does_not_depend_on_repeats_at_a_node():
    axes = [np.linspace(low, high, 5) for low, high in RANGES]
    nodes = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    theta = np.tile(nodes, (8, 1))
    amplified = 30 * curved(theta) + (noisy(theta) - curved(theta))
    assert best_degree(amplified, theta, RANGES) == 3
    linear = theta @ np.array([[5.0, 0, 1], [0, 3, 1]]) + noisy(theta) - curved(theta)
    assert best_degree(linear, theta, RANGES) == 1
    assert emulate(linear, theta, RANGES).degree == 1


def test_too_little_data_is_refused():
    theta = draw(12)
    with pytest.raises(UserError, match=r"10 simulations are too few.*3 bins.* 6 coeff.*least 11"):
        emulate(noisy(theta)[:10], theta[:10], RANGES, 2)
    assert emulate(noisy(theta)[:11], theta[:11], RANGES, 2).precision.shape == (3, 3)
    with pytest.raises(UserError, match=r"7 simulations are too few.* 3 coefficients.*least 8"):
        emulate(noisy(theta)[:7], theta[:7], RANGES)
    two = np.repeat(theta[:2], 20, axis=0)
    with pytest.raises(UserError, match="degree = 1: the simulations' parameters do not determ"):
        emulate(noisy(two), two, RANGES)


def test_bad_values_are_refused():
    theta = draw(30)
    summaries = noisy(theta)
    summaries[4, 1] = np.nan
    with pytest.raises(UserError, match="1 of 30 simulations have summaries that are not finite"):
        emulate(summaries, theta, RANGES)
    with pytest.raises(ValueError, match=r"labels have shape \(30, 2\), expected \(30, 1\)"):
        emulate(noisy(theta), theta, RANGES[:1])
