"""Test metrics against closed forms and against posteriors known to be honest or not."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from spurious.inference.calibration import metrics, pit
from spurious.inference.posterior import mixture

tfd = tfp.distributions
NAMES = ("omega_m", "sigma_8")


def gaussians(mean, sigma):
    return tfd.MultivariateNormalDiag(
        tf.constant(mean, tf.float32),
        tf.constant(np.broadcast_to(sigma, np.shape(mean)), tf.float32),
    )


def test_metrics_by_hand():
    truth = np.array([[0.2, 1.0], [0.4, 2.0]])
    mean = truth + np.array([[0.1, 0.0], [-0.3, 0.5]])
    found = metrics(gaussians(mean, [0.2, 0.25]), truth, NAMES)
    expected = {
        "omega_m_rmse": np.sqrt((0.01 + 0.09) / 2),
        "omega_m_r2": 1 - 0.10 / 0.02,
        "omega_m_relative_error": (0.1 / 0.2 + 0.3 / 0.4) / 2,
        "omega_m_sigma": 0.2,
        "omega_m_z_mean": -0.5,
        "omega_m_z_rms": np.sqrt((0.25 + 2.25) / 2),
        "omega_m_coverage_68": 0.5,  # z = 0.5 is inside, z = 1.5 is not
        "omega_m_coverage_95": 1.0,
        "sigma_8_rmse": np.sqrt(0.125),
        "sigma_8_r2": 1 - 0.25 / 0.5,
        "sigma_8_relative_error": 0.125,
        "sigma_8_sigma": 0.25,
        "sigma_8_z_mean": 1.0,
        "sigma_8_z_rms": np.sqrt(2.0),
        "sigma_8_coverage_68": 0.5,
        "sigma_8_coverage_95": 0.5,  # z = 2 lies outside 1.96
        "nll": np.log(2 * np.pi * 0.2 * 0.25) + (0.25 + 2.25 + 0 + 4) / 4,
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_pit_is_scipys_cdf_and_keeps_the_parameters_apart():
    draw = np.random.default_rng(0)
    mean, truth = draw.normal(size=(6, 2)), draw.normal(size=(6, 2))
    expected = stats.norm.cdf(truth, mean, [0.5, 3.0])
    np.testing.assert_allclose(pit(gaussians(mean, [0.5, 3.0]), truth), expected, atol=1e-6)


def test_pit_of_a_mixture_is_the_weighted_cdf():
    means = np.array([[[0.0, 5.0], [4.0, -5.0]]], np.float32)
    scales = np.array([[[1.0, 2.0], [0.5, 1.0]]], np.float32)
    logits = np.log(np.array([[0.25, 0.75]], np.float32))
    truth = np.array([[1.0, -4.0]])
    expected = 0.25 * stats.norm.cdf(truth[0], means[0, 0], scales[0, 0])
    expected += 0.75 * stats.norm.cdf(truth[0], means[0, 1], scales[0, 1])
    np.testing.assert_allclose(pit(mixture(means, scales, logits), truth)[0], expected, rtol=1e-5)


def test_pit_of_other_distributions_is_sampled():
    triangle = tf.constant([[1.0, 0.0], [1.5, 1.0]])
    correlated = tfd.MultivariateNormalTriL(tf.zeros((3, 2)), triangle)
    truth = np.array([[0.0, 0.0], [1.0, -2.0], [-0.5, 3.0]])
    expected = stats.norm.cdf(truth / [1.0, np.hypot(1.5, 1.0)])
    np.testing.assert_allclose(pit(correlated, truth), expected, atol=4 * 0.5 / np.sqrt(4096))


def honest_mixtures(n, seed):
    """Random bimodal posteriors, and truths drawn from them by NumPy."""
    draw = np.random.default_rng(seed)
    means = draw.normal(size=(n, 2, 2)) * 2
    scales, weight = draw.uniform(0.3, 1.0, (n, 2, 2)), draw.uniform(0.2, 0.8, n)
    chosen = (draw.random(n) > weight).astype(int)
    rows = np.arange(n)
    truth = means[rows, chosen] + scales[rows, chosen] * draw.standard_normal((n, 2))
    logits = np.log(np.stack([weight, 1 - weight], axis=1))
    return [a.astype(np.float32) for a in (means, scales, logits)], truth


def test_honest_mixtures_have_nominal_coverage_and_uniform_pit():
    parts, truth = honest_mixtures(4000, seed=1)
    found = metrics(mixture(*parts), truth, NAMES)
    for name in NAMES:
        # Binomial standard errors are 0.0074 and 0.0034.
        assert found[f"{name}_coverage_68"] == pytest.approx(0.68, abs=0.025)
        assert found[f"{name}_coverage_95"] == pytest.approx(0.95, abs=0.012)
        assert found[f"{name}_z_rms"] == pytest.approx(1.0, abs=0.04)
    levels = pit(mixture(*parts), truth)
    assert min(stats.kstest(levels[:, i], "uniform").pvalue for i in range(2)) > 0.01


def test_overconfident_posteriors_are_found_out():
    draw = np.random.default_rng(2)
    truth = draw.normal(size=(2000, 2))
    mean = truth + draw.standard_normal((2000, 2))
    found = metrics(gaussians(mean, 0.5), truth, NAMES)
    assert found["omega_m_z_rms"] == pytest.approx(2.0, rel=0.05)
    inside = 2 * stats.norm.cdf(stats.norm.ppf(0.84) / 2) - 1
    assert found["omega_m_coverage_68"] == pytest.approx(inside, abs=0.04)


@pytest.mark.parametrize(
    ("truth", "names", "message"),
    [
        (np.zeros((3, 2)), NAMES, "must differ"),
        (np.arange(8.0).reshape(4, 2), NAMES, "shape"),
        (np.arange(6.0).reshape(3, 2), ("omega_m",), "1 names"),
    ],
)
def test_impossible_arguments_are_refused(truth, names, message):
    with pytest.raises(ValueError, match=message):
        metrics(gaussians(np.zeros((3, 2)), 1.0), truth, names)
