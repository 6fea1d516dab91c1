"""Posteriors of Keras models and functions that know nothing of this package."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import spurious
from spurious.damage import measure
from spurious.data.maps import Standardiser
from spurious.densities.divergences import kl, parameters
from spurious.errors import UserError
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.model_files import read_model, reason
from spurious.posteriors.scaling import Scaling
from spurious.posteriors.trained import load

tfd = tfp.distributions
UNITS = Standardiser(64.0, 30.0)
LABELS = {"omega_m": (0.3, 0.15), "sigma_8": (0.8, -0.2), "h": (0.7, 0.05)}


def scaling(p=2, **others):
    return Scaling(UNITS, dict(list(LABELS.items())[:p]), **others)


def counts(batch, n=8, seed=0):
    return np.random.default_rng(seed).gamma(4.0, 16.0, (batch, n, n)).astype(np.float32)


def dense(units, x, activation=None, seed=1):
    initialise = keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    return keras.layers.Dense(units, activation, kernel_initializer=initialise)(x)


def outputs(x, p=2, m=None, full=False):
    """Means, scales and, for m Gaussians, logits, as layers of Keras alone."""
    components = m or 1
    shape = (p,) if m is None else (m, p)
    means = keras.layers.Reshape(shape)(dense(components * p, x, seed=1))
    widths = keras.layers.Reshape(shape)(dense(components * p, x, "softplus", seed=2))
    if full:
        below = keras.layers.Reshape((*shape, p))(dense(components * p * p, x, seed=3))
        eye = np.eye(p, dtype=np.float32)
        widths = widths[..., None] * eye + below * np.tril(np.ones((p, p), np.float32), -1)
    if m is None:
        return means, widths
    return means, widths, dense(m, x, seed=4)


def network(n=8, channels=False, **shape):
    maps = keras.Input((n, n, 1) if channels else (n, n))
    features = dense(6, keras.layers.Flatten()(maps), "tanh")
    return keras.Model(maps, outputs(features, **shape))


def saved(model, folder):
    path = folder / "mine.keras"
    model.save(path)
    return path


def opened(model, folder, **kwargs):
    return spurious.Posterior.from_keras(saved(model, folder), **{"scaling": scaling(), **kwargs})


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("m", [None, 1, 3])
@pytest.mark.parametrize("full", [False, True])
def test_the_density_is_that_of_the_model_in_physical_units(tmp_path, p, m, full):
    """Against the definition: density of outputs at (theta - shift) / scale, over the Jacobian."""
    model = network(p=p, m=m, full=full)
    posterior = opened(model, tmp_path, scaling=scaling(p))
    maps = counts(4)
    theta = np.random.default_rng(1).normal(0.5, 0.3, (4, p)).astype(np.float32)
    means, widths, *logits = (t.numpy() for t in model((maps - 64.0) / 30.0))
    means, widths = means.reshape(4, -1, p), widths.reshape(4, -1, *(p,) * (1 + full))
    weights = tf.nn.softmax(logits[0]).numpy() if logits else np.ones((4, 1))
    shift, scale = np.array(list(LABELS.values())[:p]).T
    expected = np.zeros(4)
    for b in range(4):
        for i in range(means.shape[1]):
            factor = widths[b, i] if full else np.diag(widths[b, i])
            z = np.linalg.solve(factor, (theta[b] - shift) / scale - means[b, i])
            norm = (2 * np.pi) ** (p / 2) * np.linalg.det(factor) * np.prod(np.abs(scale))
            expected[b] += weights[b, i] * np.exp(-0.5 * z @ z) / norm
    assert posterior.names == tuple(LABELS)[:p]
    np.testing.assert_allclose(posterior(maps).log_prob(theta), np.log(expected), rtol=1e-3)


def test_means_and_widths_of_a_linear_model_are_physical(tmp_path):
    """One weight on the mean pixel: mean = shift + scale w (mean counts - 64) / 30."""
    maps = keras.Input((8, 8))
    mean = keras.ops.mean(maps, axis=(1, 2))[:, None]
    ends = [2.0 * mean, 0.1 + 0.0 * mean]
    posterior = opened(
        keras.Model(maps, ends), tmp_path, scaling=Scaling(UNITS, {"h": (0.7, 0.05)})
    )
    x = counts(3)
    expected = 0.7 + 0.05 * 2 * (x.mean((1, 2), dtype=np.float64) - 64) / 30
    found = posterior(x)
    np.testing.assert_allclose(found.mean()[:, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(found.stddev(), 0.005, rtol=1e-5)
    assert posterior.standardiser == UNITS


def test_a_negative_scale_turns_the_sign_of_a_correlation(tmp_path):
    """Against the covariance D L L^T D, with D of mixed signs."""
    model = network(p=3, full=True)
    posterior = opened(model, tmp_path, scaling=scaling(3))
    factor = model((counts(4) - 64.0) / 30.0)[1].numpy()
    d = np.diag([scale for _, scale in LABELS.values()])
    expected = d @ factor @ factor.transpose(0, 2, 1) @ d
    np.testing.assert_allclose(posterior(counts(4)).covariance(), expected, rtol=1e-4, atol=1e-8)
    assert np.all(np.linalg.diagonal(parameters(posterior(counts(4)))[1]) > 0)


def test_an_axis_for_channels_changes_nothing(tmp_path):
    plain, channels = network(), network(channels=True)
    channels.set_weights(plain.get_weights())
    one, other = (opened(model, tmp_path)(counts(3)) for model in (plain, channels))
    np.testing.assert_allclose(one.mean(), other.mean(), rtol=1e-6)


def test_outputs_by_name_are_in_any_order(tmp_path):
    model = network(m=2)
    means, widths, logits = model.outputs
    named = keras.Model(model.inputs, {"logits": logits, "scales": widths, "means": means})
    one, other = opened(model, tmp_path)(counts(3)), opened(named, tmp_path)(counts(3))
    for a, b in zip(parameters(one), parameters(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_model_that_standardises_itself_takes_counts(tmp_path):
    inside = keras.Input((8, 8))
    model = network()
    whole = keras.Model(inside, model(keras.layers.Rescaling(1 / 30, -64 / 30)(inside)))
    one = opened(model, tmp_path)(counts(3))
    other = opened(whole, tmp_path, scaling=scaling(inputs="counts"))(counts(3))
    np.testing.assert_allclose(one.mean(), other.mean(), rtol=1e-4)


def test_a_model_for_maps_of_any_size(tmp_path):
    maps = keras.Input((None, None, 1))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(maps))
    posterior = opened(keras.Model(maps, outputs(pooled)), tmp_path)
    assert posterior(counts(2, 8)).batch_shape == posterior(counts(2, 20)).batch_shape == (2,)
    with pytest.raises(UserError, match=r"takes maps of any x any pixels, not 8 x 9$"):
        posterior(np.ones((2, 8, 9), np.float32))


@pytest.mark.parametrize("m", [None, 2])
def test_the_gradient_in_counts_is_that_of_finite_differences(tmp_path, m):
    posterior = opened(network(m=m), tmp_path)
    x, theta, step = counts(2), np.float32([[0.4, 0.7]]), 0.5
    direction = np.random.default_rng(2).choice([-1.0, 1.0], (8, 8)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps := tf.constant(x))
        value = posterior(maps).log_prob(theta)
    slope = np.sum(tape.gradient(value, maps) * direction, axis=(1, 2))
    up, down = (posterior(x + s * direction).log_prob(theta) for s in (step, -step))
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=5e-3, atol=1e-3)


def test_inference_mode_and_attack(tmp_path):
    """Dropout and batch statistics are off; an attack raises what it is meant to raise."""
    maps = keras.Input((8, 8))
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(maps))
    x = keras.layers.Dropout(0.5)(x, training=True)  # inference mode wins
    posterior = opened(keras.Model(maps, outputs(x)), tmp_path)
    x, truth = counts(3), np.full((3, 2), 0.5)
    alone = posterior(x[:1]).mean()
    np.testing.assert_allclose(posterior(x).mean()[:1], alone, rtol=1e-5)
    perturbed = spurious.BIM(posterior, alpha=0.3)(x, truth).numpy()
    before, after = posterior(x).log_prob(truth), posterior(perturbed).log_prob(truth)
    assert np.all(after < before)
    assert np.all(measure(x, perturbed, posterior, 128.0).kl_perturbed_clean > 0)


@keras.saving.register_keras_serializable(package="test_external")
class Subclassed(keras.Model):
    """A model without declared inputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.ends = [keras.layers.Dense(2), keras.layers.Dense(2, "softplus")]

    def call(self, x):
        x = self.flatten(x)
        return [end(x) for end in self.ends]


def test_a_registered_subclass_is_taken(tmp_path):
    model = Subclassed()
    model(np.zeros((1, 8, 8), np.float32))
    assert opened(model, tmp_path)(counts(3)).event_shape == (2,)


class Unregistered(keras.layers.Layer):
    def call(self, x):
        return 2 * x


def ended(*ends, n=8, inputs=None):
    """A model whose outputs are `ends`, functions of the flat map."""
    maps = keras.Input((n, n)) if inputs is None else inputs
    flat = keras.layers.Flatten()(maps)
    made = [end(flat) for end in ends]
    return keras.Model(maps, made if len(made) > 1 else made[0])


def positive(units):
    return lambda x: dense(units, x, "softplus")


def plain(units):
    return lambda x: dense(units, x)


def constant(value):
    return lambda x: 0.0 * dense(2, x) + value


@keras.saving.register_keras_serializable(package="test_external")
class Noisy(keras.layers.Layer):
    """Random in inference mode too."""

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x))


def noisy(x):
    return Noisy()(dense(2, x))


def blind(x):
    return dense(2, keras.ops.stop_gradient(x), "softplus")


def reshaped(*shape):
    return lambda x: keras.layers.Reshape(shape)(positive(int(np.prod(shape)))(x))


WRONG = {
    "one output": (
        lambda: ended(plain(5)),
        r"has 1 output, of shape \(5,\) a map: must be \(2,\), the means, or \(4,\), means and",
    ),
    "means alone": (lambda: ended(plain(2)), r"gives means alone: give fit=\(maps, labels\); its"),
    "four outputs": (lambda: ended(*[plain(2)] * 4), "has 4 outputs"),
    "wrong p": (
        lambda: ended(plain(3), positive(3)),
        r"has means of shape \(3,\) a map: must be \(2,\) or \(m, 2\), for omega_m, sigma_8",
    ),
    "wrong scales": (
        lambda: ended(plain(2), positive(1)),
        r"has scales of shape \(1,\) a map: must be \(2,\) or \(2, 2\), like its means; wrap it: "
        r"keras.Model\(model.inputs, \[means, scales \* keras.ops.ones_like\(means\)\]\)",
    ),
    "flat factors": (
        lambda: ended(plain(2), positive(4)),
        r"has scales of shape \(4,\) a map: .* wrap it: keras.Model\(model.inputs, \[means, "
        r"keras.ops.reshape\(scales, \(-1, 2, 2\)\)\]\)",
    ),
    "three scales": (
        lambda: ended(plain(2), positive(3)),
        r"has scales of shape \(3,\) .* wrap it: keras.Model\(model.inputs, \[means, scales\]\)$",
    ),
    "no logits": (
        lambda: ended(reshaped(3, 2), reshaped(3, 2)),
        r"has no logits: must be \(3,\), one for each Gaussian",
    ),
    "wrong logits": (
        lambda: ended(reshaped(3, 2), reshaped(3, 2), plain(2)),
        r"has logits of shape \(2,\) a map: must be \(3,\)",
    ),
    "log scales": (
        lambda: ended(plain(2), constant(-3.0)),
        "has a scale of -3 on a map of noise: must be above 0, a standard deviation and not its",
    ),
    "covariances": (
        lambda: ended(plain(2), reshaped(2, 2)),
        "has scales that are no lower-triangular Cholesky factors",
    ),
    "not finite": (lambda: ended(constant(np.nan), positive(2)), "has means that are not finite"),
    "random": (
        lambda: ended(noisy, positive(2)),
        "gives the same map different outputs: .* the mean and the",
    ),
    "no gradient": (lambda: ended(blind, blind), "has no gradient with respect to the map"),
    "other keys": (
        lambda: keras.Model(
            maps := keras.Input((8, 8)),
            {"mu": (x := keras.layers.Flatten()(maps)), "sigma": x},
        ),
        "has outputs mu, sigma: must be means, scales and",
    ),
    "not square": (
        lambda: ended(plain(2), positive(2), inputs=keras.Input((8, 9, 1))),
        r"takes inputs of shape \(8, 9, 1\): must be \(N, N\) or \(N, N, 1\)",
    ),
    "two inputs": (
        lambda: keras.Model(
            [one := keras.Input((8, 8)), other := keras.Input((8, 8))],
            ended(plain(2), positive(2))(one + other),
        ),
        "has 2 inputs: must have one, the maps",
    ),
    "Lambda": (
        lambda: ended(keras.layers.Lambda(lambda x: x[:, :2], name="cut"), positive(2)),
        "has the Lambda layer 'cut', which would run code stored in the file",
    ),
    "Lambda inside": (
        lambda: ended(
            keras.Sequential([keras.Input((64,)), keras.layers.Lambda(lambda x: x[:, :2])]),
            positive(2),
        ),
        "has the Lambda layer 'lambda",
    ),
    "unregistered": (
        lambda: ended(lambda x: Unregistered()(dense(2, x)), positive(2)),
        "needs Unregistered, which Keras does not know: register it with",
    ),
    "a head": (
        lambda: Compact().model(16, HeadLayer({"h": (0.5, 0.9)}, name=HEAD), UNITS, 1),
        "ends in a head of spurious and knows its units: read it with spurious.load_posterior",
    ),
}


@pytest.mark.parametrize(("model", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_model_that_does_not_fit_is_one_line(tmp_path, model, message):
    with pytest.raises(UserError, match=rf"mine\.keras {message}") as caught:
        opened(model(), tmp_path)
    assert "\n" not in str(caught.value)


def test_maps_of_another_size_name_both(tmp_path):
    posterior = opened(network(), tmp_path)
    with pytest.raises(UserError, match=r"takes maps of 8 x 8 pixels, not 16 x 16$"):
        posterior(counts(2, 16))


def _no_config(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")


def _broken_config(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Functional"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text("nothing"), "is damaged or no file of Keras 3"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000]), "is damaged or no file"),
        (_no_config, "is damaged: .*config.json"),
        (_broken_config, "is damaged: it has no metadata.json"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, damage, message):
    path = saved(network(), tmp_path)
    damage(path)
    with pytest.raises(UserError, match=rf"mine\.keras {message}") as caught:
        spurious.Posterior.from_keras(path, scaling=scaling())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, r"scaling = None: give a Scaling\(maps=Standardiser"),
        (lambda: {"maps": UNITS}, "scaling = .*: give a Scaling"),
        (
            lambda: Scaling(None, LABELS),
            r"scaling.maps = None: must be a Standardiser\(mean, std\)",
        ),
        (lambda: Scaling(Standardiser(64.0, 0.0), LABELS), "scaling.maps = .*std above 0"),
        (lambda: Scaling(UNITS, {}), r"scaling.labels = \{\}: must give \(shift, scale\)"),
        (lambda: Scaling(UNITS, {"h": (0.7, 0)}), "scaling.labels.h = .*scale not 0"),
        (lambda: Scaling(UNITS, {"h": (0.7,)}), r"scaling.labels.h = \(0.7,\): must be"),
        (lambda: Scaling(UNITS, LABELS, "log"), "scaling.inputs = 'log': must be one of standard"),
    ],
)
def test_a_missing_or_impossible_scaling_is_one_line(tmp_path, make, message):
    path = saved(network(), tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        spurious.Posterior.from_keras(path, scaling=make())
    assert "\n" not in str(caught.value)


def gaussian(maps):
    """Mean and correlation known in closed form."""
    mean = tf.reduce_mean(maps, axis=(1, 2)) / 64
    factor = tf.constant([[0.05, 0.0], [-0.02, 0.03]])
    return tfd.MultivariateNormalTriL(
        tf.stack([0.3 * mean, 0.8 * mean], axis=1), tf.broadcast_to(factor, (len(maps), 2, 2))
    )


def test_a_function_is_a_posterior_and_can_be_attacked():
    names = ("omega_m", "sigma_8")
    posterior = spurious.Posterior.from_callable(gaussian, names=names, standardiser=UNITS)
    assert isinstance(posterior, spurious.Posterior)
    assert (posterior.names, posterior.standardiser) == (names, UNITS)
    x = counts(3)
    fooled = spurious.PGD(posterior, epsilon=1.0)(x, np.tile([[0.3, 0.8]], (3, 1))).numpy()
    damage = measure(x, fooled, posterior, 128.0)
    d = np.outer(fooled.mean((1, 2)) - x.mean((1, 2)), [0.3, 0.8]) / 64
    factor = np.array([[0.05, 0.0], [-0.02, 0.03]])
    expected = 0.5 * np.sum(np.linalg.solve(factor, d.T) ** 2, axis=0)
    np.testing.assert_allclose(damage.kl_perturbed_clean, expected, rtol=1e-3)


def test_a_mixture_of_a_function_has_gradients_to_its_weights():
    """Through samples, as a KL needs them; against central differences of the same draws."""

    def two(maps):
        x = tf.reduce_mean(maps, axis=(1, 2))[:, None] / 64
        means = tf.constant([[[0.2, 0.6], [0.5, 0.9]]]) + 0 * x[..., None]
        return tfd.MixtureSameFamily(
            tfd.Categorical(logits=tf.concat([x, -x], axis=1)),
            tfd.Independent(tfd.Normal(means, 0.1), 1),
        )

    posterior = spurious.Posterior.from_callable(two, names=("a", "b"), standardiser=UNITS)
    x = counts(2)
    reference = posterior(x * 1.3)
    with tf.GradientTape() as tape:
        tape.watch(maps := tf.constant(x))
        value = kl(posterior(maps), reference, 20_000)
    slope = np.sum(tape.gradient(value, maps), axis=(1, 2))
    up, down = (kl(posterior(x + s), reference, 20_000) for s in (1.0, -1.0))
    np.testing.assert_allclose(slope, (up - down) / 2, rtol=0.05)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda maps: tf.reduce_mean(maps, axis=(1, 2)), "must be a distribution of TensorFlow"),
        (
            lambda maps: tfd.Normal(tf.reduce_mean(maps, axis=(1, 2)), 1.0),
            r"batch_shape \(3,\) and event_shape \(\): must be \(3,\), the maps, and \(2,\), a, b",
        ),
        (lambda maps: tfd.MultivariateNormalDiag(tf.zeros((1, 2))), r"batch_shape \(1,\) and"),
        (lambda maps: tfd.MultivariateNormalDiag(tf.zeros((3, 4))), r"event_shape \(4,\): must"),
    ],
)
def test_a_function_that_returns_something_else_is_one_line(function, message):
    posterior = spurious.Posterior.from_callable(function, names=("a", "b"), standardiser=UNITS)
    with pytest.raises(UserError, match=message):
        posterior(counts(3))


@pytest.mark.parametrize(
    ("names", "units", "message"),
    [
        ((), UNITS, r"names = \(\): must name each parameter once"),
        ("ab", UNITS, "names = 'ab': must"),
        (("a", "a"), UNITS, "must name each parameter once"),
        (("a", "b"), None, "standardiser = None: must be a Standardiser"),
    ],
)
def test_a_function_needs_names_and_units(names, units, message):
    with pytest.raises(UserError, match=message):
        spurious.Posterior.from_callable(gaussian, names=names, standardiser=units)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"assets/words.txt": b"x"}, "holds 'assets/words.txt': must hold config.json"),
        ({"../../evil": b"x"}, r"holds '../../evil'"),
        ({"config.json": b" " * (2**23 + 1)}, "config.json has 8388609 bytes, at most"),
    ],
)
@pytest.mark.parametrize("read", [read_model, load])
def test_an_archive_of_more_than_a_network_is_refused_unopened(tmp_path, read, members, message):
    path = tmp_path / "x.keras"
    sound = dict.fromkeys(("config.json", "metadata.json", "model.weights.h5"), b"{}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**sound, **members}.items():
            archive.writestr(name, content)
    with pytest.raises(UserError, match=message):
        read(path)


@pytest.mark.parametrize("read", [read_model, load])
def test_a_file_that_keras_would_read_in_no_safe_mode_is_refused(tmp_path, read):
    path = tmp_path / "x.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UserError, match="no file of Keras 3"):
        read(path)


def test_the_bold_words_of_keras_do_not_reach_the_terminal():
    assert reason(ValueError("\x1b[1mThe size\x1b[0m\nis\x07 wrong")) == "The size is wrong"


@pytest.mark.parametrize("read", [read_model, load])
@pytest.mark.parametrize(
    "function",
    [
        {"module": "keras.config", "class_name": "function", "config": "set_dtype_policy"},
        {"module": "keras.config", "class_name": "set_dtype_policy", "config": {}},
        {"module": "keras", "class_name": "function", "config": "config.set_dtype_policy"},
        {"module": "keras.src.dtype_policies.dtype_policy", "class_name": "set_dtype_policy"},
    ],
)
def test_a_dead_node_that_calls_a_function_of_keras_is_refused(tmp_path, read, function):
    """Keras 3.15.1 calls it while it reads the file, in safe mode."""
    path = tmp_path / "x.keras"
    x = keras.Input((8, 8))
    keras.Model(x, dense(2, keras.layers.Flatten()(x))).save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    switch = {"module": "keras.src.ops.core", "class_name": "Switch", "registered_name": "Switch"}
    node = {"args": [0, [{"registered_name": None, **function}], "mixed_float16"], "kwargs": {}}
    dead = {**switch, "config": {"name": "dead"}, "name": "dead", "inbound_nodes": [node]}
    config["config"]["layers"].append(dead)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"config.json": json.dumps(config)}).items():
            archive.writestr(name, content)
    try:
        with pytest.raises(UserError, match=r"would call .keras.*set_dtype_policy., which is no"):
            read(path)
        assert keras.config.dtype_policy().name == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
