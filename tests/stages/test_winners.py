"""What a search found is tried on maps that neither it nor a posterior has seen."""

import numpy as np
import pytest

from spurious.stages import inputs
from spurious.stages.winners import Witnesses, halves, unseen


@pytest.fixture
def witnesses(project):
    return Witnesses(project)


def test_the_halves_are_whole_simulations_and_hold_all_test_maps(project):
    test = inputs.test_set(project)
    searched, confirming = halves(project, test)
    assert len(searched.simulations) == project.search.maps
    assert not set(searched.index) & set(confirming.index)
    assert len(searched) + len(confirming) == len(test)
    for half in (searched, confirming):
        assert len(half) == 2 * len(half.simulations)  # both lines of sight
    again, _ = halves(project, test)
    np.testing.assert_array_equal(again.index, searched.index)


def test_the_search_sees_another_half_at_another_seed(project):
    test = inputs.test_set(project)
    first, other = (
        halves(project.model_copy(update={"seed": seed}), test)[0].simulations for seed in (1, 2)
    )
    assert set(first) != set(other) and len(first) == len(other)
    assert list(first) != sorted(set(test.index))[: len(first)]


def test_what_the_search_saw_is_left_out(data):
    test, searched = data.take(np.arange(20)), data.take(np.array([4, 7, 31]))
    left = unseen(test, searched)
    # Rows 4 and 7 are maps of simulations 1002 and 1003, whose other maps are 5 and 6.
    assert sorted(set(left.index)) == [1000, 1001, *range(1004, 1010)]
    np.testing.assert_array_equal(left.maps, data.maps[[0, 1, 2, 3, *range(8, 20)]])


def test_no_posterior_is_scored_on_what_the_search_or_its_training_saw(witnesses, project, data):
    searched = set(witnesses.searched.index)
    for name in [*project.run.posteriors, *project.run.ensembles]:
        chosen = witnesses.maps_for(name)
        split = inputs.parts(project, data, inputs.split_of(project, name))
        assert len(chosen), name
        assert not set(chosen.index) & searched, name
        trained = np.concatenate([split.train, split.validation])
        assert not set(chosen.index) & set(data.index[trained]), name
        # All that is left of its test maps is used.
        assert set(chosen.index) == set(data.index[split.test]) - searched, name
