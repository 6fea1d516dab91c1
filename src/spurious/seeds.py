"""Seeds for every random draw, derived from (root seed, purpose, index).

Two draws with another purpose or index are independent; a draw never depends on
how many came before it, so work can be split over processes and resumed.
"""

from __future__ import annotations

import zlib

import numpy as np


def sequence(root: int, purpose: str, *index: int) -> np.random.SeedSequence:
    """Seed sequence of one draw.

    `purpose` enters through its CRC-32, so that it is the same in every process
    (Python's own `hash` of a string is not).
    """
    return np.random.SeedSequence(root, spawn_key=(zlib.crc32(purpose.encode()), *index))


def generator(root: int, purpose: str, *index: int) -> np.random.Generator:
    """NumPy generator of one draw."""
    return np.random.default_rng(sequence(root, purpose, *index))


def integer(root: int, purpose: str, *index: int) -> int:
    """One seed below 2^63, to store beside what it made."""
    return int(sequence(root, purpose, *index).generate_state(1, np.uint64)[0] >> np.uint64(1))


def stateless(root: int, purpose: str, *index: int) -> tuple[int, int]:
    """Seed pair for TensorFlow's stateless random operations."""
    first, second = sequence(root, purpose, *index).generate_state(2, np.uint32) >> np.uint32(1)
    return int(first), int(second)
