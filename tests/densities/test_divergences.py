"""KL divergences, joining and pooling, for every kind of density."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, special, stats

from spurious.densities.divergences import (
    Flow,
    Pooled,
    _strata,
    concatenate,
    kl,
    kl_and_error,
    mixture,
    parameters,
    pooled,
)
from spurious.densities.grid import Gridded
from spurious.networks.flow import FlowHead
from spurious.networks.head_layer import HeadLayer

tfd = tfp.distributions


def tensors(batch, m, p=2, seed=0, covariance="diagonal"):
    """Random means, scales and logits of overlapping components."""
    draw = np.random.default_rng(seed)
    means = 0.5 + 0.1 * draw.standard_normal((batch, m, p))
    scales = draw.uniform(0.05, 0.15, (batch, m, p))
    if covariance == "full":
        below = np.tril(draw.uniform(-0.1, 0.1, (batch, m, p, p)), -1)
        scales = below + scales[..., None] * np.eye(p)
    return [tf.constant(a, tf.float32) for a in (means, scales, draw.standard_normal((batch, m)))]


def make(kind, batch=1, seed=0):
    """A density of each kind over two parameters near 0.5; every row the same."""
    draw = np.random.default_rng(seed)
    if kind == "flow":
        head = HeadLayer({"a": (0.3, 0.7), "b": (0.3, 0.7)}, FlowHead())
        features = draw.normal(0, 0.25, (1, head.n_features))
        parts = head(tf.constant(features, tf.float32))
        return Flow(*(tf.repeat(part, batch, axis=0) for part in parts))
    if kind == "pooled":
        return pooled([make("flow", batch, seed), make("full 2", batch, seed + 1)])
    covariance, m = kind.split()
    parts = tensors(1, int(m), seed=seed, covariance=covariance)
    return mixture(*(tf.repeat(part, batch, axis=0) for part in parts))


def on_grid(*distributions, low=-0.7, high=1.7, n=401):
    """Logarithm of each density on a grid, and the grid's volume element."""
    axis = np.linspace(low, high, n)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    logs = [d.log_prob(x.astype(np.float32)).numpy().astype(float)[:, 0] for d in distributions]
    return *logs, (axis[1] - axis[0]) ** 2, x[:, 0]


def exact_kl(p, q):
    f, g, volume, _ = on_grid(p, q)
    return np.sum(np.exp(f) * (f - g)) * volume


@pytest.mark.parametrize("covariances", [("diagonal", "full"), ("full", "diagonal"), ("full",) * 2])
def test_kl_of_gaussians_is_the_closed_form_the_right_way_round(covariances):
    """KL = (tr(C_q^-1 C_p) + d^T C_q^-1 d - p + ln det C_q / det C_p) / 2."""
    p, q = (mixture(*tensors(5, 1, p=3, seed=i, covariance=c)) for i, c in enumerate(covariances))
    value, error = kl_and_error(p, q)
    for row in range(5):
        cp, cq = (d.covariance()[row].numpy().astype(float) for d in (p, q))
        shift = q.mean()[row].numpy().astype(float) - p.mean()[row].numpy()
        inverse = np.linalg.inv(cq)
        log_det = np.linalg.slogdet(cq)[1] - np.linalg.slogdet(cp)[1]
        expected = (np.trace(inverse @ cp) + shift @ inverse @ shift - 3 + log_det) / 2
        assert float(value[row]) == pytest.approx(expected, rel=1e-3)
    np.testing.assert_array_equal(error, np.zeros(5))


def test_kl_of_diagonal_gaussians_is_the_closed_form():
    """KL(p||q) = sum log(s_q/s_p) + (s_p^2 + (m_p - m_q)^2) / (2 s_q^2) - 1/2."""
    (mp, sp, lp), (mq, sq, lq) = tensors(5, 1, seed=0), tensors(5, 1, seed=1)
    forward = tf.math.log(sq / sp) + (sp**2 + (mp - mq) ** 2) / (2 * sq**2) - 0.5
    value, error = kl_and_error(mixture(mp, sp, lp), mixture(mq, sq, lq))
    np.testing.assert_allclose(value, tf.reduce_sum(forward, [1, 2]), rtol=1e-4)
    np.testing.assert_array_equal(error, np.zeros(5))


def test_kl_direction_by_hand():
    """A narrow p inside a wide q is cheap, the other way round dear: log 2 - 3/8, 3/2 - log 2."""
    narrow = tfd.MultivariateNormalDiag([[0.0]], [[1.0]])
    wide = tfd.MultivariateNormalDiag([[0.0]], [[2.0]])
    np.testing.assert_allclose(kl(narrow, wide), [np.log(2) - 3 / 8], rtol=1e-5)
    np.testing.assert_allclose(kl(wide, narrow), [3 / 2 - np.log(2)], rtol=1e-5)


PAIRS = [
    ("diagonal 3", "diagonal 2"),
    ("full 3", "full 3"),
    ("full 1", "full 2"),
    ("diagonal 3", "full 1"),
    ("flow", "diagonal 3"),
    ("flow", "flow"),
    ("full 2", "pooled"),
    ("pooled", "flow"),
]


@pytest.mark.parametrize("kinds", PAIRS)
def test_kl_is_the_integral_both_ways_round(kinds):
    p, q = make(kinds[0], seed=2), make(kinds[1], seed=5)
    both = exact_kl(p, q), exact_kl(q, p)
    for one, two, exact, reverse in ((p, q, *both), (q, p, *both[::-1])):
        value, error = kl_and_error(one, two, n_samples=40_000, seed=(1, 2))
        assert value.dtype == error.dtype == tf.float32
        assert abs(value[0] - exact) < 4 * error[0] + 1e-4
        assert abs(value[0] - reverse) > 4 * error[0]
        assert 0 < error[0] < 0.05 * exact


@pytest.mark.parametrize("kinds", PAIRS)
def test_standard_error_of_kl_is_the_scatter_of_its_estimates(kinds):
    """Over 50 seeds, four rows each: 200 estimates."""
    p, q = make(kinds[0], batch=4, seed=2), make(kinds[1], batch=4, seed=5)
    estimate = tf.function(lambda seed: kl_and_error(p, q, n_samples=256, seed=seed))
    values, errors = zip(*(estimate(tf.constant([7, i])) for i in range(50)), strict=True)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_kl_draws_no_more_than_it_was_allowed_and_mirrored():
    p = make("diagonal 3", batch=2)
    means = parameters(p)[0]
    strata = _strata(p, 60, (0, 1))
    assert [draws.shape for _, draws in strata] == [(20, 2, 2)] * 3
    for i, (_, draws) in enumerate(strata):
        middle = (draws[:10] + draws[10:]) / 2
        np.testing.assert_allclose(middle, np.broadcast_to(means[:, i], (10, 2, 2)), rtol=1e-5)
    np.testing.assert_allclose(sum(weight for weight, _ in strata), np.ones(2), rtol=1e-6)


@pytest.mark.parametrize("kind", ["diagonal 2", "full 2", "flow", "pooled"])
def test_kl_repeats_for_a_seed_and_is_zero_for_equals(kind):
    p, q = make(kind, batch=3, seed=2), make(kind, batch=3, seed=5)
    np.testing.assert_array_equal(kl(p, q), kl(p, q))
    assert np.all(kl(p, q, seed=(0, 1)).numpy() != kl(p, q).numpy())
    np.testing.assert_allclose(kl(p, make(kind, batch=3, seed=2)), np.zeros(3), atol=1e-6)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("side", [0, 1])
def test_gradient_of_kl_of_mixtures_is_right_in_means_scales_and_logits(covariance, side):
    """Against central differences of the integral on a grid, to p (side 0) and to q (side 1)."""
    pair = [tensors(1, 2, seed=seed, covariance=covariance) for seed in (2, 5)]
    with tf.GradientTape() as tape:
        tape.watch(pair)
        value = kl(mixture(*pair[0]), mixture(*pair[1]), n_samples=200_000)
    found = [gradient.numpy() for gradient in tape.gradient(value, pair[side])]
    axis = np.linspace(-0.6, 1.6, 301)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)

    def density(means, scales, logits):
        trils = scales[0] if covariance == "full" else np.array([np.diag(s) for s in scales[0]])
        return sum(
            weight * stats.multivariate_normal(mean, tril @ tril.T).pdf(x)
            for weight, mean, tril in zip(special.softmax(logits[0]), means[0], trils, strict=True)
        )

    fixed = density(*(t.numpy().astype(float) for t in pair[1 - side]))

    def exact(parts):
        f, g = (density(*parts), fixed) if side == 0 else (fixed, density(*parts))
        return integrate.trapezoid(integrate.trapezoid(f * np.log(f / g), axis), axis)

    start = [t.numpy().astype(float) for t in pair[side]]
    expected = [np.zeros_like(part) for part in start]
    for i, part in enumerate(start):
        for index in np.ndindex(part.shape):
            ends = []
            for step in (1e-4, -1e-4):
                moved = [a.copy() for a in start]
                moved[i][index] += step
                ends.append(exact(moved))
            expected[i][index] = (ends[0] - ends[1]) / 2e-4
    if covariance == "full":
        expected[1] = np.tril(expected[1])
    for one, two in zip(found, expected, strict=True):
        assert np.any(one != 0)
        np.testing.assert_allclose(one, two, atol=0.03 * np.max(np.abs(two)) + 2e-3)


@pytest.mark.parametrize("kind", ["flow", "pooled"])
def test_gradient_of_kl_of_flows_is_right(kind):
    """To one feature of each kind, against central differences of the integral on a grid."""
    head = HeadLayer({"a": (0.3, 0.7), "b": (0.3, 0.7)}, FlowHead())
    start = np.random.default_rng(2).normal(0, 0.25, (1, head.n_features)).astype(np.float32)
    q, other = make("full 1", seed=9), make("full 2", seed=5)

    def density(features):
        flow = head.distribution(*head(features))
        return flow if kind == "flow" else pooled([flow, other])

    features = tf.constant(start)
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = kl(density(features), q, n_samples=50_000)
    found = tape.gradient(value, features).numpy()[0]
    for index in (3, 12, 20, head.n_features - 5, head.n_features - 1):
        step = np.zeros_like(start)
        step[0, index] = 0.02
        expected = (exact_kl(density(start + step), q) - exact_kl(density(start - step), q)) / 0.04
        assert found[index] == pytest.approx(expected, rel=0.04, abs=0.02), index


def test_gradient_of_kl_of_samples_without_gradients_is_right():
    """A tabulated p has no gradients through its draws: its density must carry them."""
    log_weights = np.random.default_rng(0).normal(size=(1, 6)).astype(np.float32)
    q = tfd.MultivariateNormalDiag([[0.4]], [[0.3]])
    table = tf.constant(log_weights)
    with tf.GradientTape() as tape:
        tape.watch(table)
        value = kl(Gridded(table, [(0.0, 1.0)]), q, n_samples=200_000, seed=(3, 1))
    x = (np.arange(6000) + 0.5) / 6000

    def exact(logs):
        f = np.repeat(special.softmax(logs) * 6, 1000)
        return np.mean(f * (np.log(f) - stats.norm.logpdf(x, 0.4, 0.3)))

    assert float(value[0]) == pytest.approx(exact(log_weights[0].astype(float)), abs=0.01)
    eye = 1e-4 * np.eye(6)
    expected = [(exact(log_weights[0] + e) - exact(log_weights[0] - e)) / 2e-4 for e in eye]
    np.testing.assert_allclose(tape.gradient(value, table)[0], expected, atol=0.01)


@pytest.mark.parametrize("kind", ["diagonal 1", "diagonal 3", "full 1", "full 3", "flow", "pooled"])
def test_concatenated_distributions_keep_their_kind_and_order(kind):
    parts = [make(kind, batch=2, seed=1), make(kind, batch=3, seed=4)]
    joined = concatenate(parts)
    assert type(joined) is type(parts[0]) and joined.batch_shape == (5,)
    x = np.random.default_rng(0).uniform(0.3, 0.7, (4, 5, 2)).astype(np.float32)
    expected = np.concatenate([parts[0].log_prob(x[:, :2]), parts[1].log_prob(x[:, 2:])], axis=1)
    np.testing.assert_allclose(joined.log_prob(x), expected, rtol=1e-5, atol=1e-5)
    assert concatenate(parts[:1]) is parts[0]


def test_distributions_of_unequal_kinds_can_be_concatenated():
    parts = [make("diagonal 1", batch=2), make("full 2", batch=3)]
    joined = concatenate(parts)
    assert joined.batch_shape == (5,)
    means = np.concatenate([d.mean() for d in parts])
    np.testing.assert_allclose(joined.mean(), means, rtol=1e-6)
    other = tfd.MultivariateStudentTLinearOperator(
        3.0, tf.zeros((2, 2)), tf.linalg.LinearOperatorIdentity(2)
    )
    assert concatenate([other, other]).batch_shape == (4,)


@pytest.mark.parametrize("kinds", [("diagonal 3", "diagonal 2"), ("full 1", "full 1")])
def test_pool_of_mixtures_is_one_mixture(kinds):
    members = [make(kind, batch=2, seed=i) for i, kind in enumerate(kinds)]
    # A constant added to one member's logits must not give it more weight.
    means, scales, logits = parameters(members[0])
    members[0] = mixture(means, scales, logits + 3)
    found = pooled(members)
    assert not isinstance(found, Pooled)
    check_pool(found, members)


@pytest.mark.parametrize("kinds", [("diagonal 2", "full 2", "flow"), ("flow", "flow")])
def test_pool_of_other_kinds_is_their_equal_mixture(kinds):
    members = [make(kind, batch=2, seed=i) for i, kind in enumerate(kinds)]
    found = pooled(members)
    assert isinstance(found, Pooled)
    assert (found.batch_shape, found.event_shape) == ((2,), (2,))
    check_pool(found, members)


def check_pool(found, members):
    x = np.random.default_rng(0).uniform(0.3, 0.7, (4, 2, 2)).astype(np.float32)
    expected = np.log(np.mean([np.exp(d.log_prob(x)) for d in members], axis=0))
    np.testing.assert_allclose(found.log_prob(x), expected, rtol=1e-4, atol=1e-4)
    f, volume, grid = on_grid(found)
    weight = np.exp(f) * volume
    assert weight.sum() == pytest.approx(1, abs=1e-3)
    mean = weight @ grid
    covariance = (weight[:, None] * (grid - mean)).T @ (grid - mean)
    np.testing.assert_allclose(found.mean()[0], mean, atol=1e-3)
    np.testing.assert_allclose(found.covariance()[0], covariance, rtol=0.03, atol=3e-4)
    np.testing.assert_allclose(found.stddev()[0], np.diag(covariance) ** 0.5, rtol=0.015)
    samples = found.sample(40_000, seed=(1, 2)).numpy()[:, 0]
    np.testing.assert_allclose(samples.mean(0), mean, atol=4e-3)
    np.testing.assert_allclose(np.cov(samples.T), covariance, rtol=0.05, atol=1e-3)


def test_few_samples_of_a_pool_come_from_all_members_alike():
    """Members far apart: seven draws from three are two or three of each, whoever gets more."""
    scale = tf.fill((1, 2), 0.01)
    members = [
        make("flow"),
        tfd.MultivariateNormalDiag(tf.fill((1, 2), 10.0), scale),
        tfd.MultivariateNormalDiag(tf.fill((1, 2), 20.0), scale),
    ]
    pool = Pooled(members)
    counts = []
    for i in range(40):
        which = np.rint(pool.sample(7, seed=(5, i)).numpy()[:, 0, 0] / 10).astype(int)
        counts.append(np.bincount(which, minlength=3))
    counts = np.array(counts)
    assert set(counts.ravel()) == {2, 3}
    assert np.all(np.abs(counts.mean(0) - 7 / 3) < 0.3)


def test_gradient_through_samples_of_a_pool_reaches_every_member():
    shift = tf.constant([0.1, 0.3])
    flow = make("flow", batch=2)
    with tf.GradientTape() as tape:
        tape.watch(shift)
        gauss = tfd.MultivariateNormalDiag(tf.stack([shift, shift]), tf.fill((2, 2), 0.1))
        value = tf.reduce_mean(Pooled([flow, gauss]).sample(1000, seed=(0, 1)), axis=[0, 1])
        total = tf.reduce_sum(value * [1.0, 2.0])
    np.testing.assert_allclose(tape.gradient(total, shift), [0.5, 1.0], rtol=1e-5)


def test_pool_of_one_is_itself_and_of_unequal_shapes_is_refused():
    one = make("flow", batch=2)
    assert pooled([one]) is one
    for members in ([], [one, make("flow", batch=3)]):
        with pytest.raises(ValueError, match="expected one shape"):
            pooled(members)


def test_kl_compiles_for_batches_of_unknown_size():
    head = HeadLayer({"a": (0.3, 0.7), "b": (0.3, 0.7)}, FlowHead())

    @tf.function(
        input_signature=[tf.TensorSpec((None, head.n_features)), tf.TensorSpec((None, 2, 2))]
    )
    def divergence(features, means):
        flow = head.distribution(*head(features))
        gauss = mixture(means, tf.ones_like(means) * 0.1, means[..., 0])
        return kl(gauss, flow, 64) + kl(pooled([flow, gauss]), gauss, 64)

    features, means = tf.zeros((3, head.n_features)), tensors(3, 2)[0]
    flow, gauss = (
        head.distribution(*head(features)),
        mixture(means, 0.1 * tf.ones_like(means), means[..., 0]),
    )
    expected = kl(gauss, flow, 64) + kl(pooled([flow, gauss]), gauss, 64)
    np.testing.assert_allclose(divergence(features, means), expected, rtol=1e-3, atol=1e-4)
