"""FGSM and BIM against an independent transcription on a posterior known in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.inference.posterior import kl, mixture
from spurious.perturbations.gradient import BIM, FGSM, OBJECTIVES


def bim_by_numpy(posterior, maps, truth, alpha, steps):
    """Eq. 2 for J = -log q(y | x): its gradient is W^T (mean(x) - y) / scale^2."""
    x = np.asarray(maps, np.float64)
    for _ in range(steps):
        residual = (posterior.means(x) - truth) / posterior.scale**2
        gradient = np.einsum("bp,pij->bij", residual, posterior.weights)
        x = np.maximum(x + alpha * np.sign(gradient), 0.0)
    return x


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(6, 16).astype(np.float64)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(2).uniform([0.05, 0.5], [0.55, 1.0], size=(6, 2))


def test_bim_is_equation_2(linear_posterior, maps, truth):
    attacked = BIM(linear_posterior, alpha=0.4, steps=10)(maps, truth)
    expected = bim_by_numpy(linear_posterior, maps, truth, 0.4, 10)
    np.testing.assert_allclose(attacked, expected, rtol=0, atol=1e-10)
    assert np.any(expected == 0)  # the clip took part


def test_fgsm_is_the_first_step(linear_posterior, maps, truth):
    attacked = FGSM(linear_posterior, epsilon=2.0)(maps, truth)
    expected = bim_by_numpy(linear_posterior, maps, truth, 2.0, 1)
    np.testing.assert_allclose(attacked, expected, rtol=0, atol=1e-10)


def test_attacks_move_the_posterior_away_from_the_truth(linear_posterior, maps, truth):
    attacked = BIM(linear_posterior, alpha=0.4)(maps, truth)
    before = linear_posterior(maps).log_prob(truth)
    assert np.all(linear_posterior(attacked).log_prob(truth) < before)


def test_upper_clip_and_ball(linear_posterior, maps, truth):
    upper = float(maps.max()) + 0.5
    attacked = BIM(linear_posterior, alpha=0.4, epsilon=1.0, upper=upper)(maps, truth)
    assert np.max(attacked) <= upper
    assert np.max(np.abs(attacked - maps)) == pytest.approx(1.0)


def test_batches_do_not_matter(linear_posterior, maps, truth):
    whole = BIM(linear_posterior, alpha=0.4)(maps, truth)
    parts = BIM(linear_posterior, alpha=0.4, batch_size=4)(maps, truth)
    np.testing.assert_array_equal(whole, parts)


def test_kl_objective_leaves_the_clean_map_and_needs_no_truth(linear_posterior, maps):
    maps = maps + 100  # far from the clip
    attacked = BIM(linear_posterior, alpha=0.4, objective="kl")(maps)
    assert np.max(np.abs(attacked - maps)) == pytest.approx(4.0)
    reached = kl(linear_posterior(attacked), linear_posterior(maps)).numpy()
    noise = maps + 4.0 * np.sign(np.random.default_rng(0).normal(size=maps.shape))
    assert np.all(reached > 10 * kl(linear_posterior(noise), linear_posterior(maps)).numpy())


def test_kl_objective_is_perturbed_from_clean(breathing_posterior, maps, truth):
    perturbed, clean = breathing_posterior(maps * 1.2), breathing_posterior(maps)
    found = OBJECTIVES["kl"](perturbed, clean, truth)
    np.testing.assert_allclose(found, perturbed.kl_divergence(clean), rtol=1e-12)
    assert np.all(np.abs(clean.kl_divergence(perturbed) / found - 1) > 0.1)


def test_kl_objective_on_a_mixture(linear_posterior, maps):
    """No closed KL: the gradient goes through the samples."""

    class Mixture:
        names, standardiser = linear_posterior.names, linear_posterior.standardiser

        def __call__(self, x):
            x = tf.cast(x, tf.float32)
            one = linear_posterior(x)
            means = tf.stack([one.mean() - 0.01, one.mean() + 0.02], axis=1)
            scales = tf.stack([one.stddev(), 1.5 * one.stddev()], axis=1)
            return mixture(means, scales, tf.zeros((tf.shape(x)[0], 2)))

    posterior = Mixture()
    attacked = BIM(posterior, alpha=0.4, objective="kl")(maps.astype(np.float32))
    closed = BIM(linear_posterior, alpha=0.4, objective="kl")(maps.astype(np.float32))
    clean = posterior(maps)
    assert np.all(kl(posterior(attacked), clean) > 0.5 * kl(posterior(closed), clean))
