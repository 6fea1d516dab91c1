"""The networks that ship with the package."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from spurious.data.maps import Standardiser
from spurious.networks.compact import Compact
from spurious.networks.flow import FlowHead
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.horowitz2022 import Horowitz2022
from spurious.networks.layers import SMALLEST_MEAN, Contrast
from spurious.networks.mixture import MixtureHead
from spurious.networks.power_spectrum import PowerSpectrum
from spurious.networks.preset import STANDARDISE
from spurious.networks.representations import Representation, seen
from spurious.networks.resnet import ResNet
from spurious.posteriors.trained import NetworkPosterior, load

RANGES = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}
UNITS = Standardiser(mean=64.0, std=38.8)


def counts(batch, n, seed=0):
    draw = np.random.default_rng(seed)
    return draw.gamma(2.7, 23.7, (batch, n, n)).astype(np.float32)


def head(m=1, p=2):
    ranges = {f"parameter_{i}": (0.0, 1.0 + i) for i in range(p)} if p != 2 else RANGES
    return HeadLayer(ranges, MixtureHead(components=m), name=HEAD)


def of_power(n, head, units=UNITS, seed=1):
    log_power = np.random.default_rng(3).normal(2.0, 1.0, (50, (n - 1) // 2))
    return PowerSpectrum().model(n, head, units, seed, box_size=128.0, log_power=log_power)


def made(name, n, seed=1, units=UNITS):
    if name == "power_spectrum":
        return of_power(n, head(), units, seed)
    return PIXELS[name].model(n, head(), units, seed)


PIXELS = {"compact": Compact(), "resnet": ResNet(), "horowitz2022": Horowitz2022()}
ALL = [*PIXELS, "power_spectrum"]


@pytest.mark.parametrize("name", ALL)
def test_every_preset_ends_in_its_head_and_begins_with_its_units(name):
    network = made(name, 64)
    assert network.name == name
    assert network.layers[-1].name == HEAD
    assert network.layers[1].name == STANDARDISE
    for output in network(counts(2, 64)):
        assert output.dtype == tf.float32 and np.isfinite(output).all()


@pytest.mark.parametrize(("n", "m", "p"), [(16, 1, 1), (32, 3, 2), (64, 1, 2), (100, 2, 4)])
def test_any_size_of_map_mixture_and_number_of_parameters(n, m, p):
    means, scales, logits = Compact().model(n, head(m, p), UNITS, seed=1)(counts(3, n))
    assert (means.shape, scales.shape, logits.shape) == ((3, m, p), (3, m, p), (3, m))
    assert np.all(scales.numpy() > 0)


def test_any_head_ends_any_trunk():
    flow = HeadLayer(RANGES, FlowHead(), name=HEAD)
    network = ResNet().model(16, flow, UNITS, seed=1)
    log_prob = flow.distribution(*network(counts(3, 16))).log_prob(np.full((3, 2), 0.5, np.float32))
    assert log_prob.shape == (3,) and np.isfinite(log_prob).all()


@pytest.mark.parametrize("name", ["compact", "resnet", "power_spectrum"])
def test_units_are_inside_the_network(name):
    """Maps in other units with another standardiser give the same answer."""
    maps = counts(4, 32)
    expected = made(name, 32)(maps)
    halved = Standardiser(UNITS.mean / 2, UNITS.std / 2)
    for one, two in zip(expected, made(name, 32, units=halved)(maps / 2), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["compact", "resnet"])
def test_output_ignores_rolls_by_the_poolings_stride(name):
    network = made(name, 64)
    maps = counts(2, 64)
    here, there = network(maps), network(np.roll(maps, (16, -32), (1, 2)))
    for one, two in zip(here, there, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_the_power_spectrum_preset_sees_nothing_but_the_power_spectrum():
    """Other phases, the same answer; another mean, the same answer."""
    maps = counts(2, 32)
    network = of_power(32, head())
    rolled_and_flipped = np.roll(maps, (5, 3), (1, 2))[:, ::-1]
    for one, two in zip(
        network(maps), network(np.ascontiguousarray(rolled_and_flipped)), strict=True
    ):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
    for one, two in zip(network(maps), network(3 * maps), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)
    assert not np.allclose(network(maps)[0], network(maps**1.2)[0], atol=1e-3)


@pytest.mark.parametrize("name", ALL)
def test_seed_decides_the_weights_whatever_ran_before(name):
    first = made(name, 64, seed=2**62 + 3).get_weights()
    keras.utils.set_random_seed(99)
    again = made(name, 64, seed=2**62 + 3).get_weights()
    other = made(name, 64, seed=4).get_weights()
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("compact", 340_000, 350_000),
        ("resnet", 480_000, 500_000),
        ("horowitz2022", 556_000, 558_000),
    ],
)
def test_size_is_what_the_docstring_says(name, low, high):
    assert low < made(name, 64).count_params() < high


def test_horowitz2022_has_the_published_layers():
    """arXiv:2211.14788's model file: filters and kernels in order, and what is between them."""
    kinds = (keras.layers.Conv2D, keras.layers.MaxPooling2D, keras.layers.BatchNormalization)
    found = [
        (layer.filters, layer.kernel_size[0]) if isinstance(layer, kinds[0]) else type(layer)
        for layer in made("horowitz2022", 64).layers
        if isinstance(layer, kinds)
    ]
    pool, normalise = kinds[1:]
    assert found == [
        (128, 4), normalise, (128, 4), pool, (64, 3), pool, (64, 5), normalise,
        (64, 5), normalise, (32, 2), normalise, (8, 2), normalise,
    ]  # fmt: skip


def test_width_multiplies_filters():
    narrow = Compact(width=0.5).model(16, head(), UNITS, seed=1)
    assert narrow.get_layer("convolution_0").filters == 8
    assert ResNet(width=2.0).model(16, head(), UNITS, 1).get_layer("stem").filters == 32


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_the_pixels_and_repeat_exactly(name):
    network = made(name, 64)
    maps = tf.constant(counts(2, 64))

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(network(maps, training=False)[0])
        return tape.gradient(total, maps).numpy()

    first = gradient()
    # Max pooling and valid padding leave some pixels of the published network without a say.
    assert np.mean(first != 0) > (0.9 if name == "horowitz2022" else 0.999)
    np.testing.assert_array_equal(first, gradient())


@pytest.mark.parametrize(("name", "n"), [("compact", 15), ("resnet", 15), ("horowitz2022", 53)])
def test_maps_too_small_are_refused(name, n):
    with pytest.raises(ValueError, match=rf"n = {n} must be at least {n + 1}"):
        PIXELS[name].model(n, head(), UNITS, seed=1)


def contrast(maps):
    layer = Contrast(dtype="float32", name="contrast")
    return Representation(layer, Standardiser.fit(seen(layer, maps)))


def of_contrast(name, n, seed=1):
    representation = contrast(counts(40, n, seed=5))
    return PIXELS[name].model(n, head(), UNITS, seed, seen=representation)


@pytest.mark.parametrize("name", ["compact", "resnet", "horowitz2022"])
def test_a_network_of_the_contrast_is_blind_to_a_factor_and_to_nothing_else(name):
    maps = counts(3, 54)
    network = of_contrast(name, 54)
    factors = np.array([0.5, 1.02, 3.0], np.float32)[:, None, None]
    for one, two in zip(network(maps), network(factors * maps), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-5, atol=2e-6)
    for other in (maps + 5, maps**1.1):
        moved = np.abs(network(other)[0] - network(maps)[0]).max(axis=(1, 2))
        assert np.all(moved > 1e-4)
    of_counts = made(name, 54)
    assert np.all(np.abs(of_counts(1.02 * maps)[0] - of_counts(maps)[0]).max(axis=(1, 2)) > 1e-3)


def test_what_enters_the_trunk_of_a_network_of_the_contrast_is_the_contrast_in_its_own_units():
    maps = counts(40, 32, seed=5) * np.linspace(0.5, 2, 40, dtype=np.float32)[:, None, None]
    network = Compact().model(32, head(), UNITS, 1, seen=contrast(maps))
    entering = keras.Model(network.inputs[0], network.get_layer("channel").input)(maps).numpy()
    wanted = maps / maps.mean(axis=(1, 2), keepdims=True, dtype=float) - 1
    np.testing.assert_allclose(entering, wanted / wanted.std(), atol=2e-5)
    assert NetworkPosterior(network).standardiser.std == pytest.approx(UNITS.std, rel=1e-12)


def test_gradient_of_a_network_of_the_contrast_has_no_part_along_the_map_itself():
    """A factor is the direction in which nothing changes; of the counts it is not."""
    maps = tf.constant(counts(2, 16))
    shares = []
    for network in (of_contrast("compact", 16), made("compact", 16)):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(network(maps)[0])
        along = tape.gradient(total, maps).numpy() * maps
        shares.append(abs(np.sum(along)) / np.sum(np.abs(along)))
    assert shares[0] < 1e-5 < 0.1 < shares[1]


def test_empty_maps_have_a_finite_posterior_and_gradient():
    network = of_contrast("compact", 16)
    maps = tf.constant(np.stack([np.zeros((16, 16)), np.full((16, 16), SMALLEST_MEAN)]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        means, scales, _ = network(maps)
        total = tf.reduce_sum(means) + tf.reduce_sum(scales)
    assert np.isfinite(means).all() and np.isfinite(scales).all()
    assert np.isfinite(tape.gradient(total, maps)).all()


def test_a_network_of_the_contrast_is_read_again_in_safe_mode(tmp_path):
    posterior = NetworkPosterior(of_contrast("compact", 16))
    posterior.save(tmp_path / "contrast.keras")
    again = load(tmp_path / "contrast.keras")
    maps = counts(3, 16)
    np.testing.assert_array_equal(again(maps).mean(), posterior(maps).mean())
    assert again.standardiser == posterior.standardiser
