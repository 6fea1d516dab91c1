"""Attacks against independent transcriptions and optima on a posterior known in closed form."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.densities.divergences import kl, mixture
from spurious.perturbations.gradient import BIM, FGSM, PGD
from spurious.perturbations.objectives import OBJECTIVES, Toward
from spurious.perturbations.steps import direction, draw_start, starts


def gradient_by_numpy(posterior, x, truth):
    """Of J = -log q(y | x): W^T (mean(x) - y) / scale^2."""
    residual = (posterior.means(x) - truth) / posterior.scale**2
    return np.einsum("bp,pij->bij", residual, posterior.weights)


def bim_by_numpy(posterior, maps, truth, alpha, steps):
    """Eq. 2."""
    x = np.asarray(maps, np.float64)
    for _ in range(steps):
        gradient = gradient_by_numpy(posterior, x, truth)
        x = np.maximum(x + alpha * np.sign(gradient), 0.0)
    return x


def kurakin_by_numpy(posterior, maps, truth, alpha, epsilon, upper, steps):
    """Kurakin et al., section 2.2: Clip{x} = min(upper, x0 + eps, max(0, x0 - eps, x))."""
    x = np.asarray(maps, np.float64)
    for _ in range(steps):
        x = x + alpha * np.sign(gradient_by_numpy(posterior, x, truth))
        x = np.minimum(
            upper, np.minimum(maps + epsilon, np.maximum(0, np.maximum(maps - epsilon, x)))
        )
    return x


def mi_fgsm_by_numpy(posterior, maps, truth, alpha, momentum, steps):
    """Dong et al., algorithm 1, with the density's range."""
    x, g = np.asarray(maps, np.float64), 0.0
    for _ in range(steps):
        gradient = gradient_by_numpy(posterior, x, truth)
        g = momentum * g + gradient / np.abs(gradient).sum((1, 2), keepdims=True)
        x = np.maximum(x + alpha * np.sign(g), 0.0)
    return x


def objective(posterior, maps, truth):
    return -posterior(np.asarray(maps, np.float64)).log_prob(truth).numpy()


def whitened(posterior):
    """Weights over scales, (p, N N): J = |residual + whitened . change|^2 / 2 plus a constant."""
    return (posterior.weights / posterior.scale[:, None, None]).reshape(len(posterior.scale), -1)


def best_in_linf(posterior, maps, truth, epsilon):
    """Largest J in a box: convex, so at a corner whose signs are those of u . weights for some u.

    With two parameters u is an angle, and the signs change only at N N angles: all are tried.
    """
    weights = whitened(posterior)
    turns = np.sort(np.arctan2(-weights[0], weights[1]) % np.pi)
    middles = (turns + np.diff(turns, append=turns[0] + np.pi) / 2)[:, None]
    signs = np.sign(np.cos(middles) * weights[0] + np.sin(middles) * weights[1])
    signs = np.concatenate([signs, -signs]).reshape(-1, *maps.shape[1:])
    values = [
        objective(posterior, m + epsilon * signs, t) for m, t in zip(maps, truth, strict=True)
    ]
    return np.max(values, axis=1)


def best_in_l2(posterior, maps, truth, epsilon):
    """Largest J in a ball of RMS epsilon: on its sphere, and in the span of the weights.

    With two parameters that is a circle, tried at 100 000 angles.
    """
    basis = np.linalg.qr(whitened(posterior).T)[0].T * np.sqrt(maps[0].size) * epsilon
    angle = np.linspace(0, 2 * np.pi, 100_000)
    plane = np.stack([np.cos(angle), np.sin(angle)], 1) @ (basis @ whitened(posterior).T)
    residual = (posterior.means(maps) - truth) / posterior.scale
    gain = [0.5 * np.sum((r + plane) ** 2, 1).max() - 0.5 * np.sum(r**2) for r in residual]
    return objective(posterior, maps, truth) + np.array(gain)


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


@pytest.mark.parametrize("steps", range(1, 8))
def test_bim_is_kurakins_step_by_step(linear_posterior, maps, truth, steps):
    upper = float(maps.max()) + 0.5
    attacked = BIM(linear_posterior, alpha=0.4, steps=steps, epsilon=1.5, upper=upper)(maps, truth)
    expected = kurakin_by_numpy(linear_posterior, maps, truth, 0.4, 1.5, upper, steps)
    np.testing.assert_allclose(attacked, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.5, 1.0])
def test_momentum_is_mi_fgsm(linear_posterior, maps, momentum):
    # A target amid the steps' reach, so that gradients turn and momentum matters.
    truth = linear_posterior.means(maps) - 0.01
    target = Toward(tuple(truth[0]))
    attack = PGD(
        linear_posterior, 10.0, alpha=0.9, steps=8, momentum=momentum, random_start=False,
        objective=target,
    )  # fmt: skip
    mirrored = np.broadcast_to(truth[0], truth.shape)
    expected = mi_fgsm_by_numpy(linear_posterior, maps, mirrored, -0.9, momentum, 8)
    np.testing.assert_allclose(attack(maps), expected, rtol=0, atol=1e-10)
    plain = mi_fgsm_by_numpy(linear_posterior, maps, mirrored, -0.9, 0.0, 8)
    assert np.any(np.abs(plain - expected) > 0.5)


@pytest.mark.parametrize("decay", ["constant", "linear"])
def test_steps_fall_as_said(linear_posterior, maps, truth, decay):
    """Signs do not turn here, so the reach is the sum of the steps."""
    maps = maps + 100
    attack = PGD(
        linear_posterior, 50.0, alpha=1.0, steps=4, decay=decay, random_start=False
    )  # fmt: skip
    change = np.abs(attack(maps, truth - 5) - maps)
    reach = {"constant": 4.0, "linear": 1 + 0.75 + 0.5 + 0.25}[decay]
    np.testing.assert_allclose(change, reach)


def test_pgd_reaches_the_optimum_in_linf(linear_posterior, maps, truth):
    maps = maps + 100  # far from the clip
    attacked = PGD(linear_posterior, 3.0, restarts=4, decay="linear")(maps, truth)
    best = best_in_linf(linear_posterior, maps, truth, 3.0)
    np.testing.assert_allclose(objective(linear_posterior, attacked, truth), best, rtol=1e-4)
    assert np.abs(attacked - maps).max() <= 3.0 + 1e-12


def test_pgd_reaches_the_optimum_in_l2(linear_posterior, maps, truth):
    maps = maps + 100
    attack = PGD(linear_posterior, 3.0, alpha=3.0, norm="l2", restarts=4, decay="linear")
    attacked = attack(maps, truth)
    best = best_in_l2(linear_posterior, maps, truth, 3.0)
    np.testing.assert_allclose(objective(linear_posterior, attacked, truth), best, rtol=1e-5)
    size = np.sqrt(np.mean((attacked - maps) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(size, 3.0)


def test_restarts_keep_the_best_of_each_map(linear_posterior, maps, truth):
    """Truths amid the reach: J grows both ways from there, and the start decides which."""
    truth = linear_posterior.means(maps) + np.linspace(-0.15, 0.15, 6)[:, None]
    draws = 6
    many = PGD(linear_posterior, 3.0, restarts=draws, seed=5)(maps, truth)
    ends = []
    for draw in range(draws):
        one = PGD(linear_posterior, 3.0, seed=5)
        clean, y = tf.constant(maps), tf.constant(truth)
        ends.append(one._climb(clean, y, linear_posterior(clean), starts(5, draws)[draw]))
    values = np.array([objective(linear_posterior, end, truth) for end in ends])
    found = objective(linear_posterior, many, truth)
    np.testing.assert_allclose(found, values.max(0), rtol=1e-12)
    assert len(set(values.argmax(0))) > 1
    assert np.any(values.max(0) > values[0])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball_and_differ(maps, norm):
    clean = tf.constant(maps + 100)
    drawn = [
        draw_start(clean, tf.constant(2.0, clean.dtype), norm, s) - clean for s in starts(3, 5)
    ]
    drawn = np.array(drawn)
    np.testing.assert_allclose(drawn, drawn[:, :1] + np.zeros_like(drawn), atol=1e-10)
    if norm == "linf":
        assert 1.9 < np.abs(drawn).max() <= 2
        assert abs(drawn[:, 0].mean()) < 5 * 2 / np.sqrt(3 * drawn[:, 0].size)
    else:
        size = np.sqrt(np.mean(drawn**2, axis=(2, 3)))
        assert np.all((size > 1.9) & (size <= 2))
    overlap = np.corrcoef(drawn[:, 0].reshape(5, -1))[~np.eye(5, dtype=bool)]
    assert np.abs(overlap).max() < 5 / 16


def test_other_seeds_give_other_attacks_and_the_same_seed_the_same(linear_posterior, maps, truth):
    def attacked(seed):
        return PGD(linear_posterior, 3.0, steps=1, alpha=0.5, seed=seed)(maps, truth)

    np.testing.assert_array_equal(attacked(1), attacked(1))
    assert np.any(attacked(1) != attacked(2))


def test_l2_steps_of_tiny_gradients_do_not_underflow():
    gradient = tf.constant(np.random.default_rng(0).normal(size=(2, 8, 8)) * 1e-30, tf.float32)
    size = np.sqrt(np.mean(direction(gradient, "l2") ** 2, axis=(1, 2)))
    np.testing.assert_allclose(size, 1.0, rtol=1e-5)
    assert np.all(direction(0 * gradient, "l2") == 0)


def test_densities_above_upper_are_refused(linear_posterior, maps, truth):
    with pytest.raises(ValueError, match=r"upper = 10\.0 must be at least the largest"):
        BIM(linear_posterior, alpha=0.4, upper=10.0)(maps, truth)


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
