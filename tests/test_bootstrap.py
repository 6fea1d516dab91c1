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


def trainings(rng, count, spread, n=60):
    """Values of the same n maps under `count` trainings, each with an offset of its own."""
    maps = rng.normal(1.0, 0.1, size=n)
    return [maps + rng.normal(0, spread) + rng.normal(0, 0.05, size=n) for _ in range(count)]


@pytest.mark.parametrize("count", [3, 5])
def test_interval_over_trainings_covers_and_another_set_of_trainings_agrees(count):
    """The offsets of trainings dominate: 95 % nominal coverage of their mean, 0.

    Another set of trainings has the same scatter, so its mean lies within the interval less
    often: |t| below t_0.975 / sqrt(2) with T - 1 degrees of freedom, in the limit.
    """
    rng = np.random.default_rng(6)
    covered = agreed = 0
    for repeat in range(300):
        values = [one - 1 for one in trainings(rng, count, 0.3)]
        found = bootstrap.Hierarchy([np.arange(60)] * count, repeat).mean_interval(values)
        other = np.mean([one - 1 for one in trainings(rng, count, 0.3)])
        covered += found["low"] <= 0 <= found["high"]
        agreed += found["low"] <= other <= found["high"]
    expected = 1 - 2 * stats.t.sf(stats.t.ppf(0.975, count - 1) / np.sqrt(2), count - 1)
    assert 0.91 <= covered / 300 <= 0.98
    assert abs(agreed / 300 - expected) < 0.06


def test_maps_alone_give_an_interval_that_ignores_the_trainings():
    """What the interval over trainings is for: percentiles of maps miss another training's mean."""
    rng = np.random.default_rng(7)
    values = trainings(rng, 3, 0.3)
    alone = bootstrap.mean_interval(values[0], bootstrap.bootstrap_weights(60, 1))
    together = bootstrap.Hierarchy([np.arange(60)] * 3, 1).mean_interval(values)
    assert together["high"] - together["low"] > 5 * (alone["high"] - alone["low"])


def test_one_training_is_the_bootstrap_of_its_maps():
    values, groups = np.random.default_rng(3).normal(size=40), np.repeat(np.arange(20), 2)
    alone = bootstrap.mean_interval(values, bootstrap.bootstrap_weights(40, 5, groups))
    assert bootstrap.Hierarchy([groups], 5).mean_interval([values]) == pytest.approx(alone)


def test_trainings_tried_on_different_maps_share_the_simulations_that_both_saw():
    resamples = bootstrap.Hierarchy([np.arange(10), np.array([2, 8, 4])], 1)
    first, second = resamples.maps
    np.testing.assert_allclose(first.sum(axis=1), 1)
    np.testing.assert_allclose(second.sum(axis=1), 1)
    some = (first[:, [2, 8, 4]] > 0).all(axis=1)
    assert some.any()
    ratio = first[some][:, [2, 8, 4]] / first[some][:, [2]]
    np.testing.assert_allclose(second[some] / second[some][:, [0]], ratio)


def test_positive_numbers_have_positive_intervals_and_signed_ones_symmetric_ones():
    resamples = bootstrap.Hierarchy([np.arange(50)] * 3, 2)
    rng = np.random.default_rng(8)
    values = [scale * rng.uniform(0.9, 1.1, size=50) for scale in (0.2, 1.0, 3.0)]
    found = resamples.mean_interval(values, positive=True)
    assert 0 < found["low"] < found["mean"] < found["high"]
    assert found["high"] / found["mean"] == pytest.approx(found["mean"] / found["low"])
    signed = resamples.mean_interval([one - 1 for one in values])
    middle = (signed["low"] + signed["high"]) / 2
    assert signed["mean"] == pytest.approx(middle) and signed["low"] < 0


def test_equal_trainings_and_maps_have_no_width():
    found = bootstrap.Hierarchy([np.arange(9)] * 3, 2).mean_interval([np.zeros(9)] * 3)
    assert found == {"mean": 0.0, "low": 0.0, "high": 0.0}


@pytest.mark.parametrize("groups", [[], [np.arange(3), np.arange(0)]])
def test_a_training_without_maps_is_refused(groups):
    with pytest.raises(ValueError, match="maps of each training"):
        bootstrap.Hierarchy(groups, 0)
