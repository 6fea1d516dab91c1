"""Mixtures of Gaussians: density, moments, samples and their gradients."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, special, stats

from spurious.densities.mixtures import marginal, mixture, parameters

tfd = tfp.distributions

KINDS = [("diagonal", 1), ("diagonal", 3), ("full", 1), ("full", 3)]


def arrays(batch, m, covariance, p=2, seed=0):
    """Random means, scales and logits of overlapping components, in float64."""
    draw = np.random.default_rng(seed)
    means = 0.5 + 0.1 * draw.standard_normal((batch, m, p))
    scales = draw.uniform(0.05, 0.15, (batch, m, p))
    if covariance == "full":
        below = np.tril(draw.uniform(-0.12, 0.12, (batch, m, p, p)), -1)
        scales = below + scales[..., None] * np.eye(p)
    return means, scales, draw.standard_normal((batch, m))


def tensors(*args, **kwargs):
    return [tf.constant(a, tf.float32) for a in arrays(*args, **kwargs)]


def density(parts, row, x):
    """SciPy's density of one row's mixture at x (..., p)."""
    means, scales, logits = (np.asarray(a, float)[row] for a in parts)
    trils = scales if scales.ndim == 3 else np.array([np.diag(s) for s in scales])
    return sum(
        weight * stats.multivariate_normal(mean, tril @ tril.T).pdf(x)
        for weight, mean, tril in zip(special.softmax(logits), means, trils, strict=True)
    )


def grid(low=-0.6, high=1.6, n=401):
    axis = np.linspace(low, high, n)
    return axis, np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)


def integral(values, axis):
    return integrate.trapezoid(integrate.trapezoid(values, axis, axis=0), axis, axis=0)


@pytest.mark.parametrize(("covariance", "m"), KINDS)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_density_is_scipys(covariance, m, p):
    parts = arrays(4, m, covariance, p)
    x = np.random.default_rng(1).uniform(0.3, 0.7, (5, 4, p))
    expected = np.log([[density(parts, row, x[i, row]) for row in range(4)] for i in range(5)])
    found = mixture(*tensors(4, m, covariance, p))
    assert (found.batch_shape, found.event_shape, found.dtype) == ((4,), (p,), tf.float32)
    log_prob = found.log_prob(tf.constant(x, tf.float32))
    np.testing.assert_allclose(log_prob, expected.reshape(5, 4), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("covariance", "m"), KINDS)
def test_moments_are_the_integrals(covariance, m):
    parts = arrays(2, m, covariance)
    found = mixture(*tensors(2, m, covariance))
    axis, x = grid()
    for row in range(2):
        f = density(parts, row, x)[..., None]
        mean = integral(f * x, axis)
        residual = (x - mean)[..., :, None] * (x - mean)[..., None, :]
        covariances = integral(f[..., None] * residual, axis)
        np.testing.assert_allclose(found.mean()[row], mean, rtol=1e-4)
        np.testing.assert_allclose(found.covariance()[row], covariances, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.stddev()[row], np.diag(covariances) ** 0.5, rtol=1e-3)


@pytest.mark.parametrize(("covariance", "m"), KINDS)
def test_samples_follow_the_density(covariance, m):
    """Rosenblatt's transform of SciPy's conditional distributions is uniform on the square."""
    parts = arrays(1, m, covariance)
    x = mixture(*tensors(1, m, covariance)).sample(20_000, seed=(3, 4)).numpy()[:, 0]
    means, scales, logits = (a[0] for a in parts)
    trils = scales if covariance == "full" else np.array([np.diag(s) for s in scales])
    covariances = trils @ np.swapaxes(trils, 1, 2)
    normals = stats.norm(means[:, 0], covariances[:, 0, 0] ** 0.5)
    weights = special.softmax(logits)
    first = normals.cdf(x[:, :1]) @ weights
    weights = weights * normals.pdf(x[:, :1])
    slope = covariances[:, 1, 0] / covariances[:, 0, 0]
    centre = means[:, 1] + slope * (x[:, :1] - means[:, 0])
    spread = (covariances[:, 1, 1] - slope * covariances[:, 1, 0]) ** 0.5
    second = np.sum(weights * stats.norm.cdf(x[:, 1:], centre, spread), 1) / weights.sum(1)
    for level in (first, second):
        assert stats.kstest(level, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(first, second).statistic) < 4 / 20_000**0.5


@pytest.mark.parametrize(("covariance", "m"), KINDS)
def test_gradient_through_samples_is_right(covariance, m):
    """d E[x_1^2 x_2 + x_1] by samples, against central differences of the integral."""

    def function(x):
        return x[..., 0] ** 2 * x[..., 1] + x[..., 0]

    parts = tensors(1, m, covariance)
    with tf.GradientTape() as tape:
        tape.watch(parts)
        value = tf.reduce_mean(function(mixture(*parts).sample(100_000, seed=(1, 2))))
    zero = tf.UnconnectedGradients.ZERO
    found = [g.numpy()[0] for g in tape.gradient(value, parts, unconnected_gradients=zero)]
    axis, x = grid()
    for part, gradient in enumerate(found):
        for index in np.ndindex(gradient.shape):
            if part == 1 and covariance == "full" and index[-1] > index[-2]:
                continue
            ends = []
            for step in (1e-4, -1e-4):
                moved = arrays(1, m, covariance)
                moved[part][(0, *index)] += step
                ends.append(integral(density(moved, 0, x) * function(x), axis))
            expected = (ends[0] - ends[1]) / 2e-4
            assert gradient[index] == pytest.approx(expected, abs=0.01), (part, index)
    if m > 1:
        assert np.all(np.abs(found[2]) > 1e-4)


@pytest.mark.parametrize("m", [2, 3])
def test_gradient_of_samples_is_tensorflow_probabilitys_where_it_has_one(m):
    parts = tensors(3, m, "diagonal")
    weights = tf.constant(np.random.default_rng(5).normal(size=(6, 3, 2)), tf.float32)

    def theirs(means, scales, logits):
        components = tfd.Independent(tfd.Normal(means, scales), 1)
        return tfd.MixtureSameFamily(tfd.Categorical(logits), components, reparameterize=True)

    gradients = []
    for make in (mixture, theirs):
        with tf.GradientTape() as tape:
            tape.watch(parts)
            value = tf.reduce_sum(weights * make(*parts).sample(6, seed=(1, 2)))
        gradients.append(tape.gradient(value, parts))
    for one, two in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("covariance", "m"), KINDS)
def test_parameters_undo_mixture(covariance, m):
    means, scales, logits = tensors(4, m, covariance)
    found = parameters(mixture(means, scales, logits))
    np.testing.assert_allclose(found[0], means, rtol=1e-6)
    np.testing.assert_allclose(found[1], scales, rtol=1e-6)
    np.testing.assert_allclose(tf.nn.softmax(found[2]), tf.nn.softmax(logits), rtol=1e-6)


def test_parameters_of_other_distributions_are_refused():
    with pytest.raises(ValueError, match="no mixture of Gaussians"):
        parameters(tfd.Independent(tfd.Laplace([[0.0, 0.0]], 1.0), 1))


@pytest.mark.parametrize(("covariance", "m"), KINDS)
def test_a_marginal_is_the_mixture_of_the_components_own(covariance, m):
    """Of the third and the first of three parameters, by SciPy's submatrices."""
    parts = arrays(2, m, covariance, p=3)
    found = marginal(mixture(*(tf.constant(part, tf.float32) for part in parts)), [2, 0])
    x = np.array([[0.52, 0.48], [0.4, 0.61]])
    log_prob = found.log_prob(tf.constant(x[:, None], tf.float32)).numpy()
    means, scales, logits = parts
    for row in range(2):
        trils = scales[row] if covariance == "full" else np.array([np.diag(s) for s in scales[row]])
        expected = sum(
            weight * stats.multivariate_normal(
                mean[[2, 0]], (tril @ tril.T)[np.ix_([2, 0], [2, 0])]
            ).pdf(x)
            for weight, mean, tril in zip(
                special.softmax(logits[row]), means[row], trils, strict=True
            )
        )  # fmt: skip
        np.testing.assert_allclose(log_prob[:, row], np.log(expected), rtol=1e-3, atol=1e-3)


def test_a_marginal_of_another_density_has_its_mean_and_covariance():
    """Rank one beside a diagonal: no mixture that `parameters` knows."""

    class Other:
        name = "other"
        spread = np.array([[0.04, 0.01, 0.0], [0.01, 0.09, 0.02], [0.0, 0.02, 0.01]])

        def mean(self):
            return tf.constant([[0.1, 0.2, 0.3]])

        def covariance(self):
            return tf.constant(self.spread[None], tf.float32)

    found = marginal(Other(), [1, 2])
    np.testing.assert_allclose(found.mean(), [[0.2, 0.3]])
    np.testing.assert_allclose(found.covariance()[0], Other.spread[1:, 1:], rtol=1e-5)
    alone = marginal(Other(), [1])
    np.testing.assert_allclose(alone.stddev(), [[0.3]], rtol=1e-5)
