"""The planted weakness does what it says."""

import numpy as np
import pytest

from spurious.audit.measurement import Listener
from spurious.audit.planted import DISTANCE, Planted, known


def test_the_pattern_moves_every_mean_by_the_distance(linear_posterior, maps):
    epsilon = 2.0
    planted = Planted(linear_posterior, epsilon, seed=1)
    still = Planted(linear_posterior, epsilon, seed=1)
    still._original = lambda _: linear_posterior(maps)  # takes no notice of the pattern
    for one, sign in zip(planted.examples(maps), (1, -1), strict=True):
        assert np.abs(one - maps).max() == pytest.approx(epsilon, abs=1e-4)
        shift = (still(one).mean() - still(maps).mean()) / linear_posterior.scale
        np.testing.assert_allclose(shift, sign * DISTANCE, rtol=1e-4)
        kl = Listener(still, maps)(one).kl
        np.testing.assert_allclose(kl, 2 * DISTANCE**2 / 2, rtol=1e-3)  # two parameters


def test_what_is_known_is_the_better_of_both_signs(breathing_posterior, maps):
    planted = Planted(breathing_posterior, 2.0, seed=1)
    heard = Listener(planted, maps)
    both = [heard(one).kl for one in planted.examples(maps)]
    np.testing.assert_array_equal(known(heard, planted, maps), np.maximum(*both))
    assert np.abs(both[0] - both[1]).max() > 0.1


def test_noise_of_the_same_size_does_not_find_it(linear_posterior, maps):
    planted = Planted(linear_posterior, 2.0, seed=1)
    noise = np.random.default_rng(5).choice([-2.0, 2.0], maps.shape).astype(np.float32)
    assert Listener(planted, maps)(maps + noise).kl.mean() < 10


def test_another_seed_plants_another_pattern(linear_posterior, maps):
    first, again, second = (
        Planted(linear_posterior, 2.0, seed).examples(maps)[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.mean(first != second) == pytest.approx(0.5, abs=0.1)
