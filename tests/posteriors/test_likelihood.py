"""The power-spectrum likelihood: a linear Gaussian problem in closed form, and random fields."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from spurious import spectra
from spurious.data.maps import Standardiser
from spurious.errors import UserError
from spurious.networks.head_layer import HEAD
from spurious.posteriors import likelihood
from spurious.posteriors.emulator import emulate
from spurious.posteriors.trained import NetworkPosterior, load

RANGES = {"x": (-1.0, 1.0), "y": (0.0, 4.0)}
BOX = np.transpose(list(RANGES.values()))
MATRIX = np.array([[3.0, 1.0], [-1.0, 2.0], [0.5, 0.5]])  # d = MATRIX theta + noise
NOISE = np.array([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 2.0]])


def linear_gaussian(n, seed):
    draw = np.random.default_rng(seed)
    theta = draw.uniform(*BOX, (n, 2))
    return theta, theta @ MATRIX.T + draw.multivariate_normal(np.zeros(3), NOISE, n)


def posterior_of(model, data):
    return model.get_layer(HEAD).distribution(model(np.asarray(data, np.float32)))


@pytest.fixture(scope="module")
def linear_model():
    theta, data = linear_gaussian(20_000, seed=0)
    return likelihood.fit_summaries(data, theta, RANGES, degree=1, cells=(100, 120))


def truncated_gaussian(mean, covariance):
    """Mean and standard deviation of a Gaussian cut off at the box, by fine integration."""
    axes = [np.linspace(low, high, 801) for low, high in RANGES.values()]
    points = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    weight = stats.multivariate_normal(mean, covariance).pdf(points)
    first = weight @ points / weight.sum()
    return first, np.sqrt(weight @ (points - first) ** 2 / weight.sum())


def test_a_linear_gaussian_problem_has_its_closed_form_posterior(linear_model):
    fisher = MATRIX.T @ np.linalg.solve(NOISE, MATRIX)
    truths = np.array([[0.0, 2.0], [0.9, 3.9], [-0.5, 0.1]])  # the last two near the box's edges
    data = truths @ MATRIX.T + [0.1, -0.2, 0.3]
    best = np.linalg.solve(fisher, MATRIX.T @ np.linalg.solve(NOISE, data.T)).T
    found = posterior_of(linear_model, data)
    for i in range(3):
        mean, sigma = truncated_gaussian(best[i], np.linalg.inv(fisher))
        # 20 000 simulations know the noise to 1 %.
        np.testing.assert_allclose(found.mean()[i], mean, atol=0.02 * sigma.min())
        np.testing.assert_allclose(found.stddev()[i], sigma, rtol=0.02)


def test_the_covariance_has_the_right_sign(linear_model):
    inside = posterior_of(linear_model, [MATRIX @ [0.0, 2.0]])
    covariance = np.linalg.inv(MATRIX.T @ np.linalg.solve(NOISE, MATRIX))
    np.testing.assert_allclose(inside.covariance()[0], covariance, rtol=0.05, atol=3e-3)


def test_posteriors_are_honest_in_a_linear_gaussian_problem(linear_model):
    theta, data = linear_gaussian(3000, seed=1)
    levels = posterior_of(linear_model, data).marginal_cdf(theta).numpy()
    for i in range(2):
        assert stats.kstest(levels[:, i], "uniform").pvalue > 1e-3


def test_few_simulations_give_wider_posteriors_not_narrower():
    """Hartlap's factor is in: 12 simulations, 9 degrees of freedom, factor 5 / 9."""
    theta, data = linear_gaussian(12, seed=2)
    model = likelihood.fit_summaries(data, theta, RANGES, degree=1, cells=(300, 300))
    fitted = emulate(data, theta, list(RANGES.values()), 1)
    slope = fitted.derivative([[0.0, 2.0]])[0]
    naive = np.linalg.inv(slope @ np.linalg.solve(fitted.covariance, slope.T))
    expected = truncated_gaussian([0.0, 2.0], naive * 9 / 5)[1]
    found = posterior_of(model, fitted.mean(np.array([[0.0, 2.0]])))
    np.testing.assert_allclose(found.stddev()[0], expected, rtol=0.01)


N, SIDE = 20, 100.0
FIELD = {"amplitude": (1.0, 3.0), "tilt": (0.5, 2.0)}


def random_fields(theta, seed):
    """Gaussian maps of mean 64 whose contrast has P(k) = 100 A (k / k_F)^-n (Mpc/h)^2."""
    noise = np.random.default_rng(seed).normal(size=(len(theta), N, N))
    i = np.fft.fftfreq(N, 1 / N)
    k = np.hypot(i[:, None], i[None])
    k[0, 0] = np.inf
    amplitude, tilt = theta.T[:, :, None, None]
    # White noise of variance 1 a pixel has the power SIDE^2 / N^2.
    root = np.sqrt(100 * amplitude * k**-tilt) * N / SIDE
    contrast = np.fft.ifft2(np.fft.fft2(noise) * root).real
    return (64 * (1 + contrast)).astype(np.float32)


def uniform(n, seed):
    return np.random.default_rng(seed).uniform(*np.transpose(list(FIELD.values())), (n, 2))


@pytest.fixture(scope="module")
def training():
    theta = uniform(800, seed=3)
    maps = random_fields(theta, seed=4)
    return maps, theta, Standardiser.fit(maps)


@pytest.fixture(scope="module")
def model(training):
    maps, theta, standardiser = training
    return likelihood.fit(maps, theta, FIELD, standardiser, SIDE, cells=40)


def test_fields_have_the_power_they_claim():
    theta = np.tile([[2.0, 1.0]], (400, 1))
    power = spectra.power(random_fields(theta, 0), SIDE, contrast=True).numpy().mean(0)
    bins = spectra.bins(N, SIDE)
    expected = 200 / (bins.k * SIDE / 2 / np.pi)
    np.testing.assert_allclose(power, expected, rtol=0.05)


def test_amplitude_and_tilt_of_random_fields_are_recovered_honestly(model):
    theta = uniform(1500, seed=5)
    found = NetworkPosterior(model)(random_fields(theta, seed=6))
    z = (found.mean() - theta) / found.stddev()
    # 4 sigma of 1500 posteriors cut off by the prior, which are narrower in the tails than Gauss
    np.testing.assert_allclose(np.sqrt(np.mean(z**2, axis=0)), 1, atol=0.075)
    np.testing.assert_allclose(np.mean(z, axis=0), 0, atol=4 / np.sqrt(1500))
    levels = found.marginal_cdf(theta).numpy()
    inside = np.mean(np.abs(levels - 0.5) < 0.34, axis=0)
    np.testing.assert_allclose(inside, 0.68, atol=4 * np.sqrt(0.68 * 0.32 / 1500))
    rmse = np.sqrt(np.mean((found.mean() - theta) ** 2, axis=0))
    assert np.all(rmse < [0.45, 0.15])  # the prior alone: 0.58 and 0.43


def test_the_model_is_the_sum_of_its_parts(model, training):
    """Summary, mean, covariance and grid by NumPy in double precision."""
    maps, theta, _ = training
    summaries = np.log(spectra.power(maps, SIDE, contrast=True).numpy())
    fitted = emulate(summaries, theta, list(FIELD.values()))
    centre = np.array([1.0 + 2 * 7.5 / 40, 0.5 + 1.5 * 30.5 / 40])  # cell (7, 30)
    others = np.array([1.0 + 2 * 11.5 / 40, 0.5 + 1.5 * 20.5 / 40])  # cell (11, 20)
    residuals = summaries[:5] - fitted.mean(np.array([centre, others]))[:, None]
    chi2 = np.einsum("tni,ij,tnj->tn", residuals, fitted.precision, residuals)
    weights = model(maps[:5]).numpy()
    np.testing.assert_allclose(
        weights[:, 7, 30] - weights[:, 11, 20], (chi2[1] - chi2[0]) / 2, rtol=1e-3, atol=0.01
    )


def test_gradients_with_respect_to_maps_are_those_of_finite_differences(model):
    theta = uniform(1, seed=7)
    maps = random_fields(theta, seed=8)
    direction = np.random.default_rng(9).normal(size=maps.shape).astype(np.float32)
    posterior = NetworkPosterior(model)

    def value(x):
        return posterior(x).mean()[0, 1]

    x = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = value(x)
    exact = np.sum(tape.gradient(result, x) * direction)
    found = (value(maps + direction) - value(maps - direction)) / 2
    assert exact == pytest.approx(float(found), rel=0.02)
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_prob = posterior(x).log_prob(theta)
    gradient = tape.gradient(log_prob, x).numpy()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_one_file_is_the_whole_posterior(model, training, tmp_path):
    maps, _, standardiser = training
    posterior = NetworkPosterior(model)
    posterior.save(tmp_path / "likelihood.keras")
    again = load(tmp_path / "likelihood.keras")
    np.testing.assert_array_equal(again(maps[:3]).log_weights, posterior(maps[:3]).log_weights)
    assert again.names == ("amplitude", "tilt")
    assert again.standardiser.mean == pytest.approx(standardiser.mean)
    assert again.standardiser.std == pytest.approx(standardiser.std)
    assert not model.trainable_variables


def test_a_constant_map_has_a_finite_posterior(model):
    flat = NetworkPosterior(model)(np.full((1, N, N), 64, np.float32))
    assert np.isfinite(flat.mean()).all()
    assert np.isfinite(flat.log_weights).all()


def test_k_max_leaves_out_small_scales(training):
    maps, theta, standardiser = training
    k = spectra.bins(N, SIDE).k
    part = likelihood.fit(maps, theta, FIELD, standardiser, SIDE, 2, cells=10, k_max=k[3])
    assert part.get_layer(likelihood.LIKELIHOOD).n_bins == 4
    rows = slice(0, 300)
    wide = NetworkPosterior(part)(maps[rows]).stddev()
    whole = likelihood.fit(maps, theta, FIELD, standardiser, SIDE, 2, cells=10)
    assert np.all(np.mean(wide, 0) > 1.1 * np.mean(NetworkPosterior(whole)(maps[rows]).stddev(), 0))
    with pytest.raises(UserError, match=r"k_max = 0.01: must be at least 0.0\d+ h/Mpc"):
        likelihood.fit(maps, theta, FIELD, standardiser, SIDE, k_max=0.01)


def test_impossible_fits_are_refused(training):
    maps, theta, standardiser = training
    with pytest.raises(UserError, match=r"12 simulations are too few.*9 bins.*least 14"):
        likelihood.fit(maps[:12], theta[:12], FIELD, standardiser, SIDE)
    four = {name: (0.0, 1.0) for name in "abcd"}
    with pytest.raises(UserError, match=r"4 parameters \(a, b, c, d\) are too many"):
        likelihood.fit_summaries(np.zeros((50, 2)), np.zeros((50, 4)), four)


@pytest.mark.parametrize("p", [1, 3])
def test_one_and_three_parameters(p):
    draw = np.random.default_rng(11)
    theta = draw.uniform(size=(3000, p))
    data = np.concatenate([theta * [1.0, 2.0, 4.0][:p], theta[:, :1] * 0], axis=1)
    data += 0.1 * draw.normal(size=data.shape)
    ranges = {name: (0.0, 1.0) for name in "abc"[:p]}
    model = likelihood.fit_summaries(data, theta, ranges, degree=1, cells=48)
    found = posterior_of(model, [[*[0.5, 1.0, 2.0][:p], 0.0]])
    np.testing.assert_allclose(found.mean()[0], [0.5] * p, atol=0.01)
    np.testing.assert_allclose(found.stddev()[0], [0.1, 0.05, 0.025][:p], rtol=0.06)


def test_the_layer_round_trips():
    layer = likelihood.GaussianLikelihood(6, 2, name="likelihood")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert (again.n_cells, again.n_bins) == (6, 2)
