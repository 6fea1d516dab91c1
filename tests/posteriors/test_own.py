"""Models of one's own in the shapes that they commonly have."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
import yaml

import spurious
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.posteriors.foreign import Foreign
from spurious.posteriors.own import opened
from spurious.posteriors.scaling_file import read_scaling

NAMES = ("omega_m", "sigma_8")
SCALING = {
    "maps": {"mean": 20.0, "std": 9.0},
    "labels": {"omega_m": {"shift": 0.3, "scale": 0.1}, "sigma_8": {"shift": 0.8, "scale": -0.2}},
}
MODULE = """
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions


def pair(maps):
    mean = tf.reduce_mean(maps, (1, 2))[:, None] / 100
    return tf.concat([mean, 2 * mean], 1), tf.zeros_like(mean) + [[0.1, 0.2]]


def density(maps):
    means, scales = pair(maps)
    return tfd.MultivariateNormalDiag(means, scales)


def heavy(maps):
    means, scales = pair(maps)
    return tfd.Independent(tfd.StudentT(3.0, means, scales), 1)


def broken(maps):
    return maps[5, 5, 5, 5]


def three(maps):
    return tf.zeros((len(maps), 3))


def keyed(maps):
    return dict(zip(["mu", "sigma"], pair(maps)))


def one_width(maps):
    return pair(maps)[0], tf.ones((len(maps), 1))


def flat(maps):
    return pair(maps)[0], tf.ones((len(maps), 4))


number = 3
"""


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    n = 12
    return MapSet(
        maps=draw.gamma(4.0, 5.0, (n, 8, 8)).astype(np.float32),
        labels=draw.uniform(0.2, 0.9, (n, 2)),
        seeds=np.zeros(n, np.uint64),
        index=np.arange(n),
        axis=np.full(n, -1, np.int8),
        box_size=25.0,
        names=NAMES,
    )


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a scaling and a module of functions, as the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "functions", raising=False)
    (tmp_path / "scaling.yaml").write_text(yaml.safe_dump(SCALING, sort_keys=False))
    (tmp_path / "functions.py").write_text(MODULE)
    return tmp_path


def ended(end, channels=True):
    keras.utils.set_random_seed(1)
    maps = keras.Input((8, 8, 1) if channels else (8, 8))
    return keras.Model(maps, end(keras.layers.Flatten()(maps)))


def means(x):
    return keras.layers.Dense(2)(x)


def scales(x):
    return keras.layers.Dense(2, "softplus")(x)


def read(here, data, model="mine.keras", scaling="scaling.yaml", imports=()):
    scaling = None if scaling is None else here / scaling
    return opened(model, scaling, data, here / "maps.h5", imports)


def seen(data):
    return (data.maps[..., None] - 20.0) / 9.0


SHIFT, SCALE = np.array([0.3, 0.8]), np.array([0.1, -0.2])


def test_means_alone_get_the_rms_error_as_width(here, data):
    model = ended(means)
    model.save("mine.keras")
    found = read(here, data)(data.maps)
    mean = SHIFT + SCALE * model.predict(seen(data), verbose=0)
    np.testing.assert_allclose(found.mean(), mean, rtol=1e-4, atol=1e-5)
    rms = np.sqrt(np.mean((mean - data.labels) ** 2, axis=0))
    np.testing.assert_allclose(found.stddev()[0], rms, rtol=1e-4)


def test_means_alone_can_be_attacked(here, data):
    ended(means).save("mine.keras")
    posterior = read(here, data)
    fooled = spurious.BIM(posterior, alpha=0.5)(data.maps, data.labels)
    assert np.all(posterior(fooled).log_prob(data.labels.astype(np.float32)) < posterior(
        data.maps).log_prob(data.labels.astype(np.float32)))  # fmt: skip


def test_means_alone_need_maps(here, data):
    ended(means).save("mine.keras")
    units = read_scaling(here / "scaling.yaml")
    with pytest.raises(UserError, match=r"gives means alone: give fit=\(maps, labels\)"):
        spurious.Posterior.from_keras("mine.keras", scaling=units)
    with pytest.raises(UserError, match="and there are 3: its maps and their parameters, at least"):
        read(here, data.take(np.arange(3)))


@pytest.mark.parametrize("channels", [True, False])
def test_one_tensor_is_means_and_then_scales(here, data, channels):
    joined = ended(lambda x: keras.layers.Concatenate()([means(x), scales(x)]), channels)
    joined.save("mine.keras")
    x = seen(data) if channels else seen(data)[..., 0]
    output = joined.predict(x, verbose=0)
    found = read(here, data)(data.maps)
    np.testing.assert_allclose(found.mean(), SHIFT + SCALE * output[:, :2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.stddev(), np.abs(SCALE) * output[:, 2:], rtol=1e-4)


@keras.saving.register_keras_serializable(package="test_own")
class Gaussian(keras.Model):
    """Ends in a distribution of TensorFlow Probability."""

    def __init__(self, kind="normal", **options):
        super().__init__(**options)
        self.kind, self.dense = kind, keras.layers.Dense(2)

    def call(self, maps):
        mean = self.dense(keras.ops.reshape(maps, (-1, 64)))
        tfd = tfp.distributions
        width = tf.ones_like(mean) * [0.5, 2.0]
        if self.kind == "normal":
            return tfd.Independent(tfd.Normal(mean, width), 1)
        if self.kind == "full":
            tril = tf.add(tf.linalg.diag(width), [[0.0, 0.0], [0.3, 0.0]])
            return tfd.MultivariateNormalTriL(mean, tril)
        return tfd.Independent(tfd.StudentT(3.0, mean, width), 1)

    def get_config(self):
        return {"kind": self.kind}


@pytest.mark.parametrize("kind", ["normal", "full"])
def test_a_distribution_in_the_models_units_becomes_physical(here, data, kind):
    model = Gaussian(kind)
    model(np.zeros((1, 8, 8), np.float32))
    model.save("mine.keras")
    found = read(here, data)(data.maps)
    inner = model(seen(data)[..., 0])
    np.testing.assert_allclose(found.mean(), SHIFT + SCALE * inner.mean(), rtol=1e-4, atol=1e-5)
    covariance = inner.covariance() if kind == "full" else tf.linalg.diag(inner.variance())
    np.testing.assert_allclose(found.covariance(), covariance * np.outer(SCALE, SCALE), rtol=1e-4)


def test_another_distribution_says_how_to_wrap_it(here, data):
    model = Gaussian("heavy")
    model(np.zeros((1, 8, 8), np.float32))
    model.save("mine.keras")
    with pytest.raises(UserError, match=r"returns a Independent: must be a Gaussian.*wrap it: a"):
        read(here, data)


@pytest.mark.parametrize("joined", [True, False])
def test_a_saved_model(here, data, joined):
    ends = (lambda x: keras.layers.Concatenate()([means(x), scales(x)])) if joined else (
        lambda x: [means(x), scales(x)])  # fmt: skip
    model = ended(ends)
    model.save("mine.keras")
    model.export("exported", verbose=False)
    one, other = read(here, data)(data.maps), read(here, data, "exported")(data.maps)
    np.testing.assert_allclose(one.mean(), other.mean(), rtol=1e-5)
    np.testing.assert_allclose(one.stddev(), other.stddev(), rtol=1e-5)
    (here / "exported" / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(UserError, match="exported is damaged or no SavedModel: "):
        read(here, data, "exported")


@pytest.mark.parametrize("name", ["pair", "density"])
def test_a_function_of_counts(here, data, name):
    found = read(here, data, f"functions:{name}", None)(data.maps)
    mean = data.maps.mean((1, 2)) / 100
    np.testing.assert_allclose(found.mean(), np.stack([mean, 2 * mean], 1), rtol=1e-5)
    np.testing.assert_allclose(found.stddev()[0], [0.1, 0.2], rtol=1e-5)


def test_a_function_with_a_scaling_is_in_its_units(here, data):
    found = read(here, data, "functions:pair")(data.maps)
    mean = ((data.maps.mean((1, 2)) - 20) / 9) / 100
    np.testing.assert_allclose(found.mean(), SHIFT + SCALE * np.stack([mean, 2 * mean], 1), 1e-4)


def test_a_function_may_give_any_density_in_physical_units(here, data):
    posterior = read(here, data, "functions:heavy", None)
    assert posterior.names == NAMES
    assert isinstance(posterior(data.maps), tfp.distributions.Independent)


@pytest.mark.parametrize(
    ("model", "scaling", "message"),
    [
        (
            "functions:pear",
            None,
            r"--model functions:pear: module functions has no pear; did you mean 'pair'\?$",
        ),
        ("nowhere:pair", None, r"--model nowhere:pair: there is no module nowhere, neither.*\w$"),
        (
            "function:pair",
            None,
            r"--model function:pair: there is no module function, .*; did you mean 'functions'\?$",
        ),
        ("scalin.yaml", None, r"scalin.yaml is missing; did you mean 'scaling.yaml'\?$"),
        ("functions:pair", "scalings.yml", r".*/scalings.yml is missing: .*mean 'scaling.yaml'\?$"),
        ("functions:number", None, "--model functions:number: is no function"),
        ("functions:broken", None, "--model functions:broken fails on two maps in counts: "),
        ("functions:broken", "scaling.yaml", "functions:broken does not take a map of 8 x 8 pix"),
        (
            "functions:three",
            None,
            r"functions:three has 1 output, of shape \(3,\) a map: must be \(2,\), the means, or "
            r"\(4,\), means and then standard deviations; let it return \[means, scales\]$",
        ),
        ("functions:keyed", None, r"functions:keyed has outputs mu, sigma: .*; let it return \["),
        (
            "functions:one_width",
            None,
            r"functions:one_width has scales of shape \(1,\) .*; let it return \[means, scales \* "
            r"keras.ops.ones_like\(means\)\]$",
        ),
        (
            "functions:flat",
            None,
            r"functions:flat has scales .* \[means, keras.ops.reshape\(scales, \(-1, 2, 2\)\)\]$",
        ),
    ],
)
def test_a_function_that_does_not_fit_is_one_line(here, data, model, scaling, message):
    with pytest.raises(UserError, match=f"^{message}") as caught:
        read(here, data, model, scaling)
    assert "\n" not in str(caught.value)


def of_keras_2(kind="IndependentNormal"):
    """A network of tf_keras that ends in a layer of TensorFlow Probability, or in plain ones."""
    maps = tf_keras.Input((8, 8, 1))
    x = tf_keras.layers.Flatten()(maps)
    if kind == "plain":
        ends = [tf_keras.layers.Dense(2)(x), tf_keras.layers.Dense(2, "softplus")(x)]
        return tf_keras.Model(maps, ends)
    layer = getattr(tfp.layers, kind)
    options = (3, 2) if kind == "MixtureNormal" else (2,)
    x = tf_keras.layers.Dense(layer.params_size(*options))(x)
    return tf_keras.Model(maps, layer(*options)(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["IndependentNormal", "plain"])
@pytest.mark.parametrize("name", ["old.keras", "old.h5"])
def test_a_file_of_keras_2_says_so(here, data, kind, name):
    of_keras_2(kind).save(name)
    message = f"^{name} is a file of Keras 2 .* --model MODULE:FUNCTION, or export a SavedModel "
    with pytest.raises(UserError, match=message) as caught:
        read(here, data, name)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_a_lambda_of_keras_2_is_no_layer_to_mend(here, data):
    tf_keras.Sequential([tf_keras.layers.Lambda(lambda x: x, input_shape=(8, 8))]).save("old.keras")
    with pytest.raises(UserError, match=r"^old.keras is a file of Keras 2 \(tf_keras\)"):
        read(here, data, "old.keras")


def test_a_saved_model_that_samples_says_what_to_return(here, data):
    tf.saved_model.save(of_keras_2(), "exported")
    message = (
        "exported gives the same map different outputs: .* the mean and the standard deviation$"
    )
    with pytest.raises(UserError, match=message):
        read(here, data, "exported")


@pytest.mark.parametrize("kind", ["IndependentNormal", "MixtureNormal", "MultivariateNormalTriL"])
def test_a_function_may_return_what_a_layer_of_keras_2_does(here, data, kind, monkeypatch):
    """With a scaling, in its units; without one, in physical units of maps in counts."""
    network = of_keras_2(kind)
    import functions

    monkeypatch.setattr(functions, "density", lambda x: network(x[..., None] / 20, training=False))
    plain = functions.density(data.maps)
    for scaling in (None, "scaling.yaml"):
        posterior = read(here, data, "functions:density", scaling)
        if scaling is None:
            np.testing.assert_allclose(posterior(data.maps).mean(), plain.mean(), rtol=1e-5)
            np.testing.assert_allclose(posterior(data.maps).stddev(), plain.stddev(), rtol=1e-4)
        else:
            inner = functions.density(seen(data)[..., 0])
            mean = SHIFT + SCALE * inner.mean()
            np.testing.assert_allclose(posterior(data.maps).mean(), mean, rtol=1e-4, atol=1e-5)
        truth = data.labels.astype(np.float32)
        fooled = spurious.BIM(posterior, alpha=0.1)(data.maps, truth)
        before = posterior(data.maps).log_prob(truth)
        assert np.mean(posterior(fooled).log_prob(truth) - before) < 0


LAYERS = """
import keras


@keras.saving.register_keras_serializable(package="theirs")
class Doubling(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


def test_a_layer_of_ones_own_is_imported(here, data, monkeypatch):
    (here / "their_layers.py").write_text(LAYERS)
    import their_layers

    ended(lambda x: [their_layers.Doubling()(means(x)), scales(x)]).save("mine.keras")
    monkeypatch.delitem(sys.modules, "their_layers")
    del keras.saving.get_custom_objects()["theirs>Doubling"]  # as in a new process
    with pytest.raises(UserError, match=r"needs Doubling, .* \(--import MODULE\)$"):
        read(here, data)
    assert read(here, data, imports=["their_layers"])(data.maps).event_shape == (2,)
    message = "--import their_lairs: there is no module their_lairs, .* mean 'their_layers'"
    with pytest.raises(UserError, match=message):
        read(here, data, imports=["their_lairs"])


def test_a_module_in_a_package_is_suggested_too(here, data):
    (here / "mine").mkdir()
    for name in ("__init__.py", "densities.py"):
        (here / "mine" / name).write_text("")
    for given, meant in (("mine.density", "mine.densities"), ("minee.densities", "mine")):
        with pytest.raises(UserError, match=rf"; did you mean '{meant}'\?$"):
            read(here, data, f"{given}:pair")


def numpy_pair(maps):
    mean = maps.mean((1, 2))[:, None] / 100
    return [np.concatenate([mean, mean**2], 1), np.full((len(maps), 2), 0.1)]


def numpy_gradient(maps, of_means, of_scales):
    mean = maps.mean((1, 2)) / 100
    slope = (of_means[:, 0] + 2 * mean * of_means[:, 1]) / 100 / maps[0].size
    return slope[:, None, None] * np.ones_like(maps)


def test_a_function_of_numpy_arrays_has_the_gradient_that_it_is_given(here, data, monkeypatch):
    (here / "theirs.py").write_text("")
    import theirs

    theirs.predict = Foreign(numpy_pair, numpy_gradient)
    posterior = read(here, data, "theirs:predict", None)
    maps, truth = data.maps[:3], data.labels[:3].astype(np.float32)

    def loss(counts):
        return tf.reduce_sum(posterior(counts).log_prob(truth))

    with tf.GradientTape() as tape:
        tape.watch(x := tf.constant(maps))
        value = loss(x)
    slope = tf.reduce_sum(tape.gradient(value, x))
    step = (loss(maps + 0.5) - loss(maps - 0.5)) / 1.0
    np.testing.assert_allclose(slope, step, rtol=1e-2)
    fooled = spurious.BIM(posterior, alpha=0.5)(maps, truth)  # as a graph
    assert loss(fooled) < loss(maps)
