"""Random starts: where they lie, and that no two draws share a seed."""

import numpy as np
import tensorflow as tf
from scipy.stats import kstest

from spurious.perturbations.steps import draw_start, rms, starts

SIDE = 4
COUNT = 300


def drawn(norm, size=3.0, seed=7):
    """Changes of one map, (COUNT, SIDE, SIDE)."""
    clean = tf.fill((2, SIDE, SIDE), tf.constant(50.0, tf.float64))
    changes = [draw_start(clean, size, norm, one) - clean for one in starts(seed, COUNT)]
    for change in changes[:3]:
        np.testing.assert_array_equal(change[0], change[1])
    return np.stack([change[0] for change in changes])


def test_every_draw_has_a_seed_of_its_own():
    pairs = starts(7, COUNT).numpy().reshape(-1, 2)
    assert len({tuple(pair) for pair in pairs}) == 2 * COUNT
    others = starts(8, COUNT).numpy().reshape(-1, 2)
    assert not {tuple(pair) for pair in pairs} & {tuple(pair) for pair in others}
    np.testing.assert_array_equal(starts(7, 3), starts(7, COUNT)[:3])


def test_a_starts_size_is_drawn_apart_from_its_pattern():
    """One seed changes the direction alone, the other the length alone."""
    clean = tf.fill((1, SIDE, SIDE), tf.constant(50.0, tf.float64))
    first, second = starts(7, 2)

    def change(pattern, radius):
        return draw_start(clean, 3.0, "l2", tf.stack([pattern, radius]))[0] - clean[0]

    one, longer = change(first[0], first[1]), change(first[0], second[1])
    ratio = (longer / one).numpy()
    assert np.ptp(ratio) < 1e-9 and abs(ratio.mean() - 1) > 1e-3
    other = change(second[0], first[1])
    np.testing.assert_allclose(rms(other[None]), rms(one[None]), rtol=1e-9)
    assert np.abs(other - one).max() > 0.1


def test_starts_are_uniform_in_the_ball_of_the_l2_norm():
    """The volume within a radius r grows as r^d, in d = SIDE^2 dimensions; no direction leads."""
    changes = drawn("l2")
    share = (np.sqrt(np.mean(changes**2, axis=(1, 2))) / 3) ** SIDE**2
    assert kstest(share, "uniform").pvalue > 0.01
    unit = changes / np.sqrt(np.mean(changes**2, axis=(1, 2), keepdims=True))
    assert np.abs(unit.mean(axis=0)).max() < 5 / np.sqrt(COUNT)
    # Size and direction know nothing of each other, which draws from one seed would.
    for pixel in unit.reshape(COUNT, -1).T:
        assert abs(np.corrcoef(share, pixel)[0, 1]) < 4.5 / np.sqrt(COUNT)


def test_starts_are_uniform_in_every_pixel_of_the_linf_norm():
    changes = drawn("linf")
    assert np.abs(changes).max() <= 3
    assert kstest(changes.ravel() / 3, "uniform", args=(-1, 2)).pvalue > 0.01
    pixels = np.corrcoef(changes.reshape(COUNT, -1).T) - np.eye(SIDE**2)
    assert np.abs(pixels).max() < 5 / np.sqrt(COUNT)
