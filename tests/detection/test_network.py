"""Features of the learned detector against plain loops, and their symmetries."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from spurious.detection import network
from spurious.detection.network import Whitening, features


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(5, 16, 4)


def by_loops(counts, contrast):
    """The features of one map, one pixel operation after another."""
    x = counts.astype(np.float64) / (counts.mean(dtype=np.float64) if contrast else 64)
    log = np.log(x + 0.02)
    local = ndimage.uniform_filter(log, 3, mode="wrap")
    place = (local[..., None] > np.array([-1.2, -0.6, 0, 0.6])).sum(axis=-1)
    found = [np.sqrt(np.mean(place == c)) for c in range(5)]
    below = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85)
    above = (1.0, 1.2, 1.5, 2.0, 3.0, 4.5, 7.0, 10.0)
    found += [np.sqrt(np.mean(x <= t)) for t in below] + [np.sqrt(np.mean(x > t)) for t in above]
    profile = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]])
    for field, quartiles in ((log, (0.1, 0.4)), (8 * np.sqrt(x), (0.3, 1.0))):
        response = {}
        for a in range(3):
            for b in range(3):
                kernel = np.outer(profile[a], profile[b]).astype(float)
                kernel /= np.linalg.norm(kernel)
                response[a, b] = ndimage.correlate(field, kernel, mode="wrap")
        for squash in (np.abs, *(lambda r, q=q: np.tanh((r / q) ** 2) for q in quartiles)):
            for pair in ((0, 1), (0, 2), (1, 1), (1, 2), (2, 2)):
                pooled = (squash(response[pair]) + squash(response[pair[::-1]])) / 2
                for c in range(5):
                    share = np.mean(place == c)
                    value = np.mean(pooled * (place == c))
                    found.append(np.log((value + 1e-4) / (share + 2e-4)))
    return found


@pytest.mark.parametrize("contrast", [False, True])
def test_features_are_those_of_loops(contrast, maps):
    changed = maps * np.linspace(0.9, 1.1, 5, dtype=np.float32)[:, None, None]
    expected = np.array([by_loops(one, contrast) for one in changed])
    found = features(changed, contrast)
    assert found.shape == expected.shape == (5, 5 + 18 + 2 * 3 * 5 * 5)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: np.roll(m, (3, -5), axis=(1, 2)),
        lambda m: np.rot90(m, axes=(1, 2)),
        lambda m: m[:, ::-1],
        lambda m: m.swapaxes(1, 2),
    ],
    ids=["roll", "rotation", "flip", "transposition"],
)
def test_what_leaves_a_universe_as_it_is_changes_no_feature(change, maps):
    changed = features(np.ascontiguousarray(change(maps)), contrast=False)
    np.testing.assert_allclose(changed, features(maps, contrast=False), atol=2e-3)


def test_only_counts_know_the_mean(maps):
    doubled = features(2 * maps, contrast=True)
    np.testing.assert_allclose(doubled, features(maps, contrast=True), atol=2e-3)
    assert np.abs(features(2 * maps, False) - features(maps, False)).max() > 0.1


def test_empty_maps_have_features_too(maps):
    empty = maps.copy()
    empty[:, :8] = 0
    assert np.isfinite(features(empty, contrast=True)).all()


def test_clean_features_are_white_and_constant_ones_are_left_out():
    draw = np.random.default_rng(0)
    mixing = draw.normal(size=(6, 6))
    values = 3 + draw.normal(size=(500, 6)) @ mixing
    values[:, 2] = 7.0
    fitted = Whitening.fit(values)
    white = fitted(values)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(white.T), np.eye(5), atol=0.01)
    other = values.copy()
    other[:, 2] = 8.0
    np.testing.assert_allclose(fitted(other), white)


def test_few_maps_know_few_directions():
    values = np.random.default_rng(1).normal(size=(20, 30))
    assert Whitening.fit(values)(values).shape == (20, 20 // network.MAPS_PER_COMPONENT)


@pytest.mark.slow
def test_gradients_of_counts_go_the_way_in_which_the_counts_go(make_maps):
    """Shares of classes and of sparse and dense pixels: along the map, as a change of all of it."""
    maps = tf.constant(make_maps(40, 16, seed=4) + 5)
    count = len(network.CLASSES) + 1 + len(network.SPARSE) + len(network.DENSE)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(maps)
        totals = tf.unstack(tf.reduce_mean(network.differentiable(maps, False)[:, :count], axis=0))
    slopes = np.array([tf.reduce_sum(tape.gradient(one, maps) * maps) for one in totals])
    up, down = (network.features(maps.numpy() * x, False)[:, :count].mean(0) for x in (1.1, 0.9))
    found = (up - down) / 0.2
    moved = np.abs(found) > 0.02
    assert moved.sum() > 10
    assert np.all(np.sign(slopes[moved]) == np.sign(found[moved]))
    ratios = slopes[moved] / found[moved]
    assert np.median(ratios) == pytest.approx(1, abs=0.3)


def test_filters_are_blind_to_a_constant_and_of_unit_length():
    bank = network._bank()
    assert bank.shape == (3, 3, 1, 8)
    np.testing.assert_allclose(bank.sum((0, 1)), 0, atol=1e-12)
    np.testing.assert_allclose((bank**2).sum((0, 1)), 1, rtol=1e-12)
