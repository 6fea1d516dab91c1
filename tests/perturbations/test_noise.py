"""The random-sign control."""

import numpy as np

from spurious.perturbations.noise import RandomSign


def test_signs_are_fair_and_independent_between_maps_and_seeds(make_maps):
    maps = make_maps(20, 32) + 10
    signs = np.sign(RandomSign(1.0, seed=3)(maps) - maps).reshape(20, -1)
    other = np.sign(RandomSign(1.0, seed=4)(maps) - maps).reshape(20, -1)
    assert set(np.unique(signs)) == {-1, 1}
    # Five standard errors of a mean of n fair signs.
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)
    assert abs((signs * other).mean()) < 5 / np.sqrt(signs.size)
    between = (signs @ signs.T / signs.shape[1])[~np.eye(20, dtype=bool)]
    assert np.abs(between).max() < 5 / np.sqrt(signs.shape[1])
