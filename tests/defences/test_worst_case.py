"""The inner maximisation: its start, its direction, its budget, and what is minimised then."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from spurious import spectra
from spurious.defences.adversarial_training import AdversarialTraining
from spurious.defences.trades import Trades
from spurious.defences.worst_case import start
from spurious.perturbations.spectral import Bounded

PAIR = tf.constant([3, 5])
EPSILON = 2.0


def rms(change):
    return np.sqrt(np.mean(np.square(change), axis=(1, 2)))


def size(change, norm):
    return np.abs(change).max(axis=(1, 2)) if norm == "linf" else rms(change)


def uphill(posterior, maps, truth):
    """Gradient of -log q(truth | maps) by NumPy: sum over parameters of -(y - mean) / s^2 w."""
    error = (truth.numpy() - posterior.means(maps)) / posterior.scale**2
    return -np.einsum("bp,pij->bij", error, posterior.weights)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_start_fills_the_ball_and_differs_between_maps(maps, norm):
    many = tf.repeat(maps[:1], 400, axis=0)
    change = (start(many, EPSILON, norm, PAIR) - many).numpy()
    sizes = size(change, norm)
    assert sizes.max() <= EPSILON * (1 + 1e-5)
    assert np.abs(change.mean()) < 0.01 and np.abs(change[0] - change[1]).max() > EPSILON / 2
    # Uniform in the ball: of the pixels in linf; in 256 dimensions almost all volume is outside.
    expected = EPSILON / np.sqrt(3) if norm == "linf" else EPSILON
    assert rms(change).mean() == pytest.approx(expected, rel=0.02)


def test_a_radius_is_drawn_as_the_volume_of_the_ball_grows():
    """In the plane of a 1 x 2 map, the square of the radius is uniform."""
    maps = tf.zeros((4000, 1, 2))
    radius = rms(start(maps, 1.0, "l2", PAIR).numpy()) ** 2
    assert np.quantile(radius, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.03)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_is_the_fast_method_uphill(network, linear_posterior, maps, truth, norm):
    defence = AdversarialTraining(epsilon=EPSILON, norm=norm)
    clean = maps + 20.0  # far from zero, where nothing is clipped
    begin = start(clean, EPSILON, norm, PAIR).numpy()
    gradient = uphill(linear_posterior, begin, truth)
    if norm == "linf":
        expected = np.clip(begin + 1.25 * EPSILON * np.sign(gradient), clean - 2, clean + 2)
    else:
        expected = begin + 1.25 * EPSILON * gradient / rms(gradient)[:, None, None]
        change = expected - clean
        expected = clean + change * np.minimum(EPSILON / rms(change), 1)[:, None, None]
    found = defence.shown(network, clean, truth, PAIR)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("objective", ["nll", "kl", "kl_clean_perturbed"])
def test_the_worst_map_is_worse_than_the_start_and_within_the_budget(
    breathing, maps, truth, norm, steps, objective
):
    from spurious.perturbations.objectives import named

    defence = AdversarialTraining(epsilon=EPSILON, norm=norm, steps=steps, objective=objective)
    found = defence.shown(breathing, maps, truth, PAIR)
    assert np.all(size((found - maps).numpy(), norm) <= EPSILON * (1 + 1e-5))
    assert found.numpy().min() >= 0
    goal, clean = named(objective), breathing(maps)
    begin = tf.maximum(start(maps, EPSILON, norm, PAIR), 0)
    assert np.all(goal(breathing(found), clean, truth) > goal(breathing(begin), clean, truth))


def test_draws_follow_from_the_seed_alone(network, maps, truth):
    defence = AdversarialTraining(epsilon=EPSILON)
    one, again = (defence.shown(network, maps, truth, PAIR) for _ in range(2))
    other = defence.shown(network, maps, truth, PAIR + 1)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.1


def test_a_constraint_keeps_the_power(network, maps, truth):
    fraction, free = 0.1, AdversarialTraining(epsilon=EPSILON, steps=3)
    bound = replace(free, constraints=(Bounded(fraction),))
    before = spectra.power(maps, 64.0, contrast=False)
    variance = spectra.cosmic_variance(spectra.bins(16, 64.0).n_modes)
    excess = []
    for defence in (free, bound):
        after = spectra.power(defence.shown(network, maps, truth, PAIR), 64.0, contrast=False)
        excess.append(np.max(np.abs(after / before - 1) / variance))
    assert excess[1] < 1.5 * fraction < 3 * fraction < excess[0]


def test_adversarial_training_minimises_the_loss_at_the_worst_map(network, maps, truth):
    defence = AdversarialTraining(epsilon=EPSILON)
    worst = defence.shown(network, maps, truth, PAIR)
    expected = -network(worst).log_prob(truth)
    np.testing.assert_allclose(defence.loss(network, maps, truth, PAIR), expected, rtol=1e-6)
    assert np.all(expected > -network(maps).log_prob(truth))


def test_trades_adds_the_divergence_from_the_clean_posterior(breathing, maps, truth):
    """KL(clean || perturbed), by the formula for Gaussians, not the other way round."""
    defence = Trades(epsilon=EPSILON, beta=3.0)
    p, q = (breathing(x) for x in (maps, defence.worst(breathing, maps, truth, PAIR)))
    m, s, n, t = (np.float64(x) for x in (p.mean(), p.stddev(), q.mean(), q.stddev()))
    forward = np.sum(np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5, axis=1)
    backward = np.sum(np.log(s / t) + (t**2 + (m - n) ** 2) / (2 * s**2) - 0.5, axis=1)
    assert np.abs(forward - backward).max() > 1e-2
    expected = -p.log_prob(truth) + 3.0 * forward
    np.testing.assert_allclose(
        defence.loss(breathing, maps, truth, PAIR), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("change", [{"epsilon": 0.0}, {"epsilon": -1.0}, {"steps": 0}])
def test_nothing_to_do_is_refused(change):
    with pytest.raises(ValueError, match="must be above 0"):
        AdversarialTraining(**{"epsilon": EPSILON, **change})
