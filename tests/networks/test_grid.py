"""The gridded density against NumPy, SciPy and fine integration; its head inside Keras models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from spurious.densities.divergences import concatenate, kl_and_error
from spurious.densities.grid import Gridded, cell_centres
from spurious.networks.grid import GridHead
from spurious.networks.head_layer import HEAD, HeadLayer

RANGES = ((0.05, 0.55), (0.5, 1.0), (-3.0, 2.0))
CELLS = (3, 5, 4)


def weights(p, batch=2, seed=0):
    return np.random.default_rng(seed).normal(0, 1.5, (batch, *CELLS[:p])).astype(np.float32)


def gridded(p, batch=2, seed=0):
    return Gridded(weights(p, batch, seed), RANGES[:p])


def probabilities(p, batch=2, seed=0):
    exponential = np.exp(weights(p, batch, seed).astype(np.float64))
    return exponential / exponential.sum(tuple(range(1, p + 1)), keepdims=True)


def box(p):
    return np.transpose(RANGES[:p])


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_density_is_a_cells_probability_over_its_volume(p):
    theta = np.random.default_rng(1).uniform(*box(p), (50, 2, p)).astype(np.float32)
    edges = [np.linspace(*RANGES[i], CELLS[i] + 1) for i in range(p)]
    volume = np.prod([edge[1] - edge[0] for edge in edges])
    found = gridded(p).log_prob(theta).numpy()
    for n, b in np.ndindex(50, 2):
        cell = tuple(np.searchsorted(edges[i], theta[n, b, i]) - 1 for i in range(p))
        expected = np.log(probabilities(p)[(b, *cell)] / volume)
        assert found[n, b] == pytest.approx(expected, abs=2e-5)


def test_the_density_is_zero_outside_and_not_on_the_edge():
    corners = np.array(np.meshgrid([0.05, 0.55], [0.5, 1.0])).reshape(2, 1, -1).T
    assert np.isfinite(gridded(2).log_prob(corners)).all()
    assert np.isfinite(gridded(2).log_prob(corners.astype(np.float32))).all()
    outside = np.array([[0.0499, 0.7], [0.5501, 0.7], [0.2, 0.4999], [0.2, 1.0001]])[:, None]
    assert np.all(gridded(2).log_prob(outside) == -np.inf)


def test_parameters_are_broadcast_over_the_batch():
    one = gridded(2).log_prob([0.3, 0.9])
    assert one.shape == (2,)
    np.testing.assert_array_equal(one, gridded(2).log_prob([[0.3, 0.9], [0.3, 0.9]]))
    grid = cell_centres(RANGES[:2], CELLS[:2])
    found = gridded(2).log_prob(grid[:, None].astype(np.float32)).numpy()
    assert found.shape == (15, 2)
    np.testing.assert_allclose(np.exp(found).sum(0) * 0.5 * 0.5 / 15, 1, rtol=1e-5)


@pytest.mark.parametrize(("p", "fine"), [(1, 200), (2, 60), (3, 12)])
def test_moments_are_those_of_a_fine_integration(p, fine):
    probability = probabilities(p)
    for axis in range(p):
        probability = np.repeat(probability, fine, axis + 1) / fine
    points = cell_centres(RANGES[:p], [fine * c for c in CELLS[:p]])
    found = gridded(p)
    for b in range(2):
        expected = np.cov(points.T, aweights=probability[b].ravel(), ddof=0).reshape(p, p)
        mean = probability[b].ravel() @ points
        np.testing.assert_allclose(found.mean()[b], mean, rtol=1e-5)
        slack = 2 * np.max(found.widths) ** 2 / 12 / fine**2
        np.testing.assert_allclose(found.covariance()[b], expected, atol=slack)
        np.testing.assert_allclose(found.stddev()[b], np.sqrt(np.diag(expected)), rtol=2e-2 / p)


def test_a_flat_density_has_the_variance_of_the_uniform_distribution():
    flat = Gridded(np.zeros((1, 3, 5), np.float32), RANGES[:2])
    np.testing.assert_allclose(flat.stddev()[0], [0.5 / np.sqrt(12)] * 2, rtol=1e-6)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_samples_follow_the_density(p):
    draws = gridded(p).sample(20_000, seed=(1, 2)).numpy()
    assert draws.shape == (20_000, 2, p)
    assert draws.dtype == np.float32
    edges = [np.linspace(*RANGES[i], CELLS[i] + 1) for i in range(p)]
    inside = (draws - [edge[0] for edge in edges]) / [edge[1] - edge[0] for edge in edges] % 1
    for b in range(2):
        counts = np.histogramdd(draws[:, b], edges)[0]
        expected = probabilities(p)[b]
        assert stats.chisquare(counts.ravel(), 20_000 * expected.ravel()).pvalue > 1e-3
        for i in range(p):
            assert stats.kstest(inside[:, b, i], "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(draws, gridded(p).sample(20_000, seed=(1, 2)))
    assert np.all(draws[:5] != gridded(p).sample(5, seed=(1, 3)))


def test_cells_without_probability_are_never_drawn():
    log_weights = np.full((1, 6), -200.0, np.float32)
    log_weights[0, [2, 4]] = 0.0
    draws = Gridded(log_weights, ((0.0, 6.0),)).sample(1000, seed=(0, 0)).numpy()
    assert set(np.floor(draws).ravel()) == {2.0, 4.0}


@pytest.mark.parametrize("p", [1, 2, 3])
def test_the_marginal_distribution_function_is_piecewise_linear(p):
    theta = np.random.default_rng(2).uniform(*box(p), (30, 2, p))
    found = gridded(p).marginal_cdf(theta).numpy()
    for b, i in np.ndindex(2, p):
        marginal = probabilities(p)[b].sum(tuple(j for j in range(p) if j != i))
        edges = np.linspace(*RANGES[i], CELLS[i] + 1)
        expected = np.interp(theta[:, b, i], edges, np.append(0, np.cumsum(marginal)))
        np.testing.assert_allclose(found[:, b, i], expected, atol=2e-6)
    ends = gridded(p).marginal_cdf([box(p)[0] - 1, box(p)[1] + 1]).numpy()
    np.testing.assert_allclose(ends, [np.zeros(p), np.ones(p)], atol=1e-6)


def test_the_levels_of_its_own_draws_are_uniform():
    many = gridded(2, batch=4000, seed=3)
    levels = many.marginal_cdf(many.sample(seed=(5, 6))).numpy()
    for i in range(2):
        assert stats.kstest(levels[:, i], "uniform").pvalue > 1e-3


def test_the_divergence_is_exact_and_has_a_direction():
    p, q = probabilities(2, seed=0), probabilities(2, seed=1)
    expected = np.sum(p * np.log(p / q), axis=(1, 2))
    value, error = kl_and_error(gridded(2, seed=0), gridded(2, seed=1))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(error, 0)
    assert np.all(np.abs(expected / np.sum(q * np.log(q / p), axis=(1, 2)) - 1) > 1e-3)
    np.testing.assert_allclose(kl_and_error(gridded(2), gridded(2))[0], 0, atol=1e-7)


def test_the_divergence_of_far_posteriors_is_finite():
    log_weights = np.linspace(0, -3000, 64, dtype=np.float32).reshape(1, 64)
    p, q = (Gridded(w, ((0.0, 1.0),)) for w in (log_weights, log_weights[:, ::-1]))
    expected = np.sum(stats.geom(1 - np.exp(-3000 / 63)).pmf([1, 2]) * [3000, 3000 - 6000 / 63])
    np.testing.assert_allclose(p.kl_divergence(q), expected, rtol=1e-5)


def test_gradients_of_divergence_and_moments_are_those_of_finite_differences():
    start, other = weights(2, batch=1).astype(np.float64), weights(2, 1, 1).astype(np.float64)

    def values(log_weights):
        d, q = (Gridded(tf.constant(w), RANGES[:2]) for w in (log_weights, other))
        numbers = [d.kl_divergence(q), q.kl_divergence(d), d.mean()[:, 1], d.stddev()[:, 0]]
        return tf.stack([*numbers, d.log_prob([0.1, 0.95])], axis=0)[:, 0]

    x = tf.constant(start)
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = values(x)
    exact = tape.jacobian(result, x).numpy()
    for cell in [(0, 0, 4), (0, 2, 1)]:
        step = np.zeros_like(start)
        step[cell] = 1e-5
        found = (values(start + step) - values(start - step)).numpy() / 2e-5
        np.testing.assert_allclose(exact[(slice(None), *cell)], found, atol=1e-8)


def test_different_grids_are_refused():
    other = Gridded(weights(2), ((0.05, 0.5), (0.5, 1.0)))
    for operation in (gridded(2).kl_divergence, lambda d: Gridded.join([gridded(2), d])):
        with pytest.raises(ValueError, match=r"grids differ: \(3, 5\) cells over"):
            operation(other)
    with pytest.raises(ValueError, match="4 ranges"):
        Gridded(np.zeros((1, 2, 2, 2, 2)), [(0, 1)] * 4)
    with pytest.raises(ValueError, match="have no 2 axes"):
        Gridded(np.zeros(3), RANGES[:2])


def test_joining_keeps_the_order_and_slicing_undoes_it():
    joined = concatenate([gridded(2, seed=0), gridded(2, 3, seed=1)])
    assert isinstance(joined, Gridded)
    assert joined.batch_shape == (5,)
    np.testing.assert_array_equal(joined.mean()[2:], gridded(2, 3, seed=1).mean())
    np.testing.assert_array_equal(joined[:2].mean(), gridded(2).mean())


HEAD_RANGES = {"omega_m": RANGES[0], "sigma_8": RANGES[1]}


def gaussian_features(head, mean, sigma):
    centres = cell_centres(list(head.ranges.values()), head.head.cells)
    return stats.norm.logpdf(centres, mean, sigma).sum(1)[None].astype(np.float32)


def test_a_temperature_multiplies_the_width_of_a_gaussian():
    head = HeadLayer(HEAD_RANGES, GridHead(cells=(100, 80)))
    features = gaussian_features(head, [0.3, 0.7], [0.02, 0.03])
    one = head.distribution(*head(features))
    np.testing.assert_allclose(one.mean()[0], [0.3, 0.7], atol=1e-4)
    np.testing.assert_allclose(one.stddev()[0], [0.02, 0.03], rtol=5e-3)
    head.temperature = 1.5
    np.testing.assert_allclose(
        head.distribution(*head(features)).stddev()[0], [0.03, 0.045], rtol=5e-3
    )


def test_a_head_survives_saving_in_a_model(tmp_path):
    head = HeadLayer(HEAD_RANGES, GridHead(cells=(4, 6)), temperature=1.25, name=HEAD)
    assert head.n_features == 24
    x = keras.Input((3,))
    model = keras.Model(x, head(keras.layers.Dense(head.n_features)(x)))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    data = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(data), model(data))
    loaded = again.get_layer(HEAD)
    assert (loaded.ranges, loaded.head.cells, loaded.temperature) == (HEAD_RANGES, (4, 6), 1.25)
    assert loaded.distribution(model(data)).batch_shape == (2,)


def test_the_loss_has_finite_gradients_for_large_features():
    head = HeadLayer(HEAD_RANGES, GridHead(cells=(8,)))
    assert head.n_features == 64
    features = tf.constant(np.random.default_rng(0).uniform(-30, 30, (5, 64)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = head.distribution(*head(features)).log_prob(np.full((5, 2), [0.55, 1.0]))
    assert np.isfinite(loss).all()
    assert np.isfinite(tape.gradient(loss, features)).all()


def test_impossible_heads_are_refused():
    with pytest.raises(ValueError, match="3 axes of cells for 2 parameters"):
        HeadLayer(HEAD_RANGES, GridHead(cells=(4, 4, 4)))
    with pytest.raises(ValueError, match="1 axes of cells for 4 parameters"):
        HeadLayer({name: (0, 1) for name in "abcd"}, GridHead(cells=(2,)))
