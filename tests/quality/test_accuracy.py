"""Test metrics against closed forms and against posteriors known to be honest or not."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import stats

from spurious.densities.mixtures import mixture
from spurious.quality.accuracy import edge, metrics, over_grid

tfd = tfp.distributions
NAMES = ("omega_m", "sigma_8")
RANGES = {"omega_m": (0.0, 1.0), "sigma_8": (0.0, 10.0)}


def gaussians(mean, sigma):
    return tfd.MultivariateNormalDiag(
        tf.constant(mean, tf.float32),
        tf.constant(np.broadcast_to(sigma, np.shape(mean)), tf.float32),
    )


def test_metrics_by_hand():
    truth = np.array([[0.2, 1.0], [0.4, 2.0]])
    mean = truth + np.array([[0.1, 0.0], [-0.3, 0.5]])
    found = metrics(gaussians(mean, [0.2, 0.25]), truth, NAMES, seed=1)
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
        "chi2": (0.25 + 2.25 + 0 + 4) / 4,
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name]["mean"] == pytest.approx(value, rel=1e-5), name
    # Two maps: a resample may be either of them twice.
    assert found["omega_m_rmse"] == pytest.approx({"mean": np.sqrt(0.05), "low": 0.1, "high": 0.3})
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_chi2_knows_the_correlation():
    """An error of one unit along (1, 1) and one along (1, -1), by the inverse of the covariance."""
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    tril = tf.constant(np.tile(np.linalg.cholesky(covariance), (2, 1, 1)), tf.float32)
    truth = np.array([[1.0, 1.0], [2.0, 3.0]])
    mean = truth + np.array([[1.0, 1.0], [1.0, -1.0]])
    found = metrics(
        tfd.MultivariateNormalTriL(tf.constant(mean, tf.float32), tril), truth, NAMES, seed=1
    )["chi2"]
    along, across = 2 / 1.8 / 2, 2 / 0.2 / 2
    assert found["mean"] == pytest.approx((along + across) / 2, rel=1e-4)
    assert found["low"] == pytest.approx(along, rel=1e-4)
    assert found["high"] == pytest.approx(across, rel=1e-4)


def honest_mixtures(n, seed):
    """Random mixtures of two correlated Gaussians, and truths drawn from them by NumPy."""
    draw = np.random.default_rng(seed)
    means = draw.normal(size=(n, 2, 2)) * 2
    trils = np.tril(draw.uniform(-1, 1, (n, 2, 2, 2)), -1)
    trils += np.eye(2) * draw.uniform(0.3, 1.0, (n, 2, 2, 1))
    weight = draw.uniform(0.2, 0.8, n)
    rows, chosen = np.arange(n), (draw.random(n) > weight).astype(int)
    normal = draw.standard_normal((n, 2))
    truth = means[rows, chosen] + np.einsum("npq,nq->np", trils[rows, chosen], normal)
    logits = np.log(np.stack([weight, 1 - weight], axis=1))
    return mixture(*(tf.constant(a, tf.float32) for a in (means, trils, logits))), truth


def test_honest_mixtures_have_nominal_coverage_and_chi2():
    found = metrics(*honest_mixtures(4000, seed=1), NAMES, seed=2)
    for name in NAMES:
        # Binomial standard errors are 0.0074 and 0.0034.
        assert found[f"{name}_coverage_68"]["mean"] == pytest.approx(0.68, abs=0.025)
        assert found[f"{name}_coverage_95"]["mean"] == pytest.approx(0.95, abs=0.012)
        assert found[f"{name}_z_rms"]["mean"] == pytest.approx(1.0, abs=0.04)
    assert found["chi2"]["mean"] == pytest.approx(1.0, abs=0.05)
    width = found["omega_m_coverage_68"]["high"] - found["omega_m_coverage_68"]["low"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.68 * 0.32 / 4000), rel=0.15)


def test_overconfident_posteriors_are_found_out():
    draw = np.random.default_rng(2)
    truth = draw.normal(size=(2000, 2))
    mean = truth + draw.standard_normal((2000, 2))
    found = metrics(gaussians(mean, 0.5), truth, NAMES, seed=1)
    assert found["omega_m_z_rms"]["mean"] == pytest.approx(2.0, rel=0.05)
    assert found["chi2"]["low"] > 3.5
    inside = 2 * stats.norm.cdf(stats.norm.ppf(0.84) / 2) - 1
    assert found["omega_m_coverage_68"]["mean"] == pytest.approx(inside, abs=0.04)


def test_maps_of_one_simulation_count_once():
    draw = np.random.default_rng(3)
    truth = draw.normal(size=(100, 2))
    mean = truth + draw.standard_normal((100, 2))
    alone = metrics(gaussians(mean, 1.0), truth, NAMES, seed=4)
    truth, mean = (np.repeat(a, 3, axis=0) for a in (truth, mean))
    together = metrics(gaussians(mean, 1.0), truth, NAMES, 4, np.repeat(np.arange(100), 3))
    apart = metrics(gaussians(mean, 1.0), truth, NAMES, seed=4)
    for name, value in alone.items():
        assert together[name] == pytest.approx(value, rel=1e-5), name
    widths = [m["omega_m_rmse"]["high"] - m["omega_m_rmse"]["low"] for m in (together, apart)]
    assert widths[0] == pytest.approx(np.sqrt(3) * widths[1], rel=0.15)


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
        metrics(gaussians(np.zeros((3, 2)), 1.0), truth, names, seed=1)


def test_errors_at_each_cosmology():
    truth = np.array([[0.3, 1.0], [0.1, 2.0], [0.3, 1.0]])
    error = np.array([[0.1, -1.0], [0.2, 0.5], [-0.3, -2.0]])
    found = over_grid(truth + error, np.tile([0.1, 2.0], (3, 1)), truth, NAMES)
    assert found["n_maps"] == [1, 2]
    expected = {
        "omega_m": {
            "truth": [0.1, 0.3],
            "bias": [0.2, -0.1],
            "rmse": [0.2, np.sqrt(0.05)],
            "z_rms": [2.0, np.sqrt(5)],
        },
        "sigma_8": {
            "truth": [2.0, 1.0],
            "bias": [0.5, -1.5],
            "rmse": [0.5, np.sqrt(2.5)],
            "z_rms": [0.25, np.sqrt(2.5) / 2],
        },
    }
    for name, columns in expected.items():
        for column, values in columns.items():
            np.testing.assert_allclose(found[name][column], values, err_msg=f"{name} {column}")
    assert json.loads(json.dumps(found)) == found


def test_cosmologies_of_a_random_design_are_gathered_in_cells():
    draw = np.random.default_rng(5)
    truth = draw.uniform([0.1, 0.6], [0.5, 1.0], (4000, 2))
    truth[:2] = [[0.1, 0.6], [0.5, 1.0]]
    mean = truth + [0.01, 0.0] * (truth[:, 1:] > 0.8)
    found = over_grid(mean, np.ones_like(mean), truth, NAMES, cells=4)
    assert len(found["n_maps"]) == 16 and sum(found["n_maps"]) == 4000
    np.testing.assert_allclose(sorted(set(found["sigma_8"]["truth"])), [0.65, 0.75, 0.85, 0.95])
    np.testing.assert_allclose(sorted(set(found["omega_m"]["truth"])), [0.15, 0.25, 0.35, 0.45])
    bias = np.where(np.array(found["sigma_8"]["truth"]) > 0.8, 0.01, 0)
    np.testing.assert_allclose(found["omega_m"]["bias"], bias, atol=1e-12)


def test_errors_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        over_grid(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((4, 2)), NAMES)


def test_edges_of_a_grid_are_its_outermost_nodes():
    axes = np.linspace(0, 1, 11), np.linspace(0, 10, 11)
    truth = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    pulled = truth + np.array([0.2, 0.1]) * (np.array([0.5, 5.0]) - truth)
    found = edge(pulled, np.full_like(truth, 0.05), truth, RANGES, seed=1)
    parts = {"low": 11, "high": 11, "edge": 22, "interior": 99}
    for name, inward in (("omega_m", 0.1), ("sigma_8", 0.5)):
        assert {part: row["n_maps"] for part, row in found[name].items()} == parts
        for part in ("low", "high", "edge"):
            assert found[name][part]["inward"]["mean"] == pytest.approx(inward), (name, part)
            assert found[name][part]["rmse"]["mean"] == pytest.approx(inward), (name, part)
            assert found[name][part]["z_rms"]["mean"] == pytest.approx(inward / 0.05)
        assert 0 < found[name]["interior"]["inward"]["mean"] < inward
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_posterior_means_are_pulled_inward_by_the_prior():
    """Truths uniform in a box, Gaussian noise: the posterior's mean is a truncated Gaussian's."""
    draw, sigma = np.random.default_rng(6), 0.1
    truth = draw.uniform(0, 1, (3000, 1))
    x = truth + sigma * draw.standard_normal(truth.shape)
    posterior = stats.truncnorm(-x / sigma, (1 - x) / sigma, x, sigma)
    found = edge(posterior.mean(), posterior.std(), truth, {"omega_m": (0.0, 1.0)}, seed=1)
    rows = found["omega_m"]
    assert rows["edge"]["n_maps"] == pytest.approx(600, abs=90)
    for part in ("low", "high", "edge"):
        assert rows[part]["inward"]["low"] > 0.02
    # By symmetry no pull in the middle; the mean of 2400 errors of 0.1 has an error of 0.002.
    assert abs(rows["interior"]["inward"]["mean"]) < 0.02
    everywhere = np.sqrt(np.mean((posterior.mean() - truth) ** 2 / posterior.var()))
    assert everywhere == pytest.approx(1, abs=0.05)


def test_an_edge_without_maps_is_left_out():
    truth = np.array([[0.5, 5.0], [0.95, 6.0]])
    found = edge(truth, np.ones_like(truth), truth, RANGES, seed=1, groups=np.array([4, 4]))
    assert set(found["omega_m"]) == {"high", "edge", "interior"}
    assert set(found["sigma_8"]) == {"interior"}
