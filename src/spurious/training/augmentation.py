"""Exact augmentation of periodic maps."""

from __future__ import annotations

import numpy as np


def augment(maps: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each map rolled, rotated by a multiple of 90 degrees and flipped, each at random.

    Boxes are periodic and have no preferred direction, so none of this changes what a map says
    about cosmology, and it is exact: pixels move, none is interpolated.

    Args:
        maps: (n, N, N).
        generator: draws two rolls, two reversals and one transposition a map.

    Returns:
        New maps (n, N, N).
    """
    n, size = maps.shape[:2]
    # Two reversals and a transposition make all eight rotations and reflections of a square.
    offset = generator.integers(size, size=(2, n, 1))
    sign = generator.choice((-1, 1), size=(2, n, 1))
    rows, columns = (offset + sign * np.arange(size)) % size
    moved = maps[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    transposed = generator.random(n) < 0.5
    moved[transposed] = moved[transposed].swapaxes(1, 2)
    return moved
