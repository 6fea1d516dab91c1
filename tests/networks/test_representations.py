"""What a network sees instead of counts: functions, gradients, files."""

import numpy as np
import pytest
import tensorflow as tf

from spurious import config
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.networks.representations import (
    BandLimit,
    Clipped,
    LogDensity,
    Rank,
    knots_of,
    representation,
    seen,
)
from spurious.posteriors.trained import NetworkPosterior, load
from spurious.training import loop

BOX = 64.0
INPUTS = {
    "log": "log",
    "rank": "rank",
    "contrast": "contrast",
    "clipped": {"kind": "clipped", "upper": {"value": 100.0, "unit": "count"}},
    "band_limited": {"kind": "band_limited", "high": {"value": 0.5, "unit": "h/Mpc"}},
}


@pytest.fixture(scope="module")
def data(make_maps):
    draw = np.random.default_rng(0)
    return MapSet(
        maps=make_maps(24, 16, seed=2),
        labels=draw.uniform(0.2, 0.8, (24, 2)),
        seeds=np.arange(24, dtype=np.uint64),
        index=np.arange(24),
        axis=np.full(24, 2),
        box_size=BOX,
    )


def network(given):
    return config.Network(kind="network", preset={"kind": "compact", "width": 0.25}, input=given)


def test_the_logarithm(make_maps):
    maps = make_maps(2, 8)
    np.testing.assert_allclose(LogDensity(64.0)(maps), np.log1p(maps / 64), rtol=1e-5, atol=1e-6)


def test_the_rank_is_the_share_of_the_training_pixels_that_are_emptier(data):
    layer = Rank(knots_of(data.maps))
    pixels = np.sort(data.maps.ravel())
    wanted = np.searchsorted(pixels, data.maps[:2]) / len(pixels)
    np.testing.assert_allclose(layer(data.maps[:2]), wanted, atol=0.01)
    # Beyond the training maps it goes on rising: nothing there is hidden from a gradient.
    beyond = layer(np.array([[[pixels[-1], 2 * pixels[-1], 4 * pixels[-1]]]], np.float32)).numpy()
    assert beyond.ravel()[0] == pytest.approx(1) and np.all(np.diff(beyond.ravel()) > 0.01)


def test_equally_frequent_densities_get_knots_once():
    maps = np.concatenate([np.zeros((1, 16, 16)), np.full((1, 16, 16), 3.0)]).astype(np.float32)
    assert knots_of(maps)[0] == 0 and knots_of(maps)[-1] == 3
    assert np.all(np.diff(knots_of(maps)) > 0)


def test_clipped_peaks(make_maps):
    maps = make_maps(2, 8)
    assert maps.max() > 100
    np.testing.assert_array_equal(Clipped(100.0)(maps), np.minimum(maps, 100))


def test_the_band_limit_keeps_low_modes_and_no_other(make_maps):
    maps = make_maps(2, 16).astype(np.float64)
    found = BandLimit(0.5, BOX, dtype="float64")(maps).numpy()
    k = np.hypot(np.fft.fftfreq(16, 1 / 16)[:, None], np.fft.fftfreq(16, 1 / 16)) * 2 * np.pi / BOX
    expected = np.fft.ifft2(np.where(k <= 0.5, np.fft.fft2(maps), 0)).real
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert 1 < np.sum(k <= 0.5) < k.size


LAYERS = {
    "log": lambda: LogDensity(64.0, dtype="float64"),
    "rank": lambda: Rank([0.0, 20.0, 50.0, 90.0, 200.0], dtype="float64"),
    "clipped": lambda: Clipped(100.0, dtype="float64"),
    "band_limited": lambda: BandLimit(0.5, BOX, dtype="float64"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_those_of_the_function(make_maps, name):
    """Along a random direction, from maps that stay away from the kinks."""
    maps = tf.constant(make_maps(2, 16) + 1.0, tf.float64)
    layer, draw = LAYERS[name](), np.random.default_rng(0)
    direction, weights = draw.standard_normal(maps.shape), draw.standard_normal(maps.shape)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(weights * layer(maps))
    slope = np.sum(tape.gradient(total, maps).numpy() * direction)
    up, down = (tf.reduce_sum(weights * layer(maps + s * 1e-6 * direction)) for s in (1, -1))
    assert slope == pytest.approx(float(up - down) / 2e-6, rel=1e-5)


def test_only_what_is_not_seen_has_no_gradient(make_maps):
    """The rank and the logarithm rise everywhere; a clipped peak is flat."""
    maps = tf.constant(make_maps(2, 16) + 1.0)
    for name in LAYERS:
        layer = type(LAYERS[name]()).from_config(
            {**LAYERS[name]().get_config(), "dtype": "float32"}
        )
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(layer(maps))
        gradient = tape.gradient(total, maps).numpy()
        if name == "clipped":
            np.testing.assert_array_equal(gradient != 0, maps.numpy() <= 100)
        elif name != "band_limited":  # whose sum is the mean's alone
            assert np.all(gradient > 0)


@pytest.mark.parametrize("name", INPUTS)
def test_what_enters_the_trunk_is_standardised_over_the_training_maps(data, name):
    found = representation(network(INPUTS[name]).input, data)
    values = seen(found.layer, data.maps)
    assert (values.mean(), values.std()) == pytest.approx((found.units.mean, found.units.std))
    import keras

    model = loop.build(data, network(INPUTS[name]), 1)
    entering = keras.Model(model.inputs[0], model.get_layer("channel").input)(data.maps).numpy()
    assert (entering.mean(), entering.std()) == pytest.approx((0, 1), abs=1e-3)
    assert model.layers[1].name == "standardise"


@pytest.mark.parametrize("name", INPUTS)
def test_a_network_of_any_representation_is_read_again_and_can_be_attacked(data, name, tmp_path):
    posterior = NetworkPosterior(loop.build(data, network(INPUTS[name]), 1))
    posterior.save(tmp_path / "one.keras")
    again = load(tmp_path / "one.keras")
    assert again.standardiser == posterior.standardiser
    np.testing.assert_array_equal(again(data.maps).mean(), posterior(data.maps).mean())
    maps = tf.constant(data.maps[:2])
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(again(maps).mean())
    gradient = tape.gradient(total, maps).numpy()
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_a_band_without_modes_is_refused(data):
    given = {"kind": "band_limited", "high": {"value": 0.01, "unit": "h/Mpc"}}
    flat = MapSet(**{**vars(data), "maps": data.maps / data.maps.mean((1, 2), keepdims=True)})
    with pytest.raises(UserError, match="input = band_limited: nothing of the training maps is"):
        representation(network(given).input, flat)


def test_counts_need_no_layer(data):
    assert representation("counts", data) is None
