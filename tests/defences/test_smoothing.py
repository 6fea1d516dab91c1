"""Posteriors averaged over noise, and what is certified of them."""

from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from around import Around
from scipy.stats import norm

from spurious import spectra
from spurious.audit.gradient_check import agreement
from spurious.defences import certificate
from spurious.defences.certificate import certify, ranks
from spurious.defences.smoothing import Noise, Phases, Smoothed
from spurious.densities.divergences import kl
from spurious.perturbations.gradient import PGD


@pytest.fixture(scope="module")
def maps(make_maps):
    """Above all noise that is drawn here, so that nothing is clipped."""
    return make_maps(5, 16) + 50


@dataclass(frozen=True)
class Bent(Around):
    """Another posterior, whose mean saturates: no longer linear in the map."""

    size: float = 0.02

    def __call__(self, maps):
        one = self.inner(tf.convert_to_tensor(maps))
        mean = self.size * tf.sin(one.mean() / self.size)
        return tfp.distributions.MultivariateNormalDiag(mean, one.stddev())


def test_it_is_the_mixture_of_the_posteriors_of_noisy_maps(linear_posterior, maps):
    smoothed = Smoothed(linear_posterior, Noise(3.0), draws=6, seed=1)
    normal = smoothed.normal(tf.constant(maps))
    assert normal.shape == (6, 16, 16)
    members = [linear_posterior(maps + 3 * one.numpy()) for one in normal]
    at = linear_posterior.means(maps).astype(np.float32) + 0.02
    expected = np.log(np.mean([np.exp(one.log_prob(at)) for one in members], axis=0))
    np.testing.assert_allclose(smoothed(maps).log_prob(at), expected, rtol=1e-4)
    np.testing.assert_allclose(
        smoothed(maps).mean(), np.mean([one.mean() for one in members], axis=0), rtol=1e-5
    )
    spread = np.var([one.mean() for one in members], axis=0) + linear_posterior.scale**2
    np.testing.assert_allclose(smoothed(maps).stddev(), np.sqrt(spread), rtol=1e-4)


def test_many_noisy_draws_have_the_variance_of_the_noise(linear_posterior, maps):
    smoothed = Smoothed(linear_posterior, Noise(3.0), draws=2000)
    expected = linear_posterior.scale**2 + 9 * np.sum(linear_posterior.weights**2, axis=(1, 2))
    np.testing.assert_allclose(smoothed(maps[:1]).variance()[0], expected, rtol=0.05)


def test_equal_maps_have_equal_posteriors_whatever_their_companions(linear_posterior, maps):
    smoothed, many = Smoothed(linear_posterior, Noise(3.0), draws=600), np.tile(maps, (2, 1, 1))
    alone = np.concatenate([smoothed(one[None]).mean() for one in many])  # a part at a time
    np.testing.assert_allclose(smoothed(many).mean(), alone, rtol=1e-5)
    np.testing.assert_allclose(smoothed(tf.constant(many)).mean(), alone, rtol=1e-5)
    other = Smoothed(linear_posterior, Noise(3.0), draws=600, seed=1)
    assert np.abs(other(maps).mean() - smoothed(maps).mean()).max() > 1e-5


def test_fresh_noise_differs_at_every_call_and_within_a_graph(linear_posterior, maps):
    fresh = Smoothed(linear_posterior, Noise(3.0), draws=2).fresh()
    graph = tf.function(lambda x: fresh(x).mean())
    x = tf.constant(maps)
    found = [fresh(x).mean().numpy(), fresh(x).mean().numpy(), graph(x).numpy(), graph(x).numpy()]
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            assert np.abs(one - other).max() > 1e-5
    again = Smoothed(linear_posterior, Noise(3.0), draws=2).fresh()
    np.testing.assert_array_equal(again(x).mean(), found[0])


def test_gradients_flow_through_noise_and_average(linear_posterior, maps):
    smoothed = Smoothed(Bent(linear_posterior), Noise(3.0), draws=5)
    truth = smoothed(maps).mean().numpy() + 0.02
    found = agreement(smoothed, maps, truth, [0.03, 0.1, 0.3])
    assert found.error.max() < 0.05
    assert found.zeros.max() < 0.01


def test_random_phases_keep_every_amplitude(make_maps):
    maps = tf.constant(make_maps(3, 16) + 100)
    turned = Phases(0.1)(maps, tf.random.stateless_normal((16, 16), (1, 2)))
    assert np.abs(turned - maps).max() > 1
    for n, field in ((16, maps), (15, maps[:, :15, :15])):
        out = Phases(0.1)(field, tf.random.stateless_normal((n, n), (1, 2)))
        assert out.numpy().min() > 0  # nothing is clipped
        before, after = (np.abs(np.fft.fft2(one)) for one in (field, out))
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=0.05)
        power = [spectra.power(one, 100.0, contrast=True).numpy() for one in (field, out)]
        np.testing.assert_allclose(*power, rtol=1e-3)


def test_phases_turn_by_angles_of_the_size_that_was_asked_for():
    maps = tf.random.stateless_uniform((1, 64, 64), (3, 4), 1000, 1100)
    turned = Phases(0.3)(maps, tf.random.stateless_normal((64, 64), (1, 2)))
    modes = [np.fft.rfft2(one[0])[1:31, 1:31] for one in (maps, turned)]
    angles = np.angle(modes[1] / modes[0])
    assert np.std(angles) == pytest.approx(0.3, rel=0.06)
    assert np.mean(angles) == pytest.approx(0, abs=0.03)


def test_noise_leaves_no_negative_density(make_maps):
    maps = make_maps(2, 16)
    noisy = Noise(100.0)(tf.constant(maps), tf.random.stateless_normal((16, 16), (0, 0)))
    assert noisy.numpy().min() == 0


@pytest.mark.parametrize("bad", [Noise, Phases])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_there_is_no_smoothing_without_a_size(bad, value):
    with pytest.raises(ValueError, match="must be between"):
        bad(value)


def test_it_needs_a_draw(linear_posterior):
    with pytest.raises(ValueError, match="draws = 0"):
        Smoothed(linear_posterior, Noise(1.0), draws=0)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_ranks_bound_the_quantiles_with_the_confidence_asked_for(ratio):
    n, confidence, trials = 200, 0.9, 4000
    low, high = ranks(n, ratio, confidence)
    drawn = np.sort(np.random.default_rng(0).normal(size=(trials, n)), axis=1)
    above = np.mean(drawn[:, high - 1] >= norm.ppf(norm.cdf(ratio)))
    below = np.mean(drawn[:, low - 1] <= -norm.ppf(norm.cdf(ratio)))
    for held in (above, below):
        assert held > confidence - 0.02
        assert held < confidence + 0.06  # and no farther out than needed
    assert ranks(10, 3.0, confidence) == (0, 11)


def test_the_bounds_are_those_of_a_linear_posterior(linear_posterior, maps):
    """Its mean over the noise is normal, so quantiles are known; the worst change is, too."""
    rms, budget = 2.0, 0.05
    found = certify(Smoothed(linear_posterior, Noise(rms)), maps, budget, draws=4000)
    mean = linear_posterior.means(maps)
    length = np.sqrt(np.sum(linear_posterior.weights**2, axis=(1, 2)))
    np.testing.assert_allclose(found.median, mean, atol=rms * length.max() * 0.1)
    farthest = budget * 16 * length  # along the weights
    assert np.all(found.high >= mean + farthest)
    assert np.all(found.low <= mean - farthest)
    np.testing.assert_allclose(
        found.high - mean, np.broadcast_to(farthest, mean.shape), atol=0.2 * rms * length.max()
    )
    assert np.all(found.shift > farthest / found.std)


class Median:
    """The median over the noise of the mean, as what an attack moves."""

    def __init__(self, smoothed, draws=401):
        self.inner, self.names, self.standardiser = smoothed, smoothed.names, smoothed.standardiser
        self.draws = draws

    def __call__(self, maps):
        maps = tf.convert_to_tensor(maps)
        many = Smoothed(self.inner.inner, self.inner.over, self.draws, self.inner.seed + 7)
        noisy = many.over(maps, many.normal(maps)[:, None])
        each = many.inner(tf.reshape(noisy, (-1, *maps.shape[1:]))).mean()
        median = tfp.stats.percentile(tf.reshape(each, (self.draws, -1, 2)), 50.0, axis=0)
        return tfp.distributions.MultivariateNormalDiag(median, 0.01 * tf.ones_like(median))


def outside(smoothed, maps, budget, found):
    """By how much the better of two attacks leaves the interval, in standard deviations."""
    median, most = Median(smoothed), []
    for objective in ("nll", "kl"):
        attack = PGD(median, budget, budget / 2, steps=15, norm="l2", objective=objective, seed=3)
        moved = median(np.asarray(attack(maps, found.median + 0.005))).mean().numpy()
        most.append(np.max(np.maximum(moved - found.high, found.low - moved) / found.std))
    return max(most)


def test_no_attack_within_the_budget_leaves_the_certified_interval(
    linear_posterior, maps, monkeypatch
):
    smoothed, budget = Smoothed(Bent(linear_posterior, 0.02), Noise(4.0)), 0.2
    found = certify(smoothed, maps, budget, draws=1000)
    assert np.isfinite(found.shift).all()
    assert outside(smoothed, maps, budget, found) <= 0
    # With the sign of the budget wrong, the same attack shows it.
    right = norm.cdf
    monkeypatch.setattr(certificate.norm, "cdf", lambda ratio: right(-ratio))
    assert outside(smoothed, maps, budget, certify(smoothed, maps, budget, draws=1000)) > 0


def test_an_attack_leaves_what_is_certified_for_a_smaller_budget(linear_posterior, maps):
    """So the interval is no wider than it must be, and the attack of the test above is good."""
    smoothed = Smoothed(linear_posterior, Noise(4.0))
    found = certify(smoothed, maps, 0.3 / 1.5, draws=4000)
    assert outside(smoothed, maps, 0.3, found) > 0


def test_too_few_draws_prove_nothing(linear_posterior, maps):
    found = certify(Smoothed(linear_posterior, Noise(0.1)), maps, 1.0, draws=50)
    assert np.isinf(found.low).all()
    assert np.isinf(found.high).all()
    assert np.isinf(found.shift).all()


def test_smoothing_over_phases_has_no_certificate(linear_posterior, maps):
    with pytest.raises(ValueError, match="only white Gaussian noise proves anything"):
        certify(Smoothed(linear_posterior, Phases(0.3)), maps, 0.1)


def test_a_pool_of_other_densities_is_averaged_too(linear_posterior, maps):
    class Students:
        names, standardiser = linear_posterior.names, linear_posterior.standardiser

        def __call__(self, maps):
            one = linear_posterior(maps)
            each = tfp.distributions.StudentT(20.0, one.mean(), one.stddev())
            return tfp.distributions.Independent(each, 1)

    smoothed = Smoothed(Students(), Noise(3.0), draws=4)
    expected = Smoothed(linear_posterior, Noise(3.0), draws=4)(maps).mean()
    np.testing.assert_allclose(smoothed(maps).mean(), expected, rtol=1e-5)


def test_smoothing_lowers_the_divergence_of_the_same_change(linear_posterior, maps):
    changed = maps + 1e4 * linear_posterior.weights[0].astype(np.float32)
    sharp = kl(linear_posterior(changed), linear_posterior(maps)).numpy()
    smoothed = Smoothed(linear_posterior, Noise(20.0), draws=64)
    blurred = kl(smoothed(changed), smoothed(maps)).numpy()
    assert np.all(blurred < 0.8 * sharp)
