"""A posterior that gives no answer for odd maps, and attacks on it together with its detector."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.audit.attacks import Attacks, Limit
from spurious.bootstrap import binomial_band
from spurious.defences import abstaining
from spurious.defences.abstaining import calibrated, fit, summary_of, threshold
from spurious.defences.adaptive import Heard, OnDetector, Outcome, attacks_on
from spurious.errors import UserError
from spurious.perturbations.noise import RandomSign

KINDS = ("network", "network_contrast", "log_power", "pdf", "scattering")
BOX = 32.0
NOISE = 15.0  # counts: what the detector learns to notice


@pytest.fixture(scope="module")
def clean(make_maps):
    """Apart from each other: to teach, to set the threshold, to test."""
    maps = make_maps(900, 16, seed=5)
    return maps[:200], maps[200:500], maps[500:]


@pytest.fixture(scope="module")
def make(clean, linear_posterior):
    """An abstaining posterior by kind of detector and share of false alarms."""

    def made(kind="network", false_alarms=0.05):
        teach, held_out, _ = clean
        noisy = np.asarray(RandomSign(NOISE, 1)(teach))
        detector = fit(summary_of(kind, teach, BOX), teach, [noisy, 1.1 * teach], teach)
        return calibrated(linear_posterior, detector, held_out, false_alarms)

    return made


@pytest.mark.parametrize("kind", KINDS)
def test_it_rejects_what_it_has_learned_and_few_clean_maps(make, clean, kind):
    posterior, test = make(kind), clean[2]
    rejected = np.mean(~posterior.accepts(test))
    low, high = binomial_band(len(test), 0.05)
    # The threshold itself has the scatter of 300 maps.
    assert low - 0.03 <= rejected <= high + 0.03
    noisy = np.asarray(RandomSign(NOISE, 2)(test))
    assert np.mean(~posterior.accepts(noisy)) > (0.15 if kind == "log_power" else 0.5)


@pytest.mark.parametrize("false_alarms", [0.02, 0.2])
def test_false_alarms_on_fresh_clean_maps_are_as_many_as_asked_for(
    make_maps, linear_posterior, false_alarms
):
    """Over many thresholds, each from other maps, at most the share asked for, and nearly it."""
    maps = make_maps(2200, 16, seed=9)
    teach, rest = maps[:200], maps[200:]
    noisy = np.asarray(RandomSign(NOISE, 1)(teach))
    detector = fit(summary_of("pdf", teach, BOX), teach, [noisy], teach)
    scores = abstaining.scores(detector, rest)
    draw, n, shares = np.random.default_rng(0), 99, []
    for _ in range(400):
        order = draw.permutation(len(rest))
        rank = int(np.ceil((n + 1) * (1 - false_alarms)))
        at = np.sort(scores[order[:n]])[rank - 1]
        shares.append(np.mean(scores[order[n:]] > at))
    error = np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) < false_alarms + 3 * error + 0.01
    assert np.mean(shares) > false_alarms - 3 * error - 0.01
    assert threshold(detector, rest[:n], false_alarms) == pytest.approx(
        np.sort(scores[:n])[int(np.ceil((n + 1) * (1 - false_alarms))) - 1], rel=1e-6
    )


def test_too_few_maps_for_so_few_false_alarms_are_one_line(make):
    with pytest.raises(UserError, match=r"^false_alarms = 0.001: must be at least 0.00332 with"):
        make(false_alarms=0.001)


def test_it_answers_as_its_inner_posterior(make, clean, linear_posterior):
    posterior, maps = make(), clean[2][:3]
    np.testing.assert_array_equal(posterior(maps).mean(), linear_posterior(maps).mean())
    assert (posterior.names, posterior.standardiser) == (
        linear_posterior.names,
        linear_posterior.standardiser,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_scores_have_gradients_that_lead_to_lower_ones(make, clean, kind):
    """Also where features are counts: a few steps against it lower a score."""
    posterior = make(kind)
    maps = tf.constant(np.asarray(RandomSign(NOISE, 2)(clean[2][:8])))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        excess = posterior.excess(maps)
    gradient = tape.gradient(excess, maps)
    assert np.isfinite(gradient).all()
    assert np.mean(gradient.numpy() == 0) < 0.1
    size = tf.sqrt(tf.reduce_mean(gradient**2, (1, 2), keepdims=True))
    lower = posterior.excess(tf.maximum(maps - 2 * gradient / size, 0))
    assert np.mean(lower < excess) > 0.8


def test_the_joint_attack_is_accepted_where_the_plain_one_is_not(make, clean):
    posterior, maps = make(), clean[2][:24]
    accepted = posterior.accepts(maps)
    limit, like = Limit(8.0), Attacks(posterior, steps=20, seed=3)
    heard = Heard(posterior, maps)
    plain = heard(like.strongest(maps, limit))
    joint = heard(attacks_on(posterior, like).strongest(maps, limit))
    assert np.mean(plain.accepted) < 0.3  # what does not know the detector is noticed
    assert joint.accepted[accepted].all()
    assert joint.damage.mean() > 1.5 * plain.damage.mean()
    # And it is no harmless map: most of the damage is done without being noticed.
    assert joint.kl[joint.accepted].mean() > 0.3 * plain.kl.mean()


def test_the_attack_on_an_abstaining_posterior_is_the_joint_one(make):
    assert isinstance(attacks_on(make(), Attacks(make())), OnDetector)


def test_what_is_rejected_does_no_damage():
    outcome = Outcome(np.array([3.0, 2.0]), np.array([False, True]))
    np.testing.assert_array_equal(outcome.damage, [0, 2])


def test_the_worse_of_two_outcomes_is_chosen_map_by_map():
    one = Outcome(np.array([3.0, 2.0, 0.0, 5.0]), np.array([False, True, True, False]))
    other = Outcome(np.array([1.0, 4.0, 9.0, 7.0]), np.array([True, True, False, False]))
    worse = one.worse(other)
    np.testing.assert_array_equal(worse.damage, [1, 4, 0, 0])
    np.testing.assert_array_equal(worse.accepted, [True, True, True, False])
    np.testing.assert_array_equal(worse.damage, other.worse(one).damage)


def test_checks_of_the_audit_count_a_map_without_an_answer_as_not_moved(make, clean):
    posterior, maps = make(), clean[2][:20]
    noisy = np.array(RandomSign(NOISE, 2)(maps))
    noisy[:10] = 1.001 * maps[:10]  # too little to be noticed
    heard, answered = Heard(posterior, maps), posterior.accepts(noisy)
    assert 0 < answered.sum() < len(maps)
    found = heard.response(noisy)
    assert np.all(found.kl[answered] > 0) and np.all(found.shift[answered] > 0)
    assert np.all(found.kl[~answered] == 0) and np.all(found.shift[~answered] == 0)
    np.testing.assert_allclose(found.kl, heard(noisy).damage, rtol=1e-6)
