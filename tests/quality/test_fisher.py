"""Fisher forecasts against closed forms: a linear problem, and random fields with a power law."""

import numpy as np
import pytest
from scipy.special import polygamma

from spurious import spectra
from spurious.errors import UserError
from spurious.networks.head_layer import HEAD
from spurious.posteriors import likelihood
from spurious.posteriors.emulator import emulate
from spurious.quality import fisher

RANGES = {"x": (-1.0, 1.0), "y": (0.0, 4.0)}
BOX = list(RANGES.values())
MATRIX = np.array([[3.0, 1.0], [-1.0, 2.0], [0.5, 0.5], [0.2, 0.1]])
NOISE = np.diag([1.0, 0.5, 2.0, 1.0]) + 0.2
TRUTH = MATRIX.T @ np.linalg.solve(NOISE, MATRIX)


def grid(count):
    axes = [np.linspace(*pair, count) for pair in BOX]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def linear_gaussian(theta, seed):
    noise = np.random.default_rng(seed).multivariate_normal(np.zeros(4), NOISE, len(theta))
    return theta @ MATRIX.T + noise


def test_a_linear_problem_has_one_fisher_matrix_everywhere():
    theta = np.tile(grid(5), (400, 1))
    found = fisher.forecast(theta, linear_gaussian(theta, 0), RANGES)
    assert found.degree == 1
    np.testing.assert_array_equal(found.nodes, grid(5))
    expected = np.broadcast_to(TRUTH, (25, 2, 2))
    np.testing.assert_allclose(found.fisher, expected, rtol=0.04, atol=0.02 * TRUTH.max())
    sigma = np.sqrt(np.diag(np.linalg.inv(TRUTH)))
    np.testing.assert_allclose(found.sigma, np.broadcast_to(sigma, (25, 2)), rtol=0.03)
    assert list(found.rmse) == ["x", "y"]
    np.testing.assert_allclose(list(found.rmse.values()), sigma, rtol=0.03)


def test_the_noise_of_the_derivatives_is_subtracted_without_bias():
    """60 simulations: the plain estimate is too large, and the corrected one right on average."""
    theta = np.tile(grid(3), (7, 1))[:60]
    nodes = np.array([[-1.0, 0.0], [0.0, 2.0]])
    corrected, plain = [], []
    for seed in range(1500):
        data = linear_gaussian(theta, seed)
        fitted = emulate(data, theta, BOX, 2)
        corrected.append(fisher.fisher_matrices(fitted, nodes))
        slope = fitted.derivative(nodes)
        plain.append(slope @ fitted.precision @ slope.swapaxes(1, 2))
    corrected, plain = np.array(corrected), np.array(plain)
    error = corrected.std(0) / np.sqrt(len(corrected))
    assert np.all(np.abs(corrected.mean(0) - TRUTH) < 4 * error)
    assert plain.mean(0)[0, 0, 0] - TRUTH[0, 0] > 10 * error[0, 0, 0]
    np.testing.assert_allclose(corrected.mean(0)[:, 0, 0], TRUTH[0, 0], rtol=0.03)


def test_the_forecast_is_the_width_of_the_likelihoods_posterior():
    theta = np.random.default_rng(1).uniform(*np.transpose(BOX), (4000, 2))
    data = linear_gaussian(theta, 2) * 3 + theta @ (5 * MATRIX.T)  # so narrow that no edge is near
    middle = np.array([[0.0, 2.0]])
    found = fisher.forecast(theta, data, RANGES, 1, nodes=middle)
    model = likelihood.fit_summaries(data, theta, RANGES, 1, cells=(150, 150))
    mean = emulate(data, theta, BOX, 1).mean(middle).astype(np.float32)
    posterior = model.get_layer(HEAD).distribution(model(mean))
    np.testing.assert_allclose(posterior.stddev()[0], found.sigma[0], rtol=0.01)


N, SIDE = 20, 100.0
FIELD = {"log_amplitude": (-0.4, 0.4), "tilt": (0.8, 1.6)}


def test_random_fields_with_a_power_law_have_the_closed_form_forecast():
    """ln P of a bin of m modes of a Gaussian field: variance trigamma(m / 2), about 2 / m."""
    draw = np.random.default_rng(3)
    theta = draw.uniform(*np.transpose(list(FIELD.values())), (6000, 2))
    i = np.fft.fftfreq(N, 1 / N)
    k = np.hypot(i[:, None], i[None])
    k[0, 0] = np.inf
    log_amplitude, tilt = theta.T[:, :, None, None]
    root = np.sqrt(np.exp(log_amplitude) * k**-tilt)
    maps = np.fft.ifft2(np.fft.fft2(draw.normal(size=(6000, N, N))) * root).real
    log_power = np.log(spectra.power(1 + maps, SIDE, contrast=True).numpy())
    middle = np.array([[0.0, 1.2]])
    found = fisher.forecast(theta, log_power, FIELD, nodes=middle)

    nearest = np.floor(k + 0.5)
    modes = [k[nearest == b] for b in range(1, log_power.shape[1] + 1)]
    by_tilt = [-np.average(np.log(one), weights=one**-1.2) for one in modes]
    slope = np.stack([np.ones(len(modes)), by_tilt])
    n_modes = np.array([len(one) for one in modes])
    expected = (slope / polygamma(1, n_modes / 2)) @ slope.T
    np.testing.assert_allclose(found.fisher[0], expected, rtol=0.05)
    sigma = np.sqrt(np.diag(np.linalg.inv(expected)))
    np.testing.assert_allclose(found.sigma[0], sigma, rtol=0.05)


def test_the_prior_adds_the_inverse_variance_of_the_box():
    matrices = np.array([np.diag([4.0, 0.75])])
    found = fisher.Forecast(RANGES, np.zeros((1, 2)), matrices, 1)
    np.testing.assert_allclose(found.sigma, [[0.5, 0.75**-0.5]])
    np.testing.assert_allclose(found.sigma_with_prior, [[7**-0.5, 1.5**-0.5]])
    assert found.rmse_with_prior == pytest.approx({"x": 7**-0.5, "y": 1.5**-0.5})


def test_root_mean_square_over_the_nodes():
    matrices = np.array([np.eye(2), np.diag([1 / 7, 1.0])])
    found = fisher.Forecast(RANGES, np.zeros((2, 2)), matrices, 1)
    assert found.rmse == pytest.approx({"x": 2.0, "y": 1.0})


def test_matrices_that_are_only_noise_are_refused_or_avoided():
    theta = np.tile(grid(5), (2, 1))
    data = np.random.default_rng(4).normal(size=(50, 4))
    with pytest.raises(UserError, match=r"of 25 Fisher matrices are not positive: 50 simulations"):
        fisher.forecast(theta, data, RANGES)
    # A curve that asks for degree 3, with too much noise for its derivatives at some nodes.
    theta = np.tile(grid(5), (12, 1))
    noise = linear_gaussian(theta, 2) - theta @ MATRIX.T
    bent = 0.3 * theta @ MATRIX.T + theta[:, :1] ** 3 * [3.0, 0, 0, 0] + noise
    assert emulate(bent, theta, BOX).degree == 3
    with pytest.raises(UserError, match="derivatives of degree 3"):
        fisher.forecast(theta, bent, RANGES, degree=3)
    found = fisher.forecast(theta, bent, RANGES)
    assert found.degree < 3
    assert np.isfinite(found.sigma).all()


def test_the_noise_of_differences_is_subtracted_where_there_are_few_maps_a_node():
    """Four maps a node of a 9 x 9 grid: noise would add three quarters to F_xx."""
    theta = np.tile(grid(9), (4, 1))
    step = 2 / 8
    assert 4 * (2 / 4) / (2 * step) ** 2 > 0.7 * TRUTH[0, 0]
    found = [fisher.difference_matrices(theta, linear_gaussian(theta, seed)) for seed in range(60)]
    assert found[0].shape == (7, 2, 2)
    np.testing.assert_allclose(
        np.mean(found, axis=(0, 1)), TRUTH, rtol=0.06, atol=0.02 * TRUTH.max()
    )


def test_differences_between_nodes_agree_with_the_closed_form():
    theta = np.tile(grid(9), (40, 1))
    found = fisher.from_differences(theta, linear_gaussian(theta, 0), RANGES)
    np.testing.assert_allclose(found.nodes[:, 0], np.linspace(-1, 1, 9)[1:-1])
    prior = np.diag(12 / np.array([2.0, 4.0]) ** 2)
    for rmse, matrix in ((found.rmse, TRUTH), (found.rmse_with_prior, TRUTH + prior)):
        sigma = np.sqrt(np.diag(np.linalg.inv(matrix)))
        np.testing.assert_allclose(list(rmse.values()), sigma, rtol=0.03)


def test_differences_know_that_the_scatter_varies_along_the_first_parameter():
    """Noise three times as large in half of the box: its information is a ninth."""
    theta = np.tile(grid(9), (60, 1))
    noise = linear_gaussian(theta, 0) - theta @ MATRIX.T
    factor = np.where(theta[:, :1] > 0.1, 3.0, 1.0)
    found = fisher.from_differences(theta, theta @ MATRIX.T + factor * noise, RANGES)
    variances = np.diag(np.linalg.inv(TRUTH))
    expected = np.sqrt((4 * variances + 3 * 9 * variances) / 7)
    np.testing.assert_allclose(list(found.rmse.values()), expected, rtol=0.04)


def test_differences_know_which_axis_is_which():
    """A grid of other lengths along x and y, its maps in random order, hardly any noise."""
    x, y = np.linspace(-1, 1, 5), np.linspace(0, 4, 7)
    theta = np.tile(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2), (30, 1))
    theta = np.random.default_rng(3).permutation(theta)
    found = fisher.from_differences(theta, linear_gaussian(theta, 1), RANGES)
    sigma = np.sqrt(np.diag(np.linalg.inv(TRUTH)))
    np.testing.assert_allclose(list(found.rmse.values()), sigma, rtol=0.05)


def test_designs_without_neighbours_have_no_differences():
    theta = np.random.default_rng(0).uniform((-1, 0), (1, 4), (60, 2))
    assert fisher.from_differences(theta, linear_gaussian(theta, 0), RANGES) is None
    few = np.tile(grid(3), (2, 1))[:-1]
    assert fisher.from_differences(few, linear_gaussian(few, 0), RANGES) is None
