"""The temperature against its closed form, and on posteriors whose widths are known to be off."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.networks.flow import FlowHead
from spurious.networks.grid import GridHead
from spurious.networks.head_layer import HeadLayer
from spurious.networks.mixture import MixtureHead
from spurious.posteriors.temperature import fit_temperature

RANGES = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}


def features(head, n=1500, seed=0):
    draw = np.random.default_rng(seed)
    return tf.constant(draw.uniform(-1, 1, (n, head.n_features)), tf.float32)


def drawn(head, given, factor, seed=(3, 4)):
    """Truths from the posteriors of the features, with all widths `factor` times theirs."""
    other = type(head).from_config({**head.get_config(), "temperature": factor})
    return other.distribution(*other(given)).sample(seed=seed).numpy()


@pytest.mark.parametrize("factor", [1.7, 1.0, 0.6])
def test_one_gaussian_gives_the_closed_form(factor):
    head = HeadLayer(RANGES)
    given = features(head)
    truth = drawn(head, given, factor)
    found = fit_temperature(head, given, truth)
    distribution = head.distribution(*head(given))
    z = (distribution.mean() - truth) / distribution.stddev()
    assert found == pytest.approx(np.sqrt(np.mean(z.numpy() ** 2)), rel=1e-3)
    # T^2 is the mean of 3000 squares: relative error of T = 1 / sqrt(2 x 3000).
    assert found == pytest.approx(factor, rel=4 / np.sqrt(6000))


@pytest.mark.parametrize(
    "head",
    [
        HeadLayer(RANGES, MixtureHead(components=3)),
        HeadLayer(RANGES, MixtureHead(covariance="full")),
        HeadLayer(RANGES, FlowHead()),
    ],
    ids=["mixture", "full", "flow"],
)
def test_every_head_gets_its_widths_back(head):
    given = features(head)
    found = fit_temperature(head, given, drawn(head, given, 1.7))
    assert found == pytest.approx(1.7, rel=0.1)
    assert fit_temperature(head, given, drawn(head, given, 1.0)) == pytest.approx(1, rel=0.1)


def test_a_density_on_a_grid_gets_its_width_back():
    """Gaussians of width 0.03 well inside the box; truths 1.7 times as far."""
    head = HeadLayer({"omega_m": (0.0, 1.0)}, GridHead(cells=(200,)))
    draw = np.random.default_rng(1)
    centres = (np.arange(200) + 0.5) / 200
    mean = draw.uniform(0.3, 0.7, (1500, 1))
    truth = mean + 1.7 * 0.03 * draw.standard_normal(mean.shape)
    given = tf.constant(-0.5 * ((centres - mean) / 0.03) ** 2, tf.float32)
    z = (truth - mean) / 0.03
    assert fit_temperature(head, given, truth) == pytest.approx(np.sqrt(np.mean(z**2)), rel=0.01)


def test_the_head_is_left_as_it_was_and_its_temperature_does_not_matter():
    head = HeadLayer(RANGES, temperature=1.4)
    given = features(head, n=200)
    truth = drawn(head, given, 1.2)
    found = fit_temperature(head, given, truth)
    assert head.temperature == 1.4
    assert found == fit_temperature(HeadLayer(RANGES), given, truth)
    assert found == pytest.approx(1.2, rel=4 / np.sqrt(800))


def test_an_impossible_truth_is_refused():
    head = HeadLayer({"omega_m": (0.0, 1.0)}, GridHead(cells=(10,)))
    with pytest.raises(ValueError, match="zero density"):
        fit_temperature(head, np.zeros((2, 10), np.float32), np.array([[0.5], [3.0]]))
