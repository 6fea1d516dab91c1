"""Auto-PGD against an independent transcription, optima in closed form, and plain PGD."""

from dataclasses import replace
from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.optimize import minimize

from spurious.data.maps import Standardiser
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.perturbations.auto_pgd import AutoPGD, checkpoints
from spurious.perturbations.gradient import PGD
from spurious.perturbations.objectives import Toward
from spurious.perturbations.spectral import BinPreserving, Bounded, PhaseOnly
from spurious.posteriors.trained import NetworkPosterior


def objective(posterior, maps, truth):
    return -posterior(np.asarray(maps, np.float64)).log_prob(truth).numpy()


def value_and_gradient(posterior, x, target):
    """J = log q(target | x) of one map."""
    residual = (posterior.means(x[None])[0] - target) / posterior.scale
    gradient = -np.einsum("p,pij->ij", residual / posterior.scale, posterior.weights)
    return -0.5 * np.sum(residual**2), gradient


def algorithm_1(posterior, clean, target, epsilon, steps, norm):
    """Croce & Hein's, line by line, for one map; also the numbers of halvings."""

    def project(x):
        change = x - clean
        if norm == "linf":
            return np.maximum(clean + np.clip(change, -epsilon, epsilon), 0)
        size = np.sqrt(np.mean(change**2))
        return np.maximum(clean + change * min(1, epsilon / size if size else 1), 0)

    def step(x, gradient, eta):
        if norm == "linf":
            return project(x + eta * np.sign(gradient))
        return project(x + eta * gradient / np.sqrt(np.mean(gradient**2)))

    shares = [Fraction(0), Fraction(22, 100)]
    while shares[-1] < 1:
        width = max(shares[-1] - shares[-2] - Fraction(3, 100), Fraction(6, 100))
        shares.append(shares[-1] + width)
    marks = [int(np.ceil(share * steps)) for share in shares]

    eta, x, x_old = 2 * epsilon, clean, clean
    now = value_and_gradient(posterior, x, target)
    best, x_best, halvings = now[0], x, 0
    eta_mark, best_mark, rises = eta, best, []
    for k in range(steps):
        z = step(x, now[1], eta)
        ahead = z if k == 0 else x + 0.75 * (z - x) + 0.25 * (x - x_old)
        x, x_old = project(ahead), x
        before, now = now, value_and_gradient(posterior, x, target)
        rises.append(now[0] > before[0])
        if now[0] > best:
            best, x_best = now[0], x
        if k + 1 in marks:
            first = sum(rises) < 0.75 * len(rises)
            second = eta == eta_mark and best == best_mark
            eta_mark, best_mark, rises = eta, best, []
            if first or second:
                eta, x, halvings = eta / 2, x_best, halvings + 1
                now = value_and_gradient(posterior, x, target)
    return x_best, halvings


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(6, 16).astype(np.float64)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(2).uniform([0.05, 0.5], [0.55, 1.0], size=(6, 2))


@pytest.fixture(scope="module")
def network(make_maps):
    """A small network that has learned the scatter and the skewness of maps, for some seconds."""
    maps = make_maps(256, 16, seed=5)
    power = np.random.default_rng(1).uniform(0.5, 1.5, (256, 1, 1))
    maps = (64 * (maps / 64) ** power).astype(np.float32)
    truth = np.stack([np.log(maps + 1).std((1, 2)), maps.std((1, 2)) / 64], 1)
    ranges = {"omega_m": (0.0, 1.5), "sigma_8": (0.0, 2.0)}
    head = HeadLayer(ranges, name=HEAD)
    model = Compact(width=0.25).model(16, head, Standardiser(64.0, 40.0), seed=3)
    posterior = NetworkPosterior(model)
    optimizer = keras.optimizers.Adam(3e-3)
    x, y = tf.constant(maps), tf.constant(truth, tf.float32)

    @tf.function
    def step(rows):
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(posterior(tf.gather(x, rows)).log_prob(tf.gather(y, rows)))
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    draw = np.random.default_rng(0)
    for _ in range(150):
        loss = step(tf.constant(draw.integers(0, 256, 32)))
    assert loss < -2
    return posterior, maps[:24], truth[:24].astype(np.float32)


def test_checkpoints_are_those_of_the_paper():
    """p = 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99."""
    assert np.flatnonzero(checkpoints(100)).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(100)[[22, 41, 57]].tolist() == [22, 19, 16]
    assert np.flatnonzero(checkpoints(1)).tolist() == [1]


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 2, 7, 30])
def test_algorithm_1_is_followed(linear_posterior, maps, norm, steps):
    """The targets lie amid the ball, so that steps overshoot and are halved."""
    shift = {"linf": 0.02, "l2": 0.002}[norm]
    target = tuple(linear_posterior.means(maps[:1])[0] + shift)
    attack = AutoPGD(
        linear_posterior, 3.0, steps=steps, norm=norm, objective=Toward(target), random_start=False
    )
    expected = [algorithm_1(linear_posterior, m, target, 3.0, steps, norm) for m in maps]
    np.testing.assert_allclose(attack(maps), [x for x, _ in expected], rtol=0, atol=1e-8)
    if steps == 30:
        assert len({halvings for _, halvings in expected}) > 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_optimum_is_reached(linear_posterior, maps, truth, norm):
    """J is convex, with p = 2: its greatest value over a ball is found by trying all directions."""
    maps = maps + 100  # far from the clip
    attacked = AutoPGD(linear_posterior, 3.0, norm=norm, steps=40, restarts=4)(maps, truth)
    weights = (linear_posterior.weights / linear_posterior.scale[:, None, None]).reshape(2, -1)
    angle = np.linspace(0, 2 * np.pi, 20_000)
    span = np.stack([np.cos(angle), np.sin(angle)], 1) @ weights
    length = np.sqrt(np.mean(span**2, 1, keepdims=True))
    reach = 3.0 * (np.sign(span) if norm == "linf" else span / length) @ weights.T
    if norm == "l2":  # the sphere's image is an ellipse: its points, not those of its normals
        basis = np.linalg.qr(weights.T)[0] * 16 * 3.0
        reach = np.stack([np.cos(angle), np.sin(angle)], 1) @ (weights @ basis).T
    residual = (linear_posterior.means(maps) - truth) / linear_posterior.scale
    gain = np.array(
        [0.5 * np.sum((r + reach) ** 2, 1).max() - 0.5 * np.sum(r**2) for r in residual]
    )
    best = objective(linear_posterior, maps, truth) + gain
    np.testing.assert_allclose(objective(linear_posterior, attacked, truth), best, rtol=1e-4)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("kind", ["nll", "kl"])
def test_it_beats_plain_pgd_on_a_network(network, norm, kind):
    posterior, maps, truth = network
    value = {}
    for attack in (AutoPGD, PGD):
        attacked = attack(posterior, 10.0, norm=norm, objective=kind, steps=20)(maps, truth)
        if kind == "nll":
            value[attack] = -posterior(attacked).log_prob(truth).numpy()
        else:
            value[attack] = posterior(attacked).kl_divergence(posterior(maps)).numpy()
    assert value[AutoPGD].mean() > value[PGD].mean()


def test_more_steps_help(network):
    """The best map is kept, and it is at least the clean one."""
    posterior, maps, truth = network
    clean = -posterior(maps).log_prob(truth).numpy()
    ends = []
    for steps in (3, 25):
        attack = AutoPGD(posterior, 2.0, steps=steps, random_start=False)
        ends.append(-posterior(attack(maps, truth)).log_prob(truth).numpy())
    assert np.all(ends[0] >= clean - 1e-4)
    assert clean.mean() < ends[0].mean() < ends[1].mean()


def test_constraints_hold(linear_posterior, maps, truth):
    attack = AutoPGD(linear_posterior, 3.0, norm="l2", constraints=(PhaseOnly(),), steps=10)
    attacked = attack(maps + 100, truth)
    amplitude = np.abs(np.fft.fft2(maps + 100))
    np.testing.assert_allclose(np.abs(np.fft.fft2(attacked)), amplitude, atol=1e-6)
    assert np.all(np.abs(attacked - maps - 100).max((1, 2)) > 1)


def test_without_a_ball(linear_posterior, maps, truth):
    attack = AutoPGD(
        linear_posterior, None, alpha=2.0, steps=5, random_start=False, constraints=(PhaseOnly(),)
    )
    gain = objective(linear_posterior, attack(maps, truth), truth)
    assert np.all(gain > objective(linear_posterior, maps, truth))


class Annuli:
    """The power spectrum of small maps by a plain discrete Fourier transform, with NumPy alone."""

    def __init__(self, n):
        k = np.fft.fftfreq(n, 1 / n)
        self.annulus = np.floor(np.hypot(k[:, None], k[None]) + 0.5).astype(int).ravel()
        self.count = np.bincount(self.annulus)
        plane = np.exp(-2j * np.pi * np.outer(k, np.arange(n)) / n)
        self.transform = np.kron(plane, plane)

    def modes(self, flat):
        return self.transform @ flat

    def power(self, flat):
        return np.bincount(self.annulus, np.abs(self.modes(flat)) ** 2)

    def slope(self, flat):
        """Derivative of each annulus' power in each pixel."""
        each = 2 * np.real(np.conj(self.modes(flat))[:, None] * self.transform)
        return np.stack([each[self.annulus == i].sum(0) for i in range(len(self.count))])


def one_number(linear_posterior, n):
    """The same posterior, but only its first mean follows the map: KL = (w . change / s)^2 / 2."""
    weights = linear_posterior.weights[:, :n, :n] * np.array([1.0, 0.0])[:, None, None]
    posterior = replace(linear_posterior, weights=weights)
    return posterior, (weights[0] / posterior.scale[0]).ravel()


@pytest.mark.slow
@pytest.mark.parametrize(
    "constraint", [PhaseOnly(), BinPreserving(), Bounded(0.5)], ids=["phases", "bins", "bounded"]
)
def test_within_a_spectrum_the_optimum_is_reached(linear_posterior, maps, constraint):
    """Without a ball, w . x is largest where every mode, or annulus, is aligned with that of w."""
    clean = maps + 3000  # densities stay far above zero
    posterior, w = one_number(linear_posterior, 16)
    attack = AutoPGD(posterior, None, alpha=100.0, steps=60, objective="kl", restarts=4,
                     constraints=(constraint,))  # fmt: skip
    attacked = attack(clean).numpy()
    annuli = Annuli(16)
    of_w = annuli.modes(w)
    for x, found in zip(clean.reshape(6, -1), attacked.reshape(6, -1), strict=True):
        of_x = annuli.modes(x)
        if isinstance(constraint, PhaseOnly):
            reach = np.abs(of_w * of_x)[1:].sum() / 256
        else:
            most = np.sqrt(annuli.power(x) * annuli.power(w))
            if isinstance(constraint, Bounded):
                most *= np.sqrt(1 + 0.5 * np.sqrt(2 / annuli.count))
            reach = most[1:].sum() / 256
        here = w @ (x - x.mean())
        best = 0.5 * max(reach - here, reach + here) ** 2
        kl = 0.5 * (w @ (found - x)) ** 2
        assert 0.98 * best < kl < 1.0001 * best


@pytest.mark.slow
def test_within_a_spectrum_and_a_ball_no_other_optimiser_finds_more(linear_posterior, make_maps):
    """SLSQP with the exact derivatives of all constraints, from two starts, both ways."""
    clean = make_maps(1, 6).astype(np.float64) + 100
    posterior, w = one_number(linear_posterior, 6)
    attack = AutoPGD(
        posterior, 3.0, steps=40, objective="kl", restarts=2, constraints=(BinPreserving(),)
    )
    x, found = clean.ravel(), attack(clean).numpy().ravel()
    annuli, draw = Annuli(6), np.random.default_rng(4)
    power = annuli.power(x)
    limits = {
        "type": "eq",
        "fun": lambda y: annuli.power(y) / power - 1,
        "jac": lambda y: annuli.slope(y) / power[:, None],
    }
    bounds, best = [(v - 3, v + 3) for v in x], 0.0
    for sign in (1, -1):
        for start in x + draw.uniform(-1, 1, (2, 36)):
            end = minimize(
                lambda y, s=sign: -s * w @ (y - x), start, jac=lambda y, s=sign: -s * w,
                bounds=bounds, constraints=[limits], method="SLSQP", options={"maxiter": 100},
            )  # fmt: skip
            if end.success:
                best = max(best, 0.5 * (w @ (end.x - x)) ** 2)
    assert best > 0
    assert np.abs(found - x).max() <= 3 + 1e-9
    assert np.all(np.abs(annuli.power(found) / power - 1) < 2e-3)
    assert 0.5 * (w @ (found - x)) ** 2 > 0.95 * best


class Unsettled(AutoPGD):
    """The best map as it was when its objective was evaluated."""

    def _settled(self, maps, clean):
        return maps


def test_a_record_is_not_owed_to_leaving_the_constraints(linear_posterior, make_maps):
    """Of the damage of the map that is kept, the last projections take nearly nothing."""
    clean = make_maps(6, 16).astype(np.float64) + 100
    posterior, w = one_number(linear_posterior, 16)
    damage = []
    for kind in (Unsettled, AutoPGD):
        attack = kind(posterior, 3.0, steps=10, objective="kl", constraints=(BinPreserving(),))
        change = (attack(clean).numpy() - clean).reshape(6, -1)
        damage.append(0.5 * (change @ w) ** 2)
    np.testing.assert_allclose(damage[1], damage[0], rtol=2e-3)
