"""The split deals whole simulations, at random, and as it always did for one map each."""

import hashlib

import numpy as np
import pytest

from spurious.data.maps import MapSet
from spurious.data.splits import evenly_spaced, places, split
from spurious.errors import UserError


@pytest.mark.parametrize(
    ("n", "expected"),
    [(100, "034962f3ffc859fb543ba71af0398e76"), (1210, "fe00f12ef98d37f9aac07c20b3fec5d9")],
)
@pytest.mark.parametrize("first", [0, 1000])
def test_one_map_a_simulation_is_split_as_in_the_first_published_results(n, expected, first):
    """MD5 of the rows that the split of maps gave before it became one of simulations."""
    parts = split(first + np.arange(n), 0.3, 0.1, root_seed=5)
    rows = (parts.train, parts.validation, parts.test)
    assert hashlib.md5(b"".join(r.astype("<i8").tobytes() for r in rows)).hexdigest() == expected


def test_some_rows_of_that_split():
    parts = split(np.arange(100), 0.3, 0.1, root_seed=20221121)
    np.testing.assert_array_equal(parts.validation, [11, 22, 30, 59, 83, 92, 99])
    np.testing.assert_array_equal(parts.test[:8], [0, 4, 7, 21, 23, 31, 34, 35])


def test_split_is_disjoint_complete_and_of_the_asked_sizes():
    parts = split(np.arange(1210), test_fraction=0.3, validation_fraction=0.1, root_seed=5)
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [762, 85, 363]
    joined = np.concatenate([parts.train, parts.validation, parts.test])
    np.testing.assert_array_equal(np.sort(joined), np.arange(1210))
    again = split(np.arange(1210), 0.3, 0.1, root_seed=5)
    other = split(np.arange(1210), 0.3, 0.1, root_seed=6)
    np.testing.assert_array_equal(again.test, parts.test)
    assert not np.array_equal(other.test, parts.test)


@pytest.mark.parametrize("maps", [3, 15])
@pytest.mark.parametrize("scattered", [False, True])
def test_no_simulation_straddles_two_parts(maps, scattered):
    index = np.repeat(np.random.default_rng(0).permutation(200), maps)
    if scattered:
        np.random.default_rng(1).shuffle(index)
    parts = split(index, 0.3, 0.1, root_seed=5)
    rows = [parts.train, parts.validation, parts.test]
    assert [len(r) for r in rows] == [126 * maps, 14 * maps, 60 * maps]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(200 * maps))
    assert all((np.diff(r) > 0).all() for r in rows)
    numbers = [set(index[r]) for r in rows]
    assert not (numbers[0] & numbers[1] or numbers[0] & numbers[2] or numbers[1] & numbers[2])


def test_several_lines_of_sight_leave_the_simulations_where_they_were():
    """A network trained on more views of the same suite is tested on the same universes."""
    one = split(np.arange(50), 0.3, 0.1, root_seed=5)
    three = split(np.repeat(np.arange(50), 3), 0.3, 0.1, root_seed=5)
    np.testing.assert_array_equal(np.unique(three.test // 3), one.test)


def test_split_is_random_not_a_stride():
    """Simulations are dealt to nodes in turn: a regular split would leave nodes out."""
    parts = split(np.arange(1210), 0.3, 0.1, root_seed=5)
    assert len(np.unique(np.diff(parts.test))) > 5


def views(index, axis):
    n = len(index)
    return MapSet(np.zeros((n, 2, 2), np.float32), np.zeros((n, 2)), np.zeros(n, np.uint64),
                  np.array(index), np.array(axis, np.int8), 1.0)  # fmt: skip


def test_maps_are_found_by_their_simulation_and_line_of_sight():
    whole = views([7, 7, 3, 3], [0, 1, 0, 1])
    np.testing.assert_array_equal(places(whole, views([3, 7], [1, 0])), [3, 0])
    with pytest.raises(UserError, match="not among the test maps"):
        places(whole, views([4], [0]))


def test_maps_of_one_line_of_sight_are_told_apart_by_their_order():
    """Fifteen maps a simulation, as CAMELS has them: a dictionary would find the last of each."""
    whole = views(np.repeat([9, 4, 6], 15), np.full(45, -1))
    np.testing.assert_array_equal(places(whole, whole), np.arange(45))
    rows = evenly_spaced(45, 7)
    np.testing.assert_array_equal(places(whole, whole.take(rows)), rows)
    with pytest.raises(UserError, match="which of them were attacked cannot be told"):
        places(whole, whole.take(np.array([0, 1, 2])))
