"""What a search found is tried on maps that neither it nor a posterior has seen."""

from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from spurious.data.hdf5 import read_maps
from spurious.data.maps import Standardiser
from spurious.pipeline import inputs
from spurious.pipeline.confirmation import (
    Tried,
    Witnesses,
    attack_row,
    confirmed,
    halves,
    pictures,
    pure_gain,
    transfer,
    unseen,
    write_winners,
)
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import replaced_together
from spurious.posteriors.posterior import Posterior


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


@dataclass(frozen=True)
class Louder:
    """Each map times one number: its mean changes by as much, its contrast not at all."""

    gain: float

    def __call__(self, maps, truth=None):
        return np.asarray(maps) * np.float32(1 + self.gain)


def answers(shift):
    """A posterior whose mean of omega_m is `shift` times a map's mean: known KLs."""

    def posterior(maps):
        mean = tf.reduce_mean(tf.convert_to_tensor(maps), axis=(1, 2))
        means = tf.stack([shift * mean, tf.zeros_like(mean)], axis=1)
        return tfp.distributions.MultivariateNormalDiag(means, tf.ones_like(means))

    return Posterior.from_callable(
        posterior, names=("omega_m", "sigma_8"), standardiser=Standardiser(64.0, 30.0)
    )


@pytest.fixture
def known(witnesses, project):
    """Three trainings and other posteriors whose KLs are known: (64 gain shift)^2 / 2."""
    witnesses.targets = [answers(shift) for shift in (1.0, 2.0, 3.0)]
    witnesses.posterior = {name: answers(0.5) for name in project.run.present}.__getitem__
    return witnesses


def kl(gain, shift):
    return (64 * gain * shift) ** 2 / 2


def test_both_halves_are_told_of_every_training(known):
    tried = Tried(known, Louder(0.1))
    on = confirmed(known, tried)
    for half, data in (("searched", known.searched), ("confirmed", known.confirming)):
        assert on[half]["n_maps"] == len(data)
        assert on[half]["kls"] == pytest.approx([kl(0.1, s) for s in (1, 2, 3)], rel=1e-3)
        assert on[half]["kl"]["mean"] == pytest.approx(np.mean(on[half]["kls"]), rel=1e-6)
        assert on[half]["goal"] == pytest.approx(on[half]["kl"]["mean"], rel=1e-6)
        assert on[half]["fences"]["mean_shift"] == pytest.approx(0.1, rel=1e-3)
        assert on[half]["fences"]["power"] < 1e-4
    assert on["confirmed"]["kl"]["low"] < on["confirmed"]["kl"]["mean"]  # trainings differ


def test_each_half_is_its_own_maps(known):
    """A change of the maps of the search alone is seen on them alone."""
    searched = np.isin(known.test.index, known.searched.index)[:, None, None]

    def some(maps, truth=None):
        return np.where(searched, 1.1 * maps, maps).astype(np.float32)

    on = confirmed(known, Tried(known, some))
    assert on["searched"]["kl"]["mean"] == pytest.approx(kl(0.1, np.sqrt(14 / 3)), rel=1e-3)
    assert on["confirmed"]["kl"]["mean"] == pytest.approx(0, abs=1e-6)
    assert on["confirmed"]["fences"]["mean_shift"] < 1e-6


def test_the_maps_are_perturbed_once(known, project):
    calls = []

    def counted(maps, truth=None):
        calls.append(len(maps))
        return maps

    tried = Tried(known, counted)
    confirmed(known, tried), attack_row(known, tried, {})
    pictures(known, "none", tried)
    assert calls == [len(known.test)]
    transfer(known, tried)
    assert calls == [len(known.test), len(known.maps_for("held_out"))]  # other maps


def test_a_winner_has_the_row_of_an_attack_on_all_test_maps(known, project):
    tried = Tried(known, Louder(0.1))
    row = attack_row(known, tried, {"gain": 0.1})
    assert row["n_maps"] == len(known.test)
    assert row["kl_perturbed_clean"]["mean"] == pytest.approx(kl(0.1, np.sqrt(14 / 3)), rel=1e-3)
    means = [one["kl_perturbed_clean"]["mean"] for one in row["trainings"]]
    assert means == pytest.approx([kl(0.1, s) for s in (1, 2, 3)], rel=1e-3)
    assert set(row["others"]) == set(inputs.bystanders(project))
    other = row["others"]["resnet"]["kl_perturbed_clean"]["mean"]
    assert other == pytest.approx(kl(0.1, 0.5), rel=1e-3)
    assert row["abs_mean_change"]["mean"] == pytest.approx(0.1, rel=1e-4)
    assert (row["group"], row["parameters"]) == ("search", {"gain": 0.1})
    layout = Layout(project.scale)
    with replaced_together("search", [layout.attacked("search", "").parent]) as out:
        write_winners(out, known, {"louder": tried})
    written = read_maps(layout.attacked("search", "louder"))
    np.testing.assert_array_equal(written.maps, tried.perturbed.maps)
    np.testing.assert_array_equal(written.index, known.test.index)


def test_the_pure_gain_is_the_worse_of_both_that_the_fence_admits(known, project):
    """The trainings answer to more as to less; the witness below only to less."""
    limit = project.search.fences.limits["mean_shift"]
    found = pure_gain(known)
    assert abs(found["gain"]) == limit and found["fence"] == "mean_shift"
    assert found["kl"]["mean"] == pytest.approx(kl(limit, np.sqrt(14 / 3)), rel=1e-2)

    def only_less(maps):
        maps = tf.convert_to_tensor(maps)
        below = tf.minimum(tf.reduce_mean(maps, axis=(1, 2)) - 64.0, 0.0)
        means = tf.stack([30 * below, tf.zeros_like(below)], axis=1)
        return tfp.distributions.MultivariateNormalDiag(means, tf.ones_like(means))

    known.targets = [
        Posterior.from_callable(
            only_less, names=("omega_m", "sigma_8"), standardiser=Standardiser(64.0, 30.0)
        )
    ]
    found = pure_gain(known)
    assert found["gain"] == -limit
    assert found["kl"]["mean"] == pytest.approx(kl(limit, 30), rel=2e-2)
