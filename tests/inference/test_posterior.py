"""Distributions, their KL divergences, and posteriors on disk."""

import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, special, stats

from spurious.errors import UserError
from spurious.inference.network import compact
from spurious.inference.posterior import (
    NetworkPosterior,
    concatenate,
    kl,
    kl_and_error,
    load,
    mixture,
    parameters,
    predict,
)
from spurious.maps import Standardiser

tfd = tfp.distributions

RANGES = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}
UNITS = Standardiser(mean=64.0, std=38.8)


def tensors(batch, m, p=2, seed=0):
    """Random means, scales and logits of overlapping components."""
    draw = np.random.default_rng(seed)
    means = 0.5 + 0.1 * draw.standard_normal((batch, m, p))
    scales = draw.uniform(0.05, 0.15, (batch, m, p))
    return [tf.constant(a, tf.float32) for a in (means, scales, draw.standard_normal((batch, m)))]


def counts(batch, n=16, seed=0):
    return np.random.default_rng(seed).gamma(2.7, 23.7, (batch, n, n)).astype(np.float32)


@pytest.mark.parametrize("m", [1, 3])
def test_density_is_scipys(m):
    means, scales, logits = (t.numpy().astype(float) for t in tensors(4, m))
    x = np.random.default_rng(1).uniform(0.3, 0.7, (4, 2))
    normal = stats.norm.logpdf(x[:, None], means, scales).sum(axis=2)
    expected = special.logsumexp(normal + special.log_softmax(logits, axis=1), axis=1)
    found = mixture(*tensors(4, m))
    assert (found.batch_shape, found.event_shape) == ((4,), (2,))
    np.testing.assert_allclose(found.log_prob(x.astype(np.float32)), expected, rtol=2e-5, atol=2e-5)


def test_kl_of_gaussians_is_the_closed_form_the_right_way_round():
    """KL(p||q) = sum log(s_q/s_p) + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2."""
    (mp, sp, lp), (mq, sq, lq) = tensors(5, 1, seed=0), tensors(5, 1, seed=1)
    forward = tf.math.log(sq / sp) + (sp**2 + (mp - mq) ** 2) / (2 * sq**2) - 0.5
    value, error = kl_and_error(mixture(mp, sp, lp), mixture(mq, sq, lq))
    np.testing.assert_allclose(value, tf.reduce_sum(forward, [1, 2]), rtol=1e-4)
    np.testing.assert_array_equal(error, np.zeros(5))


def test_kl_direction_by_hand():
    """A narrow p inside a wide q is cheap, the other way round dear: log 2 - 3/8, 3/2 - log 2."""
    narrow = tfd.MultivariateNormalDiag([[0.0]], [[1.0]])
    wide = tfd.MultivariateNormalDiag([[0.0]], [[2.0]])
    np.testing.assert_allclose(kl(narrow, wide), [np.log(2) - 3 / 8], rtol=1e-5)
    np.testing.assert_allclose(kl(wide, narrow), [3 / 2 - np.log(2)], rtol=1e-5)


def test_kl_of_mixtures_is_the_integral():
    """One-dimensional mixtures against numerical integration, both ways round."""
    one, two = tensors(2, 2, p=1, seed=2), tensors(2, 2, p=1, seed=5)

    def density(parts, row):
        means, scales, logits = (t.numpy().astype(float)[row] for t in parts)
        weights = special.softmax(logits)
        return lambda x: np.sum(weights * stats.norm.pdf(x, means[:, 0], scales[:, 0]))

    for p, q in ((one, two), (two, one)):
        value, error = kl_and_error(mixture(*p), mixture(*q), n_samples=40_000, seed=(1, 2))
        for row in range(2):
            f, g = density(p, row), density(q, row)
            exact, _ = integrate.quad(
                lambda x, f=f, g=g: f(x) * np.log(f(x) / g(x)), -0.6, 1.6, limit=200
            )
            assert abs(value[row] - exact) < 4 * error[row]
            assert error[row] < 0.05 * exact


def test_standard_error_of_kl_is_the_scatter_of_its_estimates():
    p, q = (mixture(*(tf.repeat(t, 300, axis=0) for t in tensors(1, 2, seed=s))) for s in (2, 5))
    values, errors = kl_and_error(p, q, n_samples=400)
    np.testing.assert_allclose(np.mean(errors), np.std(values), rtol=0.15)


def test_kl_repeats_for_a_seed_and_is_zero_for_equal_mixtures():
    p, q = mixture(*tensors(3, 2, seed=2)), mixture(*tensors(3, 2, seed=5))
    np.testing.assert_array_equal(kl(p, q), kl(p, q))
    assert np.all(kl(p, q, seed=(0, 1)).numpy() != kl(p, q).numpy())
    np.testing.assert_allclose(kl(p, mixture(*tensors(3, 2, seed=2))), np.zeros(3), atol=1e-6)


def test_gradient_of_kl_of_mixtures_is_right_in_means_scales_and_logits():
    """Against central differences of the integral on a grid, in one dimension."""
    p, q = tensors(1, 2, p=1, seed=2), tensors(1, 2, p=1, seed=5)
    x = np.linspace(-1.0, 2.0, 6001)

    def exact(parts):
        def log_density(means, scales, logits):
            normal = stats.norm.logpdf(x[:, None], means[0, :, 0], scales[0, :, 0])
            return special.logsumexp(normal + special.log_softmax(logits[0]), axis=1)

        f, g = log_density(*parts), log_density(*(t.numpy().astype(float) for t in q))
        return integrate.trapezoid(np.exp(f) * (f - g), x)

    with tf.GradientTape() as tape:
        tape.watch(p)
        value = kl(mixture(*p), mixture(*q), n_samples=200_000)
    found = np.concatenate([g.numpy().ravel() for g in tape.gradient(value, p)])

    start = [t.numpy().astype(float) for t in p]
    expected = []
    for i, part in enumerate(start):
        for index in np.ndindex(part.shape):
            ends = []
            for step in (1e-4, -1e-4):
                moved = [a.copy() for a in start]
                moved[i][index] += step
                ends.append(exact(moved))
            expected.append((ends[0] - ends[1]) / 2e-4)
    assert np.all(found[-2:] != 0)
    np.testing.assert_allclose(found, expected, atol=0.03 * np.max(np.abs(expected)))


@pytest.mark.parametrize("m", [1, 3])
def test_parameters_undo_mixture(m):
    means, scales, logits = tensors(4, m)
    found = parameters(mixture(means, scales, logits))
    np.testing.assert_allclose(found[0], means, rtol=1e-6)
    np.testing.assert_allclose(found[1], scales, rtol=1e-6)
    np.testing.assert_allclose(tf.nn.softmax(found[2]), tf.nn.softmax(logits), rtol=1e-6)


def test_parameters_of_other_distributions_are_refused():
    with pytest.raises(ValueError, match="no mixture of Gaussians"):
        parameters(tfd.MultivariateNormalTriL([[0.0, 0.0]], [[[1.0, 0.0], [0.5, 1.0]]]))


@pytest.mark.parametrize("m", [1, 3])
def test_concatenated_distributions_keep_their_kind_and_order(m):
    parts = tensors(5, m)
    whole = mixture(*parts)
    joined = concatenate([mixture(*(t[:2] for t in parts)), mixture(*(t[2:] for t in parts))])
    assert type(joined) is type(whole) and joined.batch_shape == (5,)
    x = np.full((5, 2), 0.5, np.float32)
    np.testing.assert_allclose(joined.log_prob(x), whole.log_prob(x), rtol=1e-5)


def test_other_distributions_can_be_concatenated_and_compared():
    triangle = tf.constant([[1.0, 0.0], [0.5, 1.0]])
    one = tfd.MultivariateNormalTriL(tf.zeros((2, 2)), triangle)
    two = tfd.MultivariateNormalTriL(tf.ones((3, 2)), triangle)
    joined = concatenate([one, two])
    assert joined.batch_shape == (5,)
    np.testing.assert_allclose(joined.mean(), [[0, 0]] * 2 + [[1, 1]] * 3, atol=1e-6)
    wide = tfd.MultivariateNormalTriL(tf.zeros((5, 2)), 2 * triangle)
    value, error = kl_and_error(joined, wide, n_samples=4000)
    mahalanobis = np.sum(np.linalg.solve(2 * triangle.numpy(), [1.0, 1.0]) ** 2)
    same = np.log(4) - 0.75
    exact = np.array([same] * 2 + [same + mahalanobis / 2] * 3)
    assert np.all(np.abs(value - exact) < 5 * error)


@pytest.mark.parametrize("m", [1, 2])
def test_posterior_of_a_network(m):
    posterior = NetworkPosterior(compact(16, m, UNITS, RANGES, seed=1))
    assert posterior.names == ("omega_m", "sigma_8")
    np.testing.assert_allclose(
        [posterior.standardiser.mean, posterior.standardiser.std], [64.0, 38.8], rtol=1e-12
    )
    maps = tf.constant(counts(3))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        log_prob = posterior(maps).log_prob([[0.3, 0.8]] * 3)
    assert log_prob.shape == (3,)
    assert np.all(np.any(tape.gradient(log_prob, maps).numpy() != 0, axis=(1, 2)))


@pytest.mark.parametrize("m", [1, 2])
def test_predict_in_batches_equals_all_at_once(m):
    posterior = NetworkPosterior(compact(16, m, UNITS, RANGES, seed=1))
    maps = counts(7)
    found = parameters(predict(posterior, maps, batch_size=3))
    for one, two in zip(found, parameters(posterior(maps)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_predict_without_maps_is_refused():
    with pytest.raises(ValueError, match="no maps"):
        predict(NetworkPosterior(compact(16, 1, UNITS, RANGES, seed=1)), counts(0))


def test_a_users_model_needs_only_three_outputs():
    maps = keras.Input((16, 16))
    x = keras.layers.Dense(6)(keras.layers.Flatten()(maps))
    means = keras.layers.Reshape((2, 3))(x)
    outputs = (means, keras.layers.Activation("exponential")(means), keras.layers.Dense(2)(x))
    model = keras.Model(maps, outputs)
    posterior = NetworkPosterior(model, names=("a", "b", "c"), standardiser=Standardiser(0.0, 1.0))
    assert posterior(counts(2) / 1000).event_shape == (3,)
    with pytest.raises(ValueError, match="give the names"):
        NetworkPosterior(model, standardiser=UNITS)
    with pytest.raises(ValueError, match="give its standardiser"):
        NetworkPosterior(model, names=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"expected means \(None, m, 2\)"):
        NetworkPosterior(model, names=("a", "b"), standardiser=UNITS)


def test_a_new_process_reads_the_same_posterior(tmp_path):
    posterior = NetworkPosterior(compact(16, 2, UNITS, RANGES, seed=1))
    posterior.save(tmp_path / "network.keras")
    np.save(tmp_path / "maps.npy", counts(4))
    script = (
        "import sys, numpy as np\n"
        "from spurious.inference.posterior import load, parameters\n"
        "posterior = load(sys.argv[1] + '/network.keras')\n"
        "assert posterior.names == ('omega_m', 'sigma_8')\n"
        "assert abs(posterior.standardiser.std - 38.8) < 1e-12\n"
        "found = parameters(posterior(np.load(sys.argv[1] + '/maps.npy')))\n"
        "np.savez(sys.argv[1] + '/found.npz', *(t.numpy() for t in found))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=120)
    expected = parameters(posterior(counts(4)))
    with np.load(tmp_path / "found.npz") as found:
        for name, value in zip(found.files, expected, strict=True):
            np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-6)


def test_same_weights_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        posterior = NetworkPosterior(compact(16, 1, UNITS, RANGES, seed=1))
        posterior.save(tmp_path / f"{name}.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.keras", "b.keras"]


def test_missing_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none\.keras is missing: make it with `spurious train`"):
        load(tmp_path / "none.keras")


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _spoil_weights(path):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["model.weights.h5"] = members["model.weights.h5"][:1000]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _replace_by_classifier(path):
    keras.Sequential([keras.Input((16,)), keras.layers.Dense(3)]).save(path)


def _replace_by_code(path):
    maps = keras.Input((16, 16))
    keras.Model(maps, keras.layers.Lambda(lambda x: 2 * x)(maps)).save(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text("nothing"),
        _truncate,
        _spoil_weights,
        _replace_by_classifier,
        _replace_by_code,
    ],
)
def test_damaged_or_foreign_model_is_one_line(tmp_path, damage):
    path = tmp_path / "network.keras"
    NetworkPosterior(compact(16, 1, UNITS, RANGES, seed=1)).save(path)
    damage(path)
    with pytest.raises(UserError, match=r"network\.keras is damaged or is no posterior") as error:
        load(path)
    assert "\n" not in str(error.value)
