"""Posteriors of networks and ensembles, in memory and on disk."""

import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from spurious.errors import UserError
from spurious.inference.distributions import parameters
from spurious.inference.heads import HEAD, MixtureHead
from spurious.inference.posterior import Ensemble, NetworkPosterior, Remembered, load, predict
from spurious.inference.presets import compact
from spurious.maps import Standardiser

RANGES = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}
UNITS = Standardiser(mean=64.0, std=38.8)


def network(m=1, seed=1, ranges=RANGES):
    return compact(16, MixtureHead(ranges, m, name=HEAD), UNITS, seed)


def counts(batch, n=16, seed=0):
    return np.random.default_rng(seed).gamma(2.7, 23.7, (batch, n, n)).astype(np.float32)


@pytest.mark.parametrize("m", [1, 2])
def test_posterior_of_a_network(m):
    posterior = NetworkPosterior(network(m))
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
def test_arrays_and_tensors_have_the_same_posterior_whatever_is_set_later(m):
    posterior = NetworkPosterior(network(m))
    for temperature in (1.0, 2.0):
        posterior.head.temperature = temperature
        of_array, of_tensor = (posterior(maps) for maps in (counts(3), tf.constant(counts(3))))
        for one, two in zip(parameters(of_array), parameters(of_tensor), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(posterior(counts(3).astype(float)).mean(), of_array.mean())


@pytest.mark.parametrize("kind", [np.asarray, tf.constant])
def test_maps_of_another_size_are_named(kind):
    with pytest.raises(ValueError, match="18, 18"):
        NetworkPosterior(network())(kind(counts(2, n=18)))


@pytest.mark.parametrize("m", [1, 2])
def test_predict_in_batches_equals_all_at_once(m):
    posterior = NetworkPosterior(network(m))
    maps = counts(7)
    found = parameters(predict(posterior, maps, batch_size=3))
    for one, two in zip(found, parameters(posterior(maps)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


def test_predict_without_maps_is_refused():
    with pytest.raises(ValueError, match="no maps"):
        predict(NetworkPosterior(network()), counts(0))


def test_a_new_process_reads_the_same_posterior(tmp_path):
    posterior = NetworkPosterior(network(2))
    posterior.save(tmp_path / "network.keras")
    np.save(tmp_path / "maps.npy", counts(4))
    script = (
        "import sys, numpy as np\n"
        "from spurious.inference.distributions import parameters\n"
        "from spurious.inference.posterior import load\n"
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
        posterior = NetworkPosterior(network())
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
    NetworkPosterior(network()).save(path)
    damage(path)
    with pytest.raises(UserError, match=r"network\.keras is damaged or (is )?no ") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_a_model_without_head_or_units_is_refused():
    maps = keras.Input((16, 16))
    flat = keras.layers.Flatten()(maps)
    with pytest.raises(ValueError, match="from_keras"):
        NetworkPosterior(keras.Model(maps, keras.layers.Dense(3)(flat)))
    model = keras.Model(maps, MixtureHead(RANGES)(keras.layers.Dense(5)(flat)))
    with pytest.raises(ValueError, match="give its standardiser"):
        NetworkPosterior(model)
    assert NetworkPosterior(model, UNITS).names == ("omega_m", "sigma_8")


def test_an_ensemble_is_the_equal_weight_mixture_of_its_members():
    members = [NetworkPosterior(network(m, seed)) for m, seed in ((1, 1), (1, 2), (1, 3))]
    ensemble = Ensemble(members)
    maps, theta = counts(4), np.tile(np.float32([0.3, 0.8]), (4, 1))
    densities = [np.exp(member(maps).log_prob(theta)) for member in members]
    np.testing.assert_allclose(
        ensemble(maps).log_prob(theta), np.log(np.mean(densities, axis=0)), rtol=1e-4, atol=1e-4
    )
    means = [member(maps).mean() for member in members]
    np.testing.assert_allclose(ensemble(maps).mean(), np.mean(means, axis=0), rtol=1e-4)
    assert ensemble.names == members[0].names
    assert ensemble.standardiser == members[0].standardiser


def test_an_ensemble_of_different_parameters_is_refused():
    other = NetworkPosterior(network(ranges={"h": (0.5, 0.9)}))
    with pytest.raises(ValueError, match="same parameters"):
        Ensemble([NetworkPosterior(network()), other])
    with pytest.raises(ValueError, match="same parameters"):
        Ensemble([])


def test_recalibration_sets_the_temperature_that_the_file_keeps(tmp_path):
    """T^2 is the mean squared z-score; a reloaded file is as wide."""
    posterior = NetworkPosterior(network())
    truth = np.random.default_rng(0).uniform((0.05, 0.5), (0.55, 1.0), (40, 2))
    before = posterior(counts(40))
    z = (before.mean() - truth) / before.stddev()
    posterior.recalibrate(counts(40), truth)
    assert posterior.head.temperature == pytest.approx(np.sqrt(np.mean(z**2)), rel=1e-3)
    posterior.save(tmp_path / "network.keras")
    after = load(tmp_path / "network.keras")(counts(40))
    np.testing.assert_allclose(
        after.stddev(), posterior.head.temperature * before.stddev(), rtol=1e-5
    )
    np.testing.assert_array_equal(after.mean(), before.mean())


def test_a_remembered_posterior_is_asked_once_for_the_same_maps(linear_posterior):
    asked = []

    class Counting:
        names, standardiser = linear_posterior.names, linear_posterior.standardiser

        def __call__(self, maps):
            asked.append(len(maps))
            return linear_posterior(maps)

    remembered = Remembered(Counting(), size=2)
    first, second, third = counts(3, seed=1), counts(3, seed=2), counts(2, seed=3)
    for maps in (first, second, first.copy(), third):
        np.testing.assert_array_equal(remembered(maps).mean(), linear_posterior(maps).mean())
    assert asked == [3, 3, 2]
    remembered(first)
    assert asked == [3, 3, 2]  # used again later than the second, which is what was forgotten
    remembered(second)
    assert asked == [3, 3, 2, 3]


def test_gradients_go_through_a_remembered_posterior(linear_posterior):
    maps = tf.constant(counts(2))
    gradients = []
    for posterior in (linear_posterior, Remembered(linear_posterior)):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            loss = tf.reduce_sum(posterior(maps).log_prob([[0.3, 0.8]] * 2))
        gradients.append(tape.gradient(loss, maps))
    np.testing.assert_array_equal(*gradients)
