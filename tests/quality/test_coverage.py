"""Tests of honesty, on posteriors that are known to be honest or not."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from spurious.bootstrap import binomial_band
from spurious.densities.divergences import Pooled
from spurious.densities.grid import Gridded
from spurious.densities.mixtures import mixture
from spurious.quality.coverage import credible_coverage, pit, sbc_ranks, tarp

tfd = tfp.distributions
BOX = {"omega_m": (-1.0, 1.0), "sigma_8": (0.0, 20.0)}
HALF = np.array([1.0, 10.0])


def gaussians(mean, sigma):
    return tfd.MultivariateNormalDiag(
        tf.constant(mean, tf.float32),
        tf.constant(np.broadcast_to(sigma, np.shape(mean)), tf.float32),
    )


def honest_mixtures(n, seed):
    """Random bimodal posteriors, and truths drawn from them by NumPy."""
    draw = np.random.default_rng(seed)
    means = draw.normal(size=(n, 2, 2)) * 2
    scales, weight = draw.uniform(0.3, 1.0, (n, 2, 2)), draw.uniform(0.2, 0.8, n)
    chosen = (draw.random(n) > weight).astype(int)
    rows = np.arange(n)
    truth = means[rows, chosen] + scales[rows, chosen] * draw.standard_normal((n, 2))
    logits = np.log(np.stack([weight, 1 - weight], axis=1))
    return mixture(*(tf.constant(a, tf.float32) for a in (means, scales, logits))), truth


def smallest_p_value(levels):
    return min(stats.kstest(levels[:, i], "uniform").pvalue for i in range(levels.shape[1]))


def test_pit_is_scipys_cdf_and_keeps_the_parameters_apart():
    draw = np.random.default_rng(0)
    mean, truth = draw.normal(size=(6, 2)), draw.normal(size=(6, 2))
    expected = stats.norm.cdf(truth, mean, [0.5, 3.0])
    np.testing.assert_allclose(pit(gaussians(mean, [0.5, 3.0]), truth), expected, atol=1e-6)


def test_pit_of_a_mixture_is_the_weighted_cdf():
    means = tf.constant([[[0.0, 5.0], [4.0, -5.0]]])
    scales = tf.constant([[[1.0, 2.0], [0.5, 1.0]]])
    logits = tf.math.log(tf.constant([[0.25, 0.75]]))
    truth = np.array([[1.0, -4.0]])
    expected = 0.25 * stats.norm.cdf([1, -4], [0, 5], [1, 2])
    expected += 0.75 * stats.norm.cdf([1, -4], [4, -5], [0.5, 1])
    np.testing.assert_allclose(pit(mixture(means, scales, logits), truth)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("m", [1, 2])
def test_pit_of_correlated_gaussians_is_that_of_their_marginals(m):
    triangle = np.array([[1.0, 0.0], [1.5, 1.0]])
    truth = np.array([[0.0, 0.0], [1.0, -2.0], [-0.5, 3.0]])
    means = np.zeros((3, m, 2), np.float32)
    trils = np.broadcast_to(triangle, (3, m, 2, 2)).astype(np.float32)
    correlated = mixture(tf.constant(means), tf.constant(trils), tf.zeros((3, m)))
    expected = stats.norm.cdf(truth / [1.0, np.hypot(1.5, 1.0)])
    np.testing.assert_allclose(pit(correlated, truth), expected, atol=1e-6)


def test_pit_on_a_grid():
    """Two cells of [0, 4] hold 1/4 and 3/4, three of [-3, 0] hold 1/6, 2/6, 3/6."""
    weights = np.outer([0.25, 0.75], np.array([1, 2, 3]) / 6)
    grid = Gridded(tf.constant(np.log(weights)[None], tf.float32), [(0, 4), (-3, 0)])
    expected = [[0.25 + 0.75 / 2, 1 / 6 + 0.5 * 2 / 6]]
    np.testing.assert_allclose(pit(grid, np.array([[3.0, -1.5]])), expected, atol=1e-6)


def test_pit_of_a_pool_is_the_mean_of_its_members():
    truth = np.array([[0.3, -1.0], [0.0, 2.0]])
    members = [gaussians(np.zeros((2, 2)), [1.0, 2.0]), gaussians(np.ones((2, 2)), [0.5, 1.0])]
    expected = 0.5 * (stats.norm.cdf(truth / [1, 2]) + stats.norm.cdf((truth - 1) / [0.5, 1]))
    np.testing.assert_allclose(pit(Pooled(members), truth), expected, atol=1e-6)


def test_pit_of_other_distributions_is_sampled():
    boxes = tfd.Independent(tfd.Uniform([[0.0, -2.0], [1.0, 0.0]], [[1.0, 2.0], [3.0, 8.0]]), 1)
    truth = np.array([[0.2, 0.0], [2.9, 9.0]])
    expected = [[0.2, 0.5], [0.95, 1.0]]
    found = pit(boxes, truth)
    np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(4096))
    np.testing.assert_array_equal(found, pit(boxes, truth))
    assert not np.array_equal(found, pit(boxes, truth, seed=1))


def test_credible_coverage_by_hand():
    """Central intervals of 50 % span 0.25 to 0.75; the PIT's distance from 1/2 decides."""
    levels = np.array([[0.5, 0.1], [0.3, 0.9], [0.05, 0.99]])
    found = credible_coverage(levels, np.array([0.5, 0.85, 0.95]))
    np.testing.assert_allclose(found, [[2 / 3, 0], [2 / 3, 2 / 3], [1, 2 / 3]])


def test_honest_mixtures_pass_every_test():
    distribution, truth = honest_mixtures(3000, seed=1)
    levels = pit(distribution, truth)
    assert smallest_p_value(levels) > 0.01
    np.testing.assert_allclose(credible_coverage(levels, np.array([0.68])), 0.68, atol=0.03)
    ranks = sbc_ranks(distribution, truth, 99, seed=3)
    assert ranks.shape == truth.shape and ranks.min() == 0 and ranks.max() == 99
    for i in range(2):
        counts = np.histogram(ranks[:, i], np.linspace(-0.5, 99.5, 21))[0]
        assert stats.chisquare(counts).pvalue > 0.01
    found = tarp(distribution, truth, {"a": (-6, 6), "b": (-6, 6)}, n_samples=200, seed=2)
    inside = (found.low <= found.levels) & (found.levels <= found.high)
    assert inside.mean() > 0.9 and found.p_value > 0.05 and found.deviation < 0.03


def test_sbc_ranks_count_the_draws_below_the_truth():
    """In the first parameter the truth lies high, in the second low."""
    truth = np.tile([5.0, -5.0], (50, 1))
    ranks = sbc_ranks(gaussians(np.zeros((50, 2)), 1.0), truth, n_samples=9)
    np.testing.assert_array_equal(ranks, np.tile([9, 0], (50, 1)))


@pytest.mark.parametrize(("width", "where"), [(0.5, "ends"), (2.0, "middle")])
def test_sbc_ranks_tell_too_narrow_from_too_wide(width, where):
    draw = np.random.default_rng(2)
    truth = draw.normal(size=(1000, 1))
    ranks = sbc_ranks(gaussians(truth + draw.standard_normal(truth.shape), width), truth, 99)
    counts = np.histogram(ranks, np.linspace(-0.5, 99.5, 11))[0]
    low, high = (1000 * float(end) for end in binomial_band(1000, 0.1))
    middle, ends = counts[4:6].mean(), counts[[0, -1]].mean()
    assert (ends > high and middle < low) if where == "ends" else (ends < low and middle > high)


def numpy_tarp(samples, truth, low, high, levels, seed):
    """Algorithm 2 of Lemos et al. (2023), map by map, with a histogram for the coverage."""
    draw, shares = np.random.default_rng(seed), []
    for i in range(len(truth)):
        reference = draw.uniform(low, high)
        squares = [
            (((points - reference) / (high - low)) ** 2).sum(axis=-1)
            for points in (samples[:, i], truth[i])
        ]
        shares.append(np.mean(squares[0] < squares[1]))
    counts = np.histogram(shares, bins=levels)[0]
    return np.concatenate([[0], np.cumsum(counts)]) / len(truth)


def toy(n, seed, correlation=0.0):
    """Truths drawn from honest Gaussian posteriors, whose means are uniform in BOX.

    Returns truths, means, and the Cholesky factor of the covariance, 0.1 half ranges wide.
    """
    draw = np.random.default_rng(seed)
    tril = 0.1 * HALF[:, None] * np.linalg.cholesky([[1, correlation], [correlation, 1]])
    mean = draw.uniform(-1, 1, (n, 2)) * HALF + [0.0, 10.0]
    return mean + draw.standard_normal((n, 2)) @ tril.T, mean, tril


@pytest.mark.parametrize("width", [1.0, 0.6])
def test_tarp_agrees_with_an_independent_one(width):
    """Both draw their own reference points: the error of their difference is at most 0.011."""
    truth, mean, tril = toy(4000, seed=4)
    sigma = np.diag(tril)
    normal = np.random.default_rng(5).standard_normal((100, 4000, 2))
    samples = mean + width * sigma * normal
    levels = np.linspace(0, 1, 21)
    found = tarp(gaussians(mean, width * sigma), truth, BOX, 100, seed=5, levels=levels)
    expected = numpy_tarp(samples, truth, np.array([-1, 0]), np.array([1, 20]), levels, seed=6)
    np.testing.assert_allclose(found.ecp, expected, atol=0.035)
    assert found.ecp[0] == 0 and found.ecp[-1] == pytest.approx(1)


def test_tarp_tells_too_narrow_from_too_wide():
    truth, mean, tril = toy(1500, seed=7)
    for width, sign in ((0.5, 1), (2.0, -1)):
        found = tarp(gaussians(mean, width * np.diag(tril)), truth, BOX, 200, seed=8)
        assert found.p_value < 0.01 and found.deviation > 0.05
        left, right = np.searchsorted(found.levels, [0.2, 0.8])
        assert sign * (found.low if sign > 0 else found.high)[left] > sign * 0.2
        assert sign * (found.high if sign > 0 else found.low)[right] < sign * 0.8


def test_tarp_sees_wrong_correlations_that_every_parameter_alone_hides():
    """Errors are correlated (0.95); the posteriors have the right widths and say they are not."""
    truth, mean, tril = toy(1500, seed=15, correlation=0.95)
    ignoring = gaussians(mean, np.linalg.norm(tril, axis=1))
    knowing = mixture(
        *(tf.constant(a[:, None], tf.float32) for a in (mean, np.tile(tril, (1500, 1, 1)))),
        tf.zeros((1500, 1)),
    )
    assert smallest_p_value(pit(ignoring, truth)) > 0.05
    np.testing.assert_allclose(pit(ignoring, truth), pit(knowing, truth), atol=1e-5)
    assert tarp(ignoring, truth, BOX, 200, seed=10).p_value < 0.01
    assert tarp(knowing, truth, BOX, 200, seed=10).p_value > 0.05


def test_tarp_sees_a_bias_that_pit_hides():
    """theta ~ N(0, 1), x ~ N(theta, 1): the posterior is N(x/2, 1/2), but N(x, 1) is given.

    Its mean is biased away from the prior's by as much as theta itself, yet (x - theta) / 1 is
    exactly standard normal, so that the PIT is uniform and every marginal coverage is right.
    """
    draw = np.random.default_rng(11)
    truth = draw.normal(size=(1500, 2))
    x = truth + draw.normal(size=truth.shape)
    box = {"a": (-2.0, 2.0), "b": (-2.0, 2.0)}
    biased, right = gaussians(x, 1.0), gaussians(x / 2, np.sqrt(0.5))
    assert smallest_p_value(pit(biased, truth)) > 0.05
    assert np.var(pit(biased, truth)) == pytest.approx(1 / 12, rel=0.03)
    assert tarp(biased, truth, box, 200, seed=12).p_value < 0.01
    assert tarp(right, truth, box, 200, seed=12).p_value > 0.05


def test_p_values_of_honest_posteriors_are_as_small_as_they_should_be():
    """P(p <= 0.2) = 0.2."""
    p_values = []
    for seed in range(60):
        truth, mean, tril = toy(100, seed=100 + seed)
        found = tarp(gaussians(mean, np.diag(tril)), truth, BOX, 50, seed=seed)
        p_values.append(found.p_value)
    below = np.mean(np.array(p_values) <= 0.2)
    assert 0.05 <= below <= 0.36  # binomial error 0.052
    assert set(found.summary) == {"deviation", "p_value"}


def test_groups_widen_the_band_of_tarp():
    truth, mean, tril = toy(200, seed=13)
    twice = [np.repeat(a, 8, axis=0) for a in (truth, mean)]
    alone, together = (
        tarp(gaussians(twice[1], np.diag(tril)), twice[0], BOX, 50, seed=1, groups=groups)
        for groups in (None, np.repeat(np.arange(200), 8))
    )
    np.testing.assert_array_equal(alone.ecp, together.ecp)
    assert np.mean(together.high - together.low) > 1.1 * np.mean(alone.high - alone.low)


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="shape"):
        tarp(gaussians(np.zeros((3, 2)), 1.0), np.zeros((4, 2)), BOX)
    with pytest.raises(ValueError, match="1 names"):
        tarp(gaussians(np.zeros((3, 2)), 1.0), np.zeros((3, 2)), {"omega_m": (0, 1)})
