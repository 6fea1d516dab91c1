"""Parts of the stages `attack` and `compare`; test_attack_run.py and its like run them whole."""

from dataclasses import replace

import numpy as np
import pytest

from spurious.errors import UserError
from spurious.stages import attack, compare


def test_the_extremes_are_the_largest_the_middle_and_the_smallest():
    values = np.array([0.3, 5.0, 0.1, 2.0, 1.0])
    assert attack.extreme_rows(values).tolist() == [1, 4, 2]
    assert attack.extreme_rows(values[:2]).tolist() == [1, 0]
    assert attack.extreme_rows(values[:1]).tolist() == [0]
    assert attack.extreme_rows(np.array([1.0, 4.0, 3.0, 2.0])).tolist() == [1, 2, 0]


def test_groups_and_single_attacks_can_be_named(config):
    paper = list(config.attacks["paper"])
    assert attack.select_attacks(config, ["paper"]) == {"paper": paper}
    assert attack.select_attacks(config, ["bim", "fgsm"]) == {"paper": ["bim", "fgsm"]}
    assert attack.select_attacks(config, ["bim", "paper"]) == {"paper": paper}
    assert attack.select_attacks(config, ["paper", "bim"]) == {"paper": paper}
    both = attack.select_attacks(config, ["bim", "beam"])
    assert both == {"paper": ["bim"], "systematics": ["beam"]}
    with pytest.raises(UserError, match="'nothing': must be a group, paper"):
        attack.select_attacks(config, ["nothing"])


def test_what_is_told_and_drawn_of_a_row():
    def cell(value):
        return {"kl_perturbed_clean": {"mean": value}}

    row = {**cell(0.5), "others": {"resnet": cell(0.25)}}
    assert attack.describe("bim", row, "compact") == (
        "bim: KL(perturbed ‖ clean) of compact 0.5, resnet 0.25"
    )


# Attacks beside each other.


def shuffled(data, seed):
    return data.take(np.random.default_rng(seed).permutation(len(data)))


def test_shared_maps_are_those_of_the_same_simulation_and_line_of_sight(data):
    one, other = shuffled(data.take(np.arange(10)), 1), shuffled(data.take(np.arange(4, 16)), 2)
    first, second = compare.shared(one, other, data)
    np.testing.assert_array_equal(first.maps, second.maps)
    np.testing.assert_array_equal(first.axis, second.axis)
    assert len(first) == 6 and set(first.index) == {1002, 1003, 1004}
    nothing = compare.shared(data.take(np.arange(4)), data.take(np.arange(4, 8)), data)
    assert [len(part) for part in nothing] == [0, 0]


def test_clean_maps_are_found_in_the_order_of_the_perturbed_ones(data):
    test = data.take(np.arange(20))
    some = shuffled(test, 3).take(np.arange(7))
    np.testing.assert_array_equal(compare.same_maps(test, some).maps, some.maps)


def test_disagreement_is_between_the_maps_of_each_training(data, linear_posterior):
    """Of a Gaussian of fixed widths the symmetrised KL is half the squared distance in sigma."""
    clean = data.take(np.arange(12))
    rng = np.random.default_rng(7)

    def moved(size, rows):
        part = clean.take(rows)
        maps = part.maps + size * rng.normal(size=part.maps.shape)
        return replace(part, maps=maps.astype(np.float32))

    whole, some = np.arange(12), np.arange(4, 10)
    attacked = {
        "bim": [moved(20, whole), moved(30, some)],
        "beam": [moved(5, whole)],  # the same for all trainings
    }
    other = replace(linear_posterior, weights=linear_posterior.weights[:, ::-1])
    (found,) = compare.disagreements(attacked, [linear_posterior, other], 1, data)
    assert (found["first"], found["second"]) == ("bim", "beam")
    means = []
    for posterior, one, two in (
        (linear_posterior, attacked["bim"][0].maps, attacked["beam"][0].maps),
        (other, attacked["bim"][1].maps, attacked["beam"][0].maps[some]),
    ):
        apart = (posterior.means(one) - posterior.means(two)) / posterior.scale
        means.append(np.mean(0.5 * np.sum(apart**2, axis=1)))
    assert found["kl_symmetrised"]["mean"] == pytest.approx(np.mean(means), rel=1e-3)
    assert compare.disagreements({"bim": attacked["bim"]}, [linear_posterior], 1, data) == []


def test_pairs_without_a_map_in_common_are_left_out(data, linear_posterior):
    attacked = {"one": [data.take(np.arange(4))], "other": [data.take(np.arange(4, 8))]}
    assert compare.disagreements(attacked, [linear_posterior], 1, data) == []
