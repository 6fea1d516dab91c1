"""The scattering transform against plain loops, and what must not change it."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.detection.scattering import coefficients, in_batches, scales, scattering

N = 16


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(6, N, 3).astype(np.float64)


def wavelet(n, scale, angle):
    """A Morlet wavelet in real space, summed over the images of the periodic box."""
    sigma, xi = 0.8 * 2**scale, 3 * np.pi / 4 / 2**scale
    envelope, wave = np.zeros((n, n)), np.zeros((n, n), complex)
    for p in range(-4, 5):
        for q in range(-4, 5):
            x, y = np.arange(n)[:, None] + p * n, np.arange(n)[None] + q * n
            bell = np.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
            envelope += bell
            wave += bell * np.exp(1j * xi * (x * np.cos(angle) + y * np.sin(angle)))
    return wave - wave.sum() / envelope.sum() * envelope


def convolved(field, kernel):
    return np.abs(np.fft.ifft2(np.fft.fft2(field) * np.fft.fft2(kernel)))


def by_loops(density):
    """ln S1 and ln(S2 / S1) of one map, one wavelet after another."""
    field = np.log(np.maximum(density / density.mean(), 1e-3))
    angles = [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]
    found = {}
    for i in range(3):
        first = [convolved(field, wavelet(N, i, a)) for a in angles]
        found[(i,)] = np.log(np.mean(first))
        for j in range(i + 1, 3):
            sums = {0: [], 1: [], 2: []}
            for a, modulus in zip(angles, first, strict=True):
                for b in angles:
                    turn = round(abs(a - b) / (np.pi / 4))
                    sums[min(turn, 4 - turn)].append(convolved(modulus, wavelet(N, j, b)).mean())
            for dl, values in sums.items():
                found[(i, j, dl)] = np.log(np.mean(values) / np.mean(first))
    return [found[key] for key in coefficients(N)]


def test_coefficients_are_those_of_loops_over_wavelets_in_real_space(maps):
    assert scales(N) == 3 and scales(64) == 4
    expected = [by_loops(one) for one in maps]
    np.testing.assert_allclose(scattering(maps).numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(in_batches(maps), expected, atol=2e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: np.roll(m, (3, -5), axis=(1, 2)),
        lambda m: np.rot90(m, axes=(1, 2)),
        lambda m: m[:, ::-1],
        lambda m: m.swapaxes(1, 2),
        lambda m: 2 * m,
    ],
    ids=["roll", "rotation", "flip", "transposition", "common factor"],
)
def test_what_leaves_a_universe_as_it_is_changes_no_coefficient(change, maps):
    changed = scattering(np.ascontiguousarray(change(maps))).numpy()
    np.testing.assert_allclose(changed, scattering(maps).numpy(), atol=1e-9)


def test_a_stretched_wave_stands_out_at_another_scale():
    x = np.arange(64)[:, None] * np.ones((1, 64))
    waves = np.stack([np.exp(0.1 * np.sin(2 * np.pi * k * x / 64)) for k in (24, 12, 6, 3)])
    first = scattering(waves).numpy()[:, :4]
    np.testing.assert_array_equal(first.argmax(axis=1), [0, 1, 2, 3])


def test_it_sees_phases_where_the_power_is_the_same(maps):
    draw = np.random.default_rng(0)
    modes = np.fft.rfft2(np.log(maps + 1))
    phases = np.fft.rfft2(draw.normal(size=maps.shape))
    shuffled = np.exp(np.fft.irfft2(np.abs(modes) * phases / np.abs(phases), s=(N, N)))
    assert (
        np.abs(scattering(shuffled).numpy() - scattering(np.exp(np.log(maps + 1))).numpy()).max()
        > 0.05
    )


def test_gradients_are_those_of_finite_differences(maps):
    start = tf.constant(np.maximum(maps[:2], 1.0))
    direction = tf.constant(np.random.default_rng(1).normal(size=start.shape))
    weights = tf.constant(np.random.default_rng(2).normal(size=(2, len(coefficients(N)))))
    with tf.GradientTape() as tape:
        tape.watch(start)
        value = tf.reduce_sum(weights * scattering(start))
    slope = tf.reduce_sum(tape.gradient(value, start) * direction).numpy()
    ends = [tf.reduce_sum(weights * scattering(start + s * direction)) for s in (1e-4, -1e-4)]
    assert slope == pytest.approx(((ends[0] - ends[1]) / 2e-4).numpy(), rel=1e-5)
    with tf.GradientTape() as tape:
        flat = tf.constant(np.full((1, N, N), 64.0))
        tape.watch(flat)
        value = tf.reduce_sum(scattering(flat))
    assert np.isfinite(tape.gradient(value, flat).numpy()).all()


def test_maps_too_small_for_two_wavelets_are_refused():
    with pytest.raises(ValueError, match="too small"):
        scattering(np.ones((1, 4, 4)))
