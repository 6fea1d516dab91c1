"""Spectral constraints: what they keep, that they are nearest, and optima in closed form."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import brentq

from spurious import spectra
from spurious.perturbations.auto_pgd import AutoPGD
from spurious.perturbations.gradient import BIM, PGD
from spurious.perturbations.spectral import BandLimited, BinPreserving, Bounded, PhaseOnly, _n_modes

BOX = 64.0
LOW, HIGH = 0.25, 0.55  # h/Mpc: annuli 3 to 5 of a box with k_F = 0.098 h/Mpc


def annuli(n):
    """Annulus of every mode of the full plane, by definition; corners go on counting."""
    k = np.fft.fftfreq(n, 1 / n)
    return np.floor(np.hypot(k[:, None], k[None]) + 0.5).astype(int)


def annulus_power(maps):
    """Summed |FFT|^2 of each annulus."""
    squared = np.abs(np.fft.fft2(np.asarray(maps, np.float64))) ** 2
    index = annuli(squared.shape[-1]).ravel()
    return np.stack([np.bincount(index, one.ravel()) for one in squared])


def amplitudes(maps):
    return np.abs(np.fft.fft2(np.asarray(maps, np.float64)))


def allowed(constraint, clean, changed):
    """Violation of a constraint, relative to what it compares."""
    if isinstance(constraint, PhaseOnly):
        return np.abs(amplitudes(changed) / amplitudes(clean) - 1)
    if isinstance(constraint, BandLimited):
        n = clean.shape[-1]
        k = np.fft.fftfreq(n, 1 / n) * 2 * np.pi / BOX
        radius = np.hypot(k[:, None], k[None])
        shut = (radius < LOW) | (radius > HIGH)
        return np.abs(np.fft.fft2(changed - clean))[:, shut] / amplitudes(clean).mean()
    change = np.abs(annulus_power(changed) / annulus_power(clean) - 1)
    fraction = getattr(constraint, "fraction", 0.0)
    n_modes = np.bincount(annuli(clean.shape[-1]).ravel())
    slack = fraction * np.sqrt(2 / n_modes)
    slack[0] = 0  # the mean
    return np.maximum(change - slack, 0)


CONSTRAINTS = {
    "phase_only": PhaseOnly(),
    "bin_preserving": BinPreserving(),
    "bounded": Bounded(0.3),
    "bounded_above_one": Bounded(3.0),
    "band_limited": BandLimited((LOW, HIGH), BOX),
}


@pytest.fixture(params=CONSTRAINTS)
def constraint(request):
    return CONSTRAINTS[request.param]


@pytest.fixture(params=[16, 15], ids=["even", "odd"])
def clean(request, make_maps):
    return make_maps(4, request.param).astype(np.float64)


@pytest.fixture
def perturbed(clean):
    return clean + np.random.default_rng(0).normal(size=clean.shape) * 20 + 3


def test_kept_exactly(constraint, clean, perturbed):
    projected = constraint(perturbed, clean).numpy()
    assert np.max(allowed(constraint, clean, projected)) < 1e-10
    assert np.max(allowed(constraint, clean, perturbed)) > 1e-2
    assert np.all(np.abs(projected - clean).max((1, 2)) > 1)  # something is left to attack with
    np.testing.assert_allclose(projected.mean((1, 2)), clean.mean((1, 2)), rtol=1e-12)


def test_the_spectrum_that_spectra_measures_is_kept(clean, perturbed):
    for one, slack in ((PhaseOnly(), 0.0), (BinPreserving(), 0.0), (Bounded(0.3), 0.3)):
        projected = one(perturbed, clean)
        cosmic = spectra.cosmic_variance(spectra.bins(clean.shape[-1], BOX).n_modes)
        for contrast in (False, True):
            before, after = (spectra.power(x, BOX, contrast=contrast) for x in (clean, projected))
            assert np.all(np.abs(after / before - 1) <= slack * cosmic + 1e-10)


def test_what_satisfies_it_stays_bit_by_bit(constraint, clean):
    for dtype in (np.float32, np.float64):
        maps = clean.astype(dtype)
        np.testing.assert_array_equal(constraint(maps, maps), maps)


def test_projecting_twice_is_projecting_once(constraint, clean, perturbed):
    once = constraint(perturbed, clean)
    np.testing.assert_allclose(constraint(once, clean), once, atol=1e-10)


def test_no_allowed_neighbour_is_nearer(constraint, clean, perturbed):
    """A projection is the nearest point: allowed maps around it are all farther away."""
    projected = constraint(perturbed, clean).numpy()
    distance = np.sum((projected - perturbed) ** 2, (1, 2))
    rng = np.random.default_rng(5)
    for size in (0.1, 1.0, 10.0):
        other = constraint(projected + size * rng.normal(size=clean.shape), clean).numpy()
        assert np.all(np.sum((other - perturbed) ** 2, (1, 2)) >= distance)


def test_emptied_modes_come_back(clean):
    flat = np.broadcast_to(clean.mean((1, 2), keepdims=True), clean.shape).copy()
    for one in (PhaseOnly(), BinPreserving()):
        projected = one(flat, clean).numpy()
        assert np.all(np.isfinite(projected))
        np.testing.assert_allclose(annulus_power(projected), annulus_power(clean), rtol=1e-9)


@pytest.mark.parametrize("n", range(3, 70))
def test_no_annulus_is_empty(n):
    assert np.all(_n_modes(n) > 0)
    assert _n_modes(n).sum() == n * n


# Optima for a posterior of one parameter: x -> w . x, so J grows with w . x on the near side.


@pytest.fixture(scope="module")
def one_weight(linear_posterior):
    """The linear posterior without sensitivity of the second parameter."""
    weights = linear_posterior.weights.copy()
    weights[1] = 0
    return type(linear_posterior)(weights, linear_posterior.offset, linear_posterior.scale)


@pytest.fixture(scope="module")
def far_maps(make_maps):
    return make_maps(4, 16).astype(np.float64) + 2000  # densities stay above zero


def below(posterior, maps):
    """A truth below every mean, so that the attack's way is up."""
    return posterior.means(maps) - 5.0


def test_phase_only_optimum_has_the_phases_of_the_gradient(one_weight, far_maps):
    """w . x = sum conj(W_k) X_k / N^2 is largest, at fixed |X_k|, for X_k along W_k."""
    attack = PGD(
        one_weight, None, alpha=1e4, steps=3, norm="l2", random_start=False,
        constraints=(PhaseOnly(),),
    )  # fmt: skip
    attacked = attack(far_maps, below(one_weight, far_maps))
    modes, gradient = np.fft.fft2(far_maps), np.fft.fft2(one_weight.weights[0])
    aligned = np.abs(modes) * gradient / np.abs(gradient)
    aligned[:, 0, 0] = modes[:, 0, 0]
    best = np.fft.ifft2(aligned).real
    assert best.min() > 0
    np.testing.assert_allclose(attacked, best, atol=0.05)
    reached = one_weight.means(attacked) - one_weight.means(far_maps)
    possible = one_weight.means(best) - one_weight.means(far_maps)
    np.testing.assert_allclose(reached[:, 0], possible[:, 0], rtol=1e-6)
    assert np.max(allowed(PhaseOnly(), far_maps, attacked.numpy())) < 1e-9


def turned(modes, gradient, weight):
    """Modes of the same amplitudes along gradient + weight x themselves; the mean stays."""
    along = gradient + weight * modes
    along = np.abs(modes) * along / np.abs(along)
    along[:, 0, 0] = modes[:, 0, 0]
    return along


@pytest.mark.parametrize("epsilon", [2.0, 20.0])
@pytest.mark.parametrize(
    "make",
    [
        lambda p, size, **kept: PGD(p, size, size, 100, decay="linear", **kept),
        lambda p, size, **kept: AutoPGD(p, size, steps=60, **kept),
    ],
    ids=["pgd", "auto_pgd"],
)
def test_phase_only_optimum_within_an_l2_ball(one_weight, far_maps, make, epsilon):
    """w . x at fixed |X_k| and |x - x0| is largest for X_k along W_k + lambda X0_k.

    Lagrange: the ball fixes Re sum conj(X0_k) X_k, so the sum of both is what phases align with;
    lambda follows from the radius, map by map.
    """
    kept = {"norm": "l2", "random_start": False, "constraints": (PhaseOnly(),)}
    attack = make(one_weight, epsilon, **kept)
    attacked = attack(far_maps, below(one_weight, far_maps)).numpy()
    gradient = np.fft.fft2(one_weight.weights[0])
    for clean, found in zip(far_maps, attacked, strict=True):
        modes = np.fft.fft2(clean[None])

        def best(log_weight, modes=modes):
            return np.fft.ifft2(turned(modes, gradient, np.exp(log_weight))).real[0]

        def excess(log_weight, best=best, clean=clean):
            return np.sqrt(np.mean((best(log_weight) - clean) ** 2)) - epsilon

        optimum = best(brentq(excess, -25, 5, xtol=1e-10))
        reached, possible = (np.sum(one_weight.weights[0] * (x - clean)) for x in (found, optimum))
        assert 0.99 * possible < reached < possible * (1 + 1e-6)
        assert np.sqrt(np.mean((found - clean) ** 2)) <= epsilon * (1 + 1e-9)
        assert np.max(allowed(PhaseOnly(), clean[None], found[None])) < 1e-3


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_bin_optimum_gives_each_bin_the_pattern_of_the_gradient(one_weight, far_maps, fraction):
    """At fixed power sum |X_k|^2 of a bin, w . x is largest for X_k proportional to W_k."""
    attack = PGD(
        one_weight, None, alpha=1e4, steps=3, norm="l2", random_start=False,
        constraints=(Bounded(fraction),),
    )  # fmt: skip
    attacked = attack(far_maps, below(one_weight, far_maps))
    index = annuli(16)
    highest = 1 + fraction * np.sqrt(2 / np.bincount(index.ravel()))
    gradient = np.fft.fft2(one_weight.weights[0])
    per_bin = annulus_power(one_weight.weights[:1])[0]
    best = np.sqrt(annulus_power(far_maps) * highest / per_bin)[:, index] * gradient
    best[:, 0, 0] = np.fft.fft2(far_maps)[:, 0, 0]
    np.testing.assert_allclose(attacked, np.fft.ifft2(best).real, atol=0.1)


def test_band_limited_optimum_in_l2_is_the_gradient_in_the_band(one_weight, far_maps):
    attack = PGD(
        one_weight, 2.0, norm="l2", random_start=False, constraints=(BandLimited((LOW, HIGH), BOX),)
    )
    change = attack(far_maps, below(one_weight, far_maps)) - far_maps
    k = np.fft.fftfreq(16, 1 / 16) * 2 * np.pi / BOX
    radius = np.hypot(k[:, None], k[None])
    modes = np.fft.fft2(one_weight.weights[0]) * ((radius >= LOW) & (radius <= HIGH))
    best = np.fft.ifft2(modes).real
    best *= 2.0 / np.sqrt(np.mean(best**2))
    np.testing.assert_allclose(change, np.broadcast_to(best, change.shape), atol=1e-6)


def test_conflict_with_ball_and_range_is_settled_for_these(linear_posterior, make_maps, constraint):
    """Ball and density hold exactly, with empty pixels about; the constraint nearly."""
    maps = make_maps(4, 16).astype(np.float64)
    truth = np.tile([0.3, 0.8], (4, 1))
    attack = BIM(linear_posterior, 0.3, steps=10, constraints=(constraint,))
    attacked = attack(maps, truth).numpy()
    assert attacked.min() >= 0
    assert np.abs(attacked - maps).max() <= 3.0 + 1e-12
    free = BIM(linear_posterior, 0.3, steps=10)(maps, truth).numpy()
    left, without = (np.mean(allowed(constraint, maps, x)) for x in (attacked, free))
    assert left < 0.05 * without
    assert np.all(np.abs(attacked - maps).max((1, 2)) > 1.0)


def test_constraints_can_be_combined(linear_posterior, far_maps):
    both = (PhaseOnly(), BandLimited((LOW, HIGH), BOX))
    attack = BIM(linear_posterior, 1.0, constraints=both, epsilon=50.0)
    attacked = attack(far_maps, np.tile([0.3, 0.8], (4, 1))).numpy()
    for one in both:
        assert np.max(allowed(one, far_maps, attacked)) < 1e-6
    assert np.abs(attacked - far_maps).max() > 0.5


@pytest.mark.parametrize(
    ("make_wrong", "message"),
    [
        (lambda: Bounded(-0.1), "fraction"),
        (lambda: Bounded(float("nan")), "fraction"),
        (lambda: BandLimited((0.5, 0.5), BOX), "low"),
        (lambda: BandLimited((-0.1, 0.5), BOX), "low"),
    ],
)
def test_impossible_constraints_are_refused(make_wrong, message):
    with pytest.raises(ValueError, match=message):
        make_wrong()


def test_inside_a_graph_with_unknown_batch(constraint, clean, perturbed):
    signature = [tf.TensorSpec((None, *clean.shape[1:]), tf.float64)] * 2
    graph = tf.function(constraint.__call__, input_signature=signature)
    np.testing.assert_allclose(graph(perturbed, clean), constraint(perturbed, clean), atol=1e-10)
