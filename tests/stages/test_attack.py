"""Each attack is made on one training, measured on that one, and shown to the others."""

from dataclasses import replace

import numpy as np
import pytest

from spurious import damage
from spurious.bootstrap import Hierarchy
from spurious.data.splits import evenly_spaced
from spurious.errors import UserError
from spurious.stages import attack, compare


@pytest.fixture(scope="module")
def scene(folder, stored):
    """What the attacks share, loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = attack.Scene(stored[0])
        assert len(found.test) and len(found.targets) == 3 and found.posterior("resnet")
    return found


@pytest.fixture(scope="module")
def bim(scene):
    return attack.perturb(scene, scene.config.entries["bim"])


def kl(posterior, made):
    change = damage.posterior_change(*made.pair, posterior)
    return change.kl_perturbed_clean


def test_white_box_attacks_are_made_on_each_training(scene, bim):
    assert len(bim) == 3
    for i, one in enumerate(bim):
        means = [kl(target, one).mean() for target in scene.targets]
        assert int(np.argmax(means)) == i
        assert means[i] > 2 * max(mean for j, mean in enumerate(means) if j != i)
    assert attack.distinct(bim) == bim


def test_trainings_after_the_first_have_their_share_of_the_maps(scene, bim):
    first, *others = bim
    np.testing.assert_array_equal(first.clean.maps, scene.test.maps)
    count = scene.config.damage.count(len(scene.test))
    assert 1 < count < len(scene.test)
    rows = evenly_spaced(len(scene.test), count)
    for one in others:
        np.testing.assert_array_equal(one.clean.maps, scene.test.maps[rows])
        np.testing.assert_array_equal(one.perturbed.index, scene.test.index[rows])


def test_what_does_not_depend_on_the_target_is_made_once_of_all_maps(scene):
    made = attack.perturb(scene, scene.config.entries["systematic"])
    assert len(made) == 3 and all(one is made[0] for one in made)
    assert len(attack.distinct(made)) == 1
    assert len(made[0].clean) == len(scene.test)


def test_retrained_is_the_damage_to_the_other_trainings(scene, bim):
    found = attack._retrained(scene, bim)
    of_others = []
    for i, one in enumerate(bim):
        others = [kl(target, one) for j, target in enumerate(scene.targets) if j != i]
        of_others.append(np.mean(others, axis=0))
    resamples = Hierarchy([one.clean.index for one in bim], scene.config.seed)
    expected = resamples.mean_interval(of_others, positive=True)
    assert found["kl_perturbed_clean"] == pytest.approx(expected, rel=1e-4)
    own = np.mean([kl(target, one).mean() for target, one in zip(scene.targets, bim, strict=True)])
    assert found["kl_perturbed_clean"]["mean"] < 0.5 * own


def test_another_posterior_sees_what_was_made_on_any_training(scene, bim):
    found = attack._seen_by(scene, "resnet", bim)
    posterior = scene.posterior("resnet")
    expected = np.mean([kl(posterior, one).mean() for one in bim])
    assert found["kl_perturbed_clean"]["mean"] == pytest.approx(expected, rel=1e-4)
    assert found["n_trainings"] == 3
    once = attack.perturb(scene, scene.config.entries["systematic"])
    assert attack._seen_by(scene, "resnet", once)["n_trainings"] == 1


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
    first, second = compare.shared(one, other)
    np.testing.assert_array_equal(first.maps, second.maps)
    np.testing.assert_array_equal(first.axis, second.axis)
    assert len(first) == 6 and set(first.index) == {1002, 1003, 1004}
    nothing = compare.shared(data.take(np.arange(4)), data.take(np.arange(4, 8)))
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
    (found,) = compare.disagreements(attacked, [linear_posterior, other], seed=1)
    assert (found["first"], found["second"]) == ("bim", "beam")
    means = []
    for posterior, one, two in (
        (linear_posterior, attacked["bim"][0].maps, attacked["beam"][0].maps),
        (other, attacked["bim"][1].maps, attacked["beam"][0].maps[some]),
    ):
        apart = (posterior.means(one) - posterior.means(two)) / posterior.scale
        means.append(np.mean(0.5 * np.sum(apart**2, axis=1)))
    assert found["kl_symmetrised"]["mean"] == pytest.approx(np.mean(means), rel=1e-3)
    assert compare.disagreements({"bim": attacked["bim"]}, [linear_posterior], 1) == []


def test_pairs_without_a_map_in_common_are_left_out(data, linear_posterior):
    attacked = {"one": [data.take(np.arange(4))], "other": [data.take(np.arange(4, 8))]}
    assert compare.disagreements(attacked, [linear_posterior], seed=1) == []
