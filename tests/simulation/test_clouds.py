import numpy as np
import pytest
import tensorflow as tf

from spurious.simulation.clouds import paint, read

N = 16


@pytest.fixture(scope="module")
def positions():
    """Particles also below 0, beyond N, and exactly on the last mesh point."""
    values = np.random.default_rng(3).uniform(-N, 2 * N, (200, 3)).astype(np.float32)
    values[:2] = [[N - 1, 0, N - 0.25], [-1e-9, N, 2 * N - 1]]
    return values


def naive_clouds(positions):
    """Cell and weight of each of the eight cells that a cloud touches, one by one."""
    for number, position in enumerate(positions.astype(np.float64)):
        base = np.floor(position).astype(int)
        for corner in np.ndindex(2, 2, 2):
            cell = base + corner
            yield number, tuple(cell % N), np.prod(1 - np.abs(position - cell))


def test_paint_is_cloud_in_cell(positions):
    expected = np.zeros((N, N, N))
    for _, cell, weight in naive_clouds(positions):
        expected[cell] += weight
    painted = paint(tf.constant(positions), N).numpy()
    np.testing.assert_allclose(painted, expected, atol=1e-5)
    assert painted.sum() == pytest.approx(len(positions), rel=1e-6)


def test_read_is_cloud_in_cell(positions):
    field = np.random.default_rng(4).normal(size=(N, N, N, 3)).astype(np.float32)
    expected = np.zeros((len(positions), 3))
    for number, cell, weight in naive_clouds(positions):
        expected[number] += weight * field[cell]
    values = read(tf.constant(field), tf.constant(positions))
    np.testing.assert_allclose(values, expected, atol=2e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gradients_are_those_of_central_differences(positions, axis):
    """Away from the clouds' kinks both are piecewise linear, so float32 differences are good."""
    inside = positions[np.all(np.abs(positions % 1 - 0.5) < 0.4, axis=1)]
    field = np.random.default_rng(5).normal(size=(N, N, N, 2)).astype(np.float32)
    weights = np.random.default_rng(6).normal(size=(len(inside), 2)).astype(np.float32)

    def each(x):
        """One objective of `paint` and one of `read`, as sums over particles."""
        painted = tf.reduce_sum(field[..., 0] * paint(x, N))
        return painted, tf.reduce_sum(weights * read(tf.constant(field), x))

    x = tf.constant(inside)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        values = each(x)
    for number, value in enumerate(values):
        gradient = tape.gradient(value, x).numpy()[:, axis]
        for particle in (0, 7):
            shift = np.zeros_like(inside)
            shift[particle, axis] = 0.05
            high, low = each(x + shift)[number], each(x - shift)[number]
            assert float(high - low) / 0.1 == pytest.approx(gradient[particle], abs=2e-3)


def test_read_is_the_transpose_of_paint(positions):
    """The gradient of a weighted read in the field is those weights, painted."""
    field = tf.zeros([N, N, N, 1])
    with tf.GradientTape() as tape:
        tape.watch(field)
        total = tf.reduce_sum(read(field, tf.constant(positions)))
    painted = paint(tf.constant(positions), N)
    np.testing.assert_allclose(tape.gradient(total, field)[..., 0], painted, atol=1e-5)
