"""Posteriors of networks and ensembles, in memory and on disk."""

import re
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from spurious.data.maps import Standardiser
from spurious.densities.divergences import parameters
from spurious.errors import UserError
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.mixture import MixtureHead
from spurious.networks.model_files import read_identity
from spurious.posteriors.trained import Ensemble, NetworkPosterior, Remembered, load, predict

RANGES = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}
UNITS = Standardiser(mean=64.0, std=38.8)


def network(m=1, seed=1, ranges=RANGES):
    return Compact().model(16, HeadLayer(ranges, MixtureHead(components=m), name=HEAD), UNITS, seed)


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


@pytest.mark.slow
def test_a_new_process_reads_the_same_posterior(tmp_path):
    posterior = NetworkPosterior(network(2))
    posterior.save(tmp_path / "network.keras")
    np.save(tmp_path / "maps.npy", counts(4))
    script = (
        "import sys, numpy as np\n"
        "from spurious.densities.divergences import parameters\n"
        "from spurious.posteriors.trained import load\n"
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


def _members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _rewrite(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _without(member):
    def damage(path):
        _rewrite(path, {k: v for k, v in _members(path).items() if k != member})

    return damage


def _with(member, content, compression=zipfile.ZIP_STORED):
    def damage(path):
        _rewrite(path, {**_members(path), member: content}, compression)

    return damage


def _flip_a_byte_of_the_weights(path):
    content = path.read_bytes()
    weights = content.index(b"model.weights.h5") + 20000
    path.write_bytes(content[:weights] + bytes([content[weights] ^ 1]) + content[weights + 1 :])


def _deep(depth):
    return b'{"config": ' * depth + b"1" + b"}" * depth


def _set_weights(value):
    def damage(path):
        model = network()
        weights = model.get_weights()
        weights[3].flat[5] = value
        model.set_weights(weights)
        NetworkPosterior(model).save(path)

    return damage


def _edit_config(old, new):
    def damage(path):
        content = _members(path)["config.json"].decode()
        assert old in content
        _with("config.json", content.replace(old, new).encode())(path)

    return damage


DAMAGES = {
    "text": (lambda path: path.write_text("nothing"), "is damaged or no file of Keras 3"),
    "truncated": (_truncate, "is damaged or no file of Keras 3"),
    "weights cut": (_spoil_weights, "is damaged or cannot be read"),
    "one bit": (
        _flip_a_byte_of_the_weights,
        "is damaged: model.weights.h5 does not have its checksum",
    ),
    "classifier": (_replace_by_classifier, "is damaged or is no posterior"),
    "code": (_replace_by_code, "has the Lambda layer 'lambda"),
    "no config": (_without("config.json"), "is damaged: it has no config.json"),
    "no metadata": (_without("metadata.json"), "is damaged: it has no metadata.json"),
    "no weights": (_without("model.weights.h5"), "is damaged: it has no model.weights"),
    "deep": (_with("config.json", _deep(100_000)), "is damaged: it is nested too deeply"),
    "deep for us alone": (_with("config.json", _deep(900)), "it is nested too deeply"),
    "deep for Keras alone": (_with("config.json", _deep(300)), "is damaged or cannot be read"),
    "a number": (_with("config.json", b"1"), "is damaged or cannot be read"),
    "large config": (
        _with("config.json", b" " * (17 * 2**20)),
        "is damaged: config.json has 17825792 bytes, at most 8388608 are allowed",
    ),
    "packed": (
        _with("config.json", b" " * 2**28, zipfile.ZIP_DEFLATED),
        "is damaged: config.json has 268435456 bytes, at most 8388608 are allowed",
    ),
    "packed weights": (
        _with("model.weights.h5", b" " * 2**28, zipfile.ZIP_DEFLATED),
        "is damaged: model.weights.h5 is packed, 268435456 bytes in ",
    ),
    "more than a network": (
        _with("assets/a.txt", b"a"),
        "is damaged: it holds 'assets/a.txt': must hold config.json",
    ),
    "deep identity": (
        _with("spurious.json", _deep(100_000)),
        "is damaged: spurious.json: it is nested too deeply",
    ),
    "list for identity": (_with("spurious.json", b"[1]"), "is damaged: spurious.json: "),
    "nan": (_set_weights(np.nan), "has 1 of 32 weights like nan in "),
    "infinite": (_set_weights(-np.inf), "has 1 of 32 weights like -inf in "),
    "nan for a mean": (_edit_config('"mean": 64.0', '"mean": NaN'), "its standardiser has mean"),
    "nan for a range": (_edit_config("0.55", "NaN"), "its head has omega_m from 0.05 to nan"),
}


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_or_foreign_model_is_one_line(tmp_path, damage, says):
    path = tmp_path / "network.keras"
    NetworkPosterior(network()).save(path)
    damage(path)
    with pytest.raises(UserError) as error:
        load(path)
    assert str(path) in str(error.value) and says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_equal_models_are_equal_files(tmp_path):
    """Keras stores the addresses in memory of what layers share, here their number type."""
    kept = []  # so that the second one has other addresses
    for path in (tmp_path / "a.keras", tmp_path / "b.keras"):
        keras.utils.clear_session()  # names are numbered as in a new process
        kept.append(NetworkPosterior(network()))
        kept[-1].save(path)
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        shared = re.findall(r'"shared_object_id": (\d+)', archive.read("config.json").decode())
    assert set(shared) == {"1"} and len(shared) > 1
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    maps = counts(3)
    np.testing.assert_array_equal(kept[0](maps).mean(), load(tmp_path / "b.keras")(maps).mean())


def test_a_file_says_what_it_is_and_keeps_it(tmp_path):
    identity = {"posterior": "compact", "training": 2, "settings": {"rate": 3e-3, "all": [1, None]}}
    NetworkPosterior(network(), identity=identity).save(tmp_path / "a.keras")
    found = load(tmp_path / "a.keras")
    assert found.identity == read_identity(tmp_path / "a.keras") == identity
    found.save(tmp_path / "b.keras")
    assert load(tmp_path / "b.keras").identity == identity
    # Keras itself does not mind.
    assert keras.saving.load_model(tmp_path / "a.keras", compile=False).count_params() > 0
    network().save(tmp_path / "plain.keras")
    assert load(tmp_path / "plain.keras").identity == {}


def test_a_model_without_head_or_units_is_refused():
    maps = keras.Input((16, 16))
    flat = keras.layers.Flatten()(maps)
    with pytest.raises(ValueError, match="from_keras"):
        NetworkPosterior(keras.Model(maps, keras.layers.Dense(3)(flat)))
    model = keras.Model(maps, HeadLayer(RANGES)(keras.layers.Dense(5)(flat)))
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
