"""The flow against TensorFlow Probability's bijectors, numerical integrals and a banana."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import integrate, stats

from spurious.densities.divergences import concatenate
from spurious.densities.flows import REACH
from spurious.networks.flow import FlowHead
from spurious.networks.head_layer import HeadLayer

tfd, tfb = tfp.distributions, tfp.bijectors


def make(p, batch=3, spread=0.7, seed=0, blocks=2):
    """A bent flow over parameters between -1 and 1."""
    head = HeadLayer({f"parameter_{i}": (-1, 1) for i in range(p)}, FlowHead(blocks=blocks))
    features = np.random.default_rng(seed).normal(0, spread, (batch, head.n_features))
    return head.distribution(*head(tf.constant(features, tf.float32)))


def box(flow, reach=9.0, n=1201):
    """Axes (p, n) and volume elements (batch,) of grids around each row."""
    mean, width = flow.mean().numpy(), reach * flow.stddev().numpy()
    return np.linspace(mean - width, mean + width, n, axis=-1)


@pytest.mark.parametrize(("p", "blocks"), [(1, 2), (2, 1), (2, 2), (3, 3)])
def test_flow_is_tensorflow_probabilitys_chain_of_bijectors(p, blocks):
    single = make(p, blocks=blocks)
    outputs = [tf.cast(part, tf.float64) for part in single.outputs]
    # Cast shares would not sum to the reach to the last digit.
    outputs[2:4] = [2 * REACH * t / tf.reduce_sum(t, -1, keepdims=True) for t in outputs[2:4]]
    flow = type(single)(*outputs)
    shifts, trils, widths, heights, slopes = outputs
    steps = []
    for i in range(blocks + 1):
        if i > 0:
            steps += [
                tfb.RationalQuadraticSpline(
                    widths[:, i - 1], heights[:, i - 1], slopes[:, i - 1], range_min=-REACH
                ),
                tfb.Permute(list(range(p))[::-1]),
            ]
        steps += [tfb.ScaleMatvecTriL(trils[:, i]), tfb.Shift(shifts[:, i])]
    chain = tfb.Chain(steps[::-1])
    z = np.random.default_rng(1).normal(0, 2, (500, 3, p))
    np.testing.assert_allclose(flow.forward(z), chain.forward(z), rtol=1e-9, atol=1e-9)
    base = tfd.MultivariateNormalDiag(tf.zeros((3, p), z.dtype), tf.ones((3, p), z.dtype))
    theta = chain.forward(z).numpy()
    expected = tfd.TransformedDistribution(base, chain).log_prob(theta)
    np.testing.assert_allclose(flow.log_prob(theta), expected, rtol=1e-7, atol=1e-7)
    found = single.log_prob(theta.astype(np.float32))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.05)


def test_density_and_moments_are_integrals_in_one_dimension():
    flow = make(1)
    x = box(flow, n=20_001)[:, 0]
    density = np.exp(flow.log_prob(x.T[..., None].astype(np.float32)).numpy()).T
    for row in range(3):
        f, t = density[row], x[row]
        assert integrate.trapezoid(f, t) == pytest.approx(1, abs=1e-3)
        mean = integrate.trapezoid(f * t, t)
        sigma = integrate.trapezoid(f * (t - mean) ** 2, t) ** 0.5
        assert abs(flow.mean()[row, 0] - mean) < 0.001 * sigma
        np.testing.assert_allclose(flow.stddev()[row], sigma, rtol=0.001)


def test_density_and_moments_are_integrals_in_two_dimensions():
    flow = make(2, spread=0.3, seed=4)
    axes = box(flow)
    for row in range(3):
        one = concatenate([flow[row : row + 1]])
        grid = np.stack(np.meshgrid(*axes[row], indexing="ij"), axis=-1)
        f = np.exp(one.log_prob(grid.reshape(-1, 1, 2).astype(np.float32)).numpy())
        f *= np.prod(axes[row, :, 1] - axes[row, :, 0])
        x = grid.reshape(-1, 2)
        assert f.sum() == pytest.approx(1, abs=1e-3)
        mean = f[:, 0] @ x
        covariance = (f * (x - mean)).T @ (x - mean)
        sigma = np.diag(covariance) ** 0.5
        assert np.all(np.abs(one.mean()[0] - mean) < 0.005 * sigma)
        found = one.covariance()[0] / np.outer(sigma, sigma)
        np.testing.assert_allclose(found, covariance / np.outer(sigma, sigma), atol=0.01)
        np.testing.assert_allclose(one.stddev()[0], sigma, rtol=0.002)


@pytest.mark.parametrize(
    ("p", "side", "spread", "rtol"), [(2, 400, 0.3, 1e-3), (2, 400, 1.0, 0.01)]
)
def test_moments_of_bent_flows_are_integrals_over_the_base(p, side, spread, rtol):
    """Of 32 flows; the trapezoidal rule on (400)^2 points z within six sigma in both axes."""
    flow = make(p, batch=32, spread=spread, seed=1)
    axis = np.linspace(-6, 6, side)
    z = np.stack(np.meshgrid(*[axis] * p, indexing="ij"), axis=-1).reshape(-1, 1, p)
    weights = np.exp(-0.5 * np.sum(z[:, 0] ** 2, axis=1))
    weights /= weights.sum()
    theta = flow.forward(tf.constant(z, tf.float32)).numpy()
    mean = np.einsum("n,nbp->bp", weights, theta)
    sigma = np.sqrt(np.einsum("n,nbp->bp", weights, (theta - mean) ** 2))
    np.testing.assert_allclose(flow.stddev(), sigma, rtol=rtol)
    assert np.all(np.abs(flow.mean() - mean) < rtol * sigma)
    np.testing.assert_allclose(tf.linalg.diag_part(flow.covariance()), flow.variance(), rtol=1e-4)


def test_moments_of_flows_of_three_parameters_are_those_of_many_draws():
    flow = make(3, batch=8, spread=1.0, seed=1)
    draws = flow.sample(300_000, seed=(3, 4)).numpy().astype(np.float64)
    np.testing.assert_allclose(flow.stddev(), draws.std(axis=0), rtol=0.02)


@pytest.mark.parametrize("seed", [None, 7, (1, 2), np.array([1, 2])])
def test_samples_take_any_seed_of_tensorflow_probability(seed):
    flow = make(2)
    draws = flow.sample(4000, seed=seed)
    assert draws.shape == (4000, 3, 2)
    shift = (tf.reduce_mean(draws, axis=0) - flow.mean()) / flow.stddev()
    assert np.all(np.abs(shift) < 5 / np.sqrt(4000))
    assert flow.sample(seed=seed).shape == (3, 2)


def test_samples_follow_the_density():
    """Both marginals against cumulative sums of the density over a grid, and the joint signs."""
    flow = make(2, batch=1, spread=0.3, seed=4)
    samples = flow.sample(20_000, seed=(1, 2)).numpy()[:, 0]
    axes = box(flow)[0]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    f = np.exp(flow.log_prob(grid.astype(np.float32)).numpy()).reshape(1201, 1201)
    for axis in (0, 1):
        cdf = integrate.cumulative_trapezoid(f.sum(axis=1 - axis), axes[axis], initial=0)
        levels = np.interp(samples[:, axis], axes[axis], cdf / cdf[-1])
        assert stats.kstest(levels, "uniform").pvalue > 1e-3
    above = (axes[0][:, None] > samples[:, 0].mean()) & (axes[1] > samples[:, 1].mean())
    share = np.mean(np.all(samples > samples.mean(0), axis=1))
    assert share == pytest.approx((f * above).sum() / f.sum(), abs=0.012)


def test_straight_flow_is_a_gaussian_with_exact_moments():
    head = HeadLayer({"a": (0.0, 2.0), "b": (5.0, 5.5)}, FlowHead())
    features = np.zeros((2, head.n_features), np.float32)
    features[1, -5:] = [0.3, -0.2, 0.5, -1.0, 0.8]  # the last map: shifts, diagonal, below
    shifts, trils, *_ = outputs = head(features)
    flow = head.distribution(*outputs)
    gauss = tfd.MultivariateNormalTriL(shifts[:, -1], trils[:, -1])
    theta = gauss.sample(50, seed=(0, 1))
    np.testing.assert_allclose(flow.log_prob(theta), gauss.log_prob(theta), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(flow.mean(), gauss.mean(), rtol=1e-5)
    np.testing.assert_allclose(flow.covariance(), gauss.covariance(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(flow.mean()[0], [1.0, 5.25], rtol=1e-6)
    np.testing.assert_allclose(
        flow.stddev()[0], np.array([1, 0.25]) * (np.log(2) + 1e-3), rtol=1e-4
    )


@pytest.mark.parametrize("swap", [False, True])
def test_flow_learns_a_banana_whichever_way_it_bends(swap):
    """x_2 = x_1^2 + noise: within 0.2 nats of its entropy; the best Gaussian is 0.75 above."""
    draw = np.random.default_rng(2)
    first = draw.standard_normal(2000)
    banana = np.stack([0.3 * first, 0.2 * first**2 - 0.4 + 0.06 * draw.standard_normal(2000)], -1)
    banana = (banana[:, ::-1] if swap else banana).astype(np.float32)[:, None]
    entropy = np.log(2 * np.pi * np.e * 0.3 * 0.06)
    head = HeadLayer({"a": (-1, 1), "b": (-1, 1)}, FlowHead())
    features = tf.Variable(tf.zeros((1, head.n_features)))
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(head.distribution(*head(features)).log_prob(banana))
        return loss, tape.gradient(loss, features)

    for _ in range(400):
        loss, gradient = step()
        optimizer.apply([gradient], [features])
    gauss = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(banana[:, 0].T))[1]
    assert gauss - entropy > 0.7
    assert float(loss) - entropy < 0.2


def test_moments_and_samples_have_gradients():
    """Against central differences in one feature of each kind, with float64 to see them."""
    head = HeadLayer({"a": (-1, 1), "b": (-1, 1)}, FlowHead())
    start = np.random.default_rng(3).normal(0, 0.5, (1, head.n_features)).astype(np.float32)

    def values(features):
        flow = head.distribution(*head(features))
        parts = [
            flow.mean(),
            flow.stddev(),
            flow.covariance()[0],
            flow.sample(64, seed=(1, 2))[:, 0],
        ]
        return tf.concat([tf.reshape(tf.reduce_sum(part), [1]) for part in parts], axis=0)

    features = tf.constant(start)
    with tf.GradientTape() as tape:
        tape.watch(features)
        value = values(features)
    found = tape.jacobian(value, features).numpy()[:, 0]
    for index in (0, 9, 17, 40, head.n_features - 12, head.n_features - 2):
        step = np.zeros_like(start)
        step[0, index] = 0.02
        expected = (values(start + step) - values(start - step)).numpy() / 0.04
        np.testing.assert_allclose(found[:, index], expected, rtol=0.03, atol=0.02)


def test_rows_are_independent_and_can_be_joined():
    flow = make(2, batch=5)
    parts = [type(flow)(*(t[rows] for t in flow.outputs)) for rows in (slice(2), slice(2, 5))]
    joined = concatenate(parts)
    assert type(joined) is type(flow) and joined.batch_shape == (5,)
    theta = np.random.default_rng(0).normal(size=(7, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(joined.log_prob(theta), flow.log_prob(theta), rtol=1e-6)
    np.testing.assert_allclose(
        parts[1].log_prob(theta[:, 2:]), flow.log_prob(theta)[:, 2:], rtol=1e-6
    )
