"""Which maps and which prior a stage gets."""

import numpy as np
import pytest

from spurious.damage import measure
from spurious.data import splits
from spurious.data.maps import NAMES, MapSet
from spurious.files import write_json
from spurious.pipeline import inputs, loading
from spurious.pipeline.layout import Layout
from spurious.posteriors.trained import Ensemble


def labelled(labels):
    """A data set of which only the labels matter."""
    n = np.arange(len(labels))
    maps = np.ones((len(labels), 4, 4), np.float32)
    return MapSet(maps, labels, n.astype(np.uint64), n, np.full(len(n), 2, np.int8), 64.0)


def test_the_prior_reaches_from_the_smallest_to_the_largest_label(data):
    assert inputs.ranges(data) == {"omega_m": (0.1, 0.5), "sigma_8": (0.6, 0.9)}


def test_the_priors_box_reaches_half_a_spacing_further(data):
    """Each of n equally spaced values stands for a cell of its own: n spacings in all."""
    box = inputs.box(data)
    assert tuple(box) == NAMES
    assert box["omega_m"] == pytest.approx((0.1 - 0.2 / 2, 0.5 + 0.2 / 2))
    assert box["sigma_8"] == pytest.approx((0.6 - 0.1 / 2, 0.9 + 0.1 / 2))


def test_the_box_of_scattered_two_and_single_labels():
    labels = np.random.default_rng(1).uniform([0.1, 0.6], [0.5, 0.9], (1001, 2))
    box, ranges = inputs.box(labelled(labels)), inputs.ranges(labelled(labels))
    for name in NAMES:
        half = (ranges[name][1] - ranges[name][0]) / 2000
        assert box[name] == pytest.approx((ranges[name][0] - half, ranges[name][1] + half))
    assert inputs.box(labelled(np.full((5, 2), 0.3)))["omega_m"] == (0.3, 0.3)
    two = np.array([[0.2, 0.6], [0.4, 0.7]])
    assert inputs.box(labelled(two))["omega_m"] == pytest.approx((0.1, 0.5))


def test_parts_are_dealt_by_simulation_or_by_cosmology(config, data):
    by_simulation = inputs.parts(config, data, "random")
    by_cosmology = inputs.parts(config, data, "held_out")
    for split, group in (
        (by_simulation, data.index),
        (by_cosmology, splits.cosmologies(data.labels)),
    ):
        groups = [set(group[rows]) for rows in (split.train, split.validation, split.test)]
        assert not groups[0] & groups[1] and not (groups[0] | groups[1]) & groups[2]
        assert sum(map(len, groups)) == len(set(group))
        rows = np.concatenate([split.train, split.validation, split.test])
        np.testing.assert_array_equal(np.sort(rows), np.arange(len(data)))
        assert len(groups[2]) == round(config.training.test_fraction * len(set(group)))
    every = set(splits.cosmologies(data.labels))
    assert set(splits.cosmologies(data.labels)[by_simulation.test]) == every


def test_maps_to_train_on_and_maps_to_test_on_are_the_targets_parts(project, data):
    split = inputs.parts(project, data, inputs.split_of(project, project.run.target))
    train, test = inputs.training_set(project), inputs.test_set(project)
    np.testing.assert_array_equal(train.maps, data.maps[split.train])
    np.testing.assert_array_equal(test.maps, data.maps[split.test])
    np.testing.assert_array_equal(test.labels, data.labels[split.test])


def test_a_posterior_of_another_split_has_test_maps_of_its_own(project, data):
    held_out = inputs.parts(project, data, "held_out")
    test = inputs.test_set(project, "held_out")
    np.testing.assert_array_equal(test.index, data.index[held_out.test])
    trained = {tuple(label) for label in data.labels[held_out.train]}
    assert not trained & {tuple(label) for label in test.labels}


def test_bystanders_were_trained_on_the_targets_split_and_are_not_the_target(config):
    names = inputs.bystanders(config)
    assert config.run.target not in names and "held_out" not in names
    expected = {*config.run.posteriors, *config.run.ensembles}
    assert set(names) < expected and "likelihood" in names


@pytest.fixture
def row(make_maps, linear_posterior):
    """A row of damage as the stages write it."""
    maps = make_maps(4, 16)
    made = measure(maps, maps * np.float32(1.01), linear_posterior, 64.0).row(seed=0)
    return made | {"parameters": {}, "target": "compact", "group": "paper", "others": {}}


def test_rows_of_damage_are_those_of_each_attack_in_order(project, row):
    layout = Layout(project.scale)
    for number, (name, group) in enumerate(project.attacked.items()):
        path = layout.result(f"attacks/{group}/{name}.json")
        write_json(path, row | {"number": number})
    rows = inputs.attack_rows(project)
    assert list(rows) == list(project.attacked)
    assert [row["number"] for row in rows.values()] == list(range(len(rows)))


def test_rows_of_winners_are_named_after_their_families(project, row):
    interval = {"mean": 1.0, "low": 0.5, "high": 2.0}
    lists = {key: [] for key in ("at_bound", "beyond", "transfers_to")}
    numbers = {"parameters": {"a": 1.0}, "kl": 1.0, "kl_confirmed": interval}
    nothing = {"feasible": False, "holds": False}
    winner = nothing | lists | numbers | {"confirmed": {"fences": {}}, "wider": None}
    families = {
        "logistic": winner | {"transfer": {}, "row": row | {"n_maps": 1}},
        "saturation": nothing,
        "beam": winner | {"transfer": {}, "row": row | {"n_maps": 3}},
    }
    numbers = dict.fromkeys(("n_search", "n_confirm", "kl_paper", "change_paper", "confidence"), 1)
    result = numbers | {"limits": {}, "pure_gain": None, "families": families}
    write_json(Layout(project.scale).result("search.json"), result)
    rows = inputs.winner_rows(project)
    assert {name: row["n_maps"] for name, row in rows.items()} == {
        "searched_logistic": 1,
        "searched_beam": 3,
    }


def means(posterior, maps):
    return posterior(maps).mean().numpy()


def test_trainings_are_numbered_from_one_and_an_ensemble_has_all_of_them(project, stored):
    config, _ = stored
    target = config.run.target
    three = [(target, 1), (target, 2), (target, 3)]
    assert inputs.networks(config, target) == three
    assert inputs.networks(config, "ensemble") == [*three, ("resnet", 1)]
    assert inputs.files(config, "ensemble") == [
        Layout(config.scale).posterior(*one) for one in (*three, ("resnet", 1))
    ]
    assert inputs.split_of(config, "ensemble") == "random"
    assert inputs.split_of(config, "held_out") == "held_out"


def test_a_posterior_is_its_first_training_and_each_training_is_itself(project, stored, data):
    config, posteriors = stored
    target, maps = config.run.target, data.maps[:4]
    expected = {owner: means(one, maps) for owner, one in posteriors.items()}
    assert np.abs(expected[target, 1] - expected[target, 2]).max() > 1e-3
    first = expected[target, 1]
    for one in (
        loading.target(config),
        loading.posterior(config, target),
        loading.Posteriors(config)(target),
    ):
        np.testing.assert_allclose(means(one, maps), first, rtol=1e-5)
    found = loading.Posteriors(config).trainings(target)
    for number, one in enumerate(found, start=1):
        np.testing.assert_allclose(means(one, maps), expected[target, number], rtol=1e-5)
    assert len(found) == 3


def test_an_ensemble_is_the_mixture_of_all_trainings_of_its_members(project, stored, data):
    config, posteriors = stored
    maps = data.maps[:4]
    loaded = loading.Posteriors(config)
    expected = np.mean([means(one, maps) for one in posteriors.values()], axis=0)
    for one in (loaded("ensemble"), loading.posterior(config, "ensemble")):
        assert isinstance(one, Ensemble) and len(one.members) == 4
        np.testing.assert_allclose(means(one, maps), expected, rtol=1e-5)
    assert loaded.trainings("ensemble") == [loaded("ensemble")]
    # Its members are those that are asked by name, each loaded once.
    assert loaded("ensemble").members[0] is loaded(config.run.target)
    assert loaded("ensemble").members[3] is loaded("resnet") is loaded("resnet")
