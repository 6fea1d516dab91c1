"""Intervals: do they hold the true value as often as they say?"""

import numpy as np
import pytest
from scipy import stats

from spurious import bootstrap


def test_interval_covers_the_mean_as_often_as_it_says():
    """95 % nominal; for n = 50 and 300 repeats the binomial error is 1.3 %."""
    rng = np.random.default_rng(5)
    weights = bootstrap.bootstrap_weights(50, seed=1)
    covered = 0
    for _ in range(300):
        found = bootstrap.mean_interval(rng.normal(2.0, 1.0, size=50), weights)
        covered += found["low"] <= 2.0 <= found["high"]
    assert 0.90 <= covered / 300 <= 0.985
    np.testing.assert_array_equal(weights, bootstrap.bootstrap_weights(50, seed=1))


def test_the_sample_itself_is_in_the_middle():
    values = np.arange(40.0) ** 2
    found = bootstrap.mean_interval(values, bootstrap.bootstrap_weights(40, seed=2))
    assert found["mean"] == pytest.approx(values.mean())
    error = values.std() / np.sqrt(40)
    assert found["low"] == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert found["high"] == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


def test_maps_of_one_simulation_are_resampled_together():
    """Three equal maps a simulation know no more than one: the interval is as wide."""
    values = np.random.default_rng(3).normal(size=60)
    groups = np.random.default_rng(4).permutation(np.repeat(np.arange(60), 3))
    weights = bootstrap.bootstrap_weights(180, 5, groups)
    for simulation in range(60):
        assert np.ptp(weights[:, groups == simulation], axis=1).max() == 0
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    together = bootstrap.mean_interval(values[groups], weights)
    alone = bootstrap.mean_interval(values, bootstrap.bootstrap_weights(60, 5))
    assert together == pytest.approx(alone)


def test_simulations_of_different_size():
    weights = bootstrap.bootstrap_weights(4, 1, np.array([7, 7, 7, 2]))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert set(np.round(weights[:, 3], 6)) == {0, 0.25, 1}


@pytest.mark.parametrize(("n", "groups"), [(0, None), (3, np.arange(4))])
def test_impossible_arguments_are_refused(n, groups):
    with pytest.raises(ValueError, match="groups"):
        bootstrap.bootstrap_weights(n, 0, groups)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_binomial_band_holds_what_it_says(share):
    n = 200
    low, high = bootstrap.binomial_band(n, share)
    inside = stats.binom.cdf(round(n * high), n, share) - stats.binom.cdf(
        round(n * low) - 1, n, share
    )
    assert 0.95 <= inside < 0.975
