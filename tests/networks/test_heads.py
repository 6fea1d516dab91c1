"""Heads: units, shapes, limits, gradients and `.keras` files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from spurious.networks.flow import FlowHead
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.mixture import MixtureHead

RANGES = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}


def three(p):
    return {f"parameter_{i}": (0.0, 1.0 + i) for i in range(p)}


HEADS = [
    HeadLayer(RANGES),
    HeadLayer(RANGES, MixtureHead(components=3), temperature=1.3),
    HeadLayer(RANGES, MixtureHead(covariance="full", floor=1e-2)),
    HeadLayer(three(3), MixtureHead(components=2, covariance="full")),
    HeadLayer(three(1), MixtureHead(components=2, covariance="full")),
    HeadLayer(RANGES, FlowHead()),
    HeadLayer(three(1), FlowHead(blocks=1, bins=4), temperature=0.8),
    HeadLayer(three(3), FlowHead(blocks=3, bins=5, floor=1e-2)),
]


def features(head, batch=5, size=1.0, seed=0):
    draw = np.random.default_rng(seed)
    return tf.constant(draw.uniform(-size, size, (batch, head.n_features)), tf.float32)


def test_diagonal_mixture_is_in_physical_units():
    """Worked by hand: half ranges 0.25 and 2, centres 0.3 and 3, softplus(0) = log 2."""
    head = HeadLayer({"a": (0.05, 0.55), "b": (1.0, 5.0)}, MixtureHead(components=2, floor=0.01))
    given = np.array([[0, 1, 0, -40, 7, -1, 0.5, -40, 0, 8]], np.float32)
    means, scales, logits = head(given)
    np.testing.assert_allclose(means, [[[0.3, 5.0], [0.05, 4.0]]], rtol=1e-6)
    half = np.array([0.25, 2.0])
    soft = np.array([[np.log(2), 0.0], [0.0, np.log(2)]])
    np.testing.assert_allclose(scales[0], half * (soft + 0.01), rtol=1e-5)
    np.testing.assert_allclose(logits, [[7.0, 8.0]])


def test_full_mixture_is_in_physical_units():
    """By hand for p = 3: means, widths, then (1, 0), (2, 0), (2, 1) in the row's half range."""
    head = HeadLayer(
        {"a": (0, 1), "b": (0, 2), "c": (0, 4)}, MixtureHead(covariance="full", floor=0.01)
    )
    assert head.n_features == 10
    means, scales, logits = head(np.array([[0, 1, -1, 0, 0, 0, 5, 6, 7, 9]], np.float32))
    np.testing.assert_allclose(means, [[[0.5, 2.0, 0.0]]], atol=1e-6)
    soft = np.log(2) + 0.01
    expected = np.array([[0.5, 1, 2]]).T * [[soft, 0, 0], [5, soft, 0], [6, 7, soft]]
    np.testing.assert_allclose(scales[0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(logits, [[9.0]])


def test_full_mixture_without_features_below_the_diagonal_is_the_diagonal_one():
    diagonal, full = (
        HeadLayer(RANGES, MixtureHead(components=3)),
        HeadLayer(RANGES, MixtureHead(components=3, covariance="full")),
    )
    given = tf.reshape(features(diagonal), (5, 3, 5))
    padded = tf.concat([given[..., :4], tf.zeros((5, 3, 1)), given[..., 4:]], axis=-1)
    one = diagonal.distribution(*diagonal(tf.reshape(given, (5, 15))))
    two = full.distribution(*full(tf.reshape(padded, (5, 18))))
    x = np.random.default_rng(1).uniform(0.1, 0.9, (20, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(one.log_prob(x), two.log_prob(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_distribution_has_the_documented_shapes(head):
    p = len(head.ranges)
    found = head.distribution(*head(features(head)))
    assert (found.batch_shape, found.event_shape, found.dtype) == ((5,), (p,), tf.float32)
    for value, shape in (
        (found.mean(), (5, p)),
        (found.stddev(), (5, p)),
        (found.covariance(), (5, p, p)),
        (found.sample(7, seed=(0, 1)), (7, 5, p)),
        (found.sample(7, seed=3), (7, 5, p)),
        (found.sample(7), (7, 5, p)),
        (found.log_prob(np.full((7, 5, p), 0.4, np.float32)), (7, 5)),
    ):
        assert (value.shape, value.dtype) == (shape, tf.float32)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("size", [1, 10, 30])
def test_wild_features_give_finite_losses_and_gradients(head, size):
    given = [features(head, 200, size), size * tf.sign(features(head, 200, seed=1))]
    labels = np.random.default_rng(2).uniform(0.1, 0.9, (400, len(head.ranges)))
    both = tf.concat(given, axis=0)
    with tf.GradientTape() as tape:
        tape.watch(both)
        log_prob = head.distribution(*head(both)).log_prob(tf.constant(labels, tf.float32))
    assert np.all(np.isfinite(log_prob))
    assert np.all(np.isfinite(tape.gradient(log_prob, both)))


@pytest.mark.parametrize("head", HEADS)
def test_gradient_of_the_loss_is_the_finite_difference(head):
    given = features(head, 1)
    label = np.full(len(head.ranges), 0.45, np.float32)

    def loss(rows):
        return -head.distribution(*head(rows)).log_prob(tf.repeat(label[None], len(rows), axis=0))

    with tf.GradientTape() as tape:
        tape.watch(given)
        value = loss(given)
    found = tape.gradient(value, given).numpy()[0]
    step = 0.01 * np.eye(head.n_features, dtype=np.float32)
    expected = (loss(given + step) - loss(given - step)).numpy() / 0.02
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("head", HEADS)
def test_zero_features_are_gaussians_of_about_the_ranges_widths(head):
    found = head.distribution(*head(tf.zeros((1, head.n_features))))
    low, high = np.array(list(head.ranges.values())).T
    np.testing.assert_allclose(found.mean()[0], (low + high) / 2, rtol=1e-5)
    sigma = head.temperature * (np.log(2) + head.head.floor) * (high - low) / 2
    np.testing.assert_allclose(found.stddev()[0], sigma, rtol=1e-4)
    x = np.random.default_rng(0).uniform(low, high, (9, 1, len(low)))
    expected = stats.norm.logpdf(x, (low + high) / 2, sigma).sum(axis=-1)
    np.testing.assert_allclose(found.log_prob(x.astype(np.float32)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [MixtureHead(), FlowHead()])
def test_temperature_scales_the_widths_and_can_be_set_later(kind):
    ranges = {"a": (0.0, 1.0), "b": (0.0, 1.0)}
    head = HeadLayer(ranges, kind)
    given = features(head, size=0.0)
    cold = head.distribution(*head(given))
    head.temperature = 2.0
    hot = head.distribution(*head(given))
    np.testing.assert_allclose(hot.mean(), cold.mean(), atol=1e-6)
    np.testing.assert_allclose(hot.covariance(), 4 * cold.covariance(), rtol=1e-4, atol=1e-6)
    assert HeadLayer.from_config(head.get_config()).temperature == 2.0


def test_temperature_of_a_flow_widens_its_base():
    """The same z moves twice as far: theta_hot(z) = theta_cold(2 z), whatever the flow."""
    head = HeadLayer(RANGES, FlowHead())
    given = features(head)
    z = np.random.default_rng(1).standard_normal((6, 5, 2)).astype(np.float32)
    cold = head.distribution(*head(given)).forward(2 * z)
    head.temperature = 2.0
    np.testing.assert_allclose(head.distribution(*head(given)).forward(z), cold, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_keras_file_round_trip_is_exact(head, tmp_path):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(head.n_features)(inputs)
    model = keras.Model(inputs, type(head).from_config({**head.get_config(), "name": HEAD})(x))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    copy = loaded.get_layer(HEAD)
    assert isinstance(copy, HeadLayer) and copy.get_config() == model.get_layer(HEAD).get_config()
    assert list(copy.ranges) == list(head.ranges)
    data = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    for one, two in zip(model(data), loaded(data), strict=True):
        assert one.dtype == tf.float32
        np.testing.assert_array_equal(one, two)
    # Without weights, and with shapes known to Keras before any data.
    assert not copy.weights
    expected = [(None, *output.shape[1:]) for output in model(data)]
    assert [tuple(output.shape) for output in loaded.outputs] == expected


@pytest.mark.parametrize("head", HEADS)
def test_loss_compiles_for_batches_of_unknown_size(head):
    p = len(head.ranges)

    @tf.function(input_signature=[tf.TensorSpec((None, head.n_features)), tf.TensorSpec((None, p))])
    def loss(given, labels):
        return head.distribution(*head(given)).log_prob(labels)

    labels = np.full((5, p), 0.4, np.float32)
    expected = head.distribution(*head(features(head))).log_prob(labels)
    np.testing.assert_allclose(loss(features(head), labels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HeadLayer(RANGES, MixtureHead(components=0)),
        lambda: HeadLayer(RANGES, MixtureHead(covariance="sparse")),
        lambda: HeadLayer(RANGES, MixtureHead(floor=0.0)),
        lambda: HeadLayer(RANGES, temperature=0.0),
        lambda: HeadLayer({}),
        lambda: HeadLayer(RANGES, FlowHead(blocks=0)),
        lambda: HeadLayer(RANGES, FlowHead(bins=1)),
        lambda: HeadLayer(RANGES, FlowHead(floor=-1.0)),
    ],
)
def test_impossible_heads_are_refused(make):
    with pytest.raises(ValueError, match=r"must (not )?be|should be"):
        make()
