"""The augmentation is exact, and all of it happens."""

import numpy as np

from spurious.training.augmentation import augment


def make(n, size):
    return np.random.default_rng(3).gamma(2.0, size / 2, (n, size, size)).astype(np.float32)


def test_augmented_maps_have_the_same_pixels_and_the_same_power_spectrum():
    size = 16
    original = make(n=40, size=size)
    moved = augment(original, np.random.default_rng(1))
    assert moved.shape == original.shape and moved.dtype == original.dtype
    np.testing.assert_array_equal(
        np.sort(moved.reshape(40, -1), axis=1), np.sort(original.reshape(40, -1), axis=1)
    )
    frequency = np.fft.fftfreq(size, 1 / size).astype(int)
    shell = np.abs(frequency)[:, None] ** 2 + np.abs(frequency)[None] ** 2
    for before, after in zip(original, moved, strict=True):
        for k in np.unique(shell):
            powers = [np.abs(np.fft.fft2(m.astype(float)))[shell == k] for m in (before, after)]
            # As multisets: rotations and reflections permute the modes of one |k|.
            np.testing.assert_allclose(np.sort(powers[0]), np.sort(powers[1]), rtol=1e-9, atol=1e-7)


def test_augmentation_is_a_symmetry_of_the_square_torus_and_reaches_all_of_them():
    """Brute force over all 8 N^2 symmetries: each draw is one of them, and all occur."""
    size = 3
    image = np.arange(size**2, dtype=np.float32).reshape(size, size)
    symmetries = {
        np.roll(np.rot90(flipped, turns), roll, (0, 1)).tobytes()
        for flipped in (image, image[::-1])
        for turns in range(4)
        for roll in np.ndindex(size, size)
    }
    assert len(symmetries) == 8 * size**2
    copies = np.repeat(image[None], 3000, axis=0)
    found = {m.tobytes() for m in augment(copies, np.random.default_rng(2))}
    assert found == symmetries


def test_augmentation_differs_between_maps_and_is_reproducible():
    same = np.repeat(make(n=1, size=16), 20, axis=0)
    first = augment(same, np.random.default_rng(7))
    np.testing.assert_array_equal(first, augment(same, np.random.default_rng(7)))
    assert len({m.tobytes() for m in first}) == 20
