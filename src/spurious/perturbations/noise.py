"""Perturbations that know nothing: the controls."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from spurious import seeds
from spurious.perturbations.base import like, possible


@dataclass(frozen=True)
class RandomSign:
    """Every pixel moves by plus or minus `epsilon`, at random: an attack without its gradient.

    The signs of a map follow from the seed and the map itself, so they do not depend on the
    batch it comes in. Not differentiable in the maps.

    Args:
        epsilon: size of the change, counts.
        seed: root of the draw.
    """

    epsilon: float
    seed: int

    def __post_init__(self) -> None:
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon = {self.epsilon} must be at least 0")

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`."""
        maps = tf.convert_to_tensor(maps)
        signs = np.stack([self._signs(one) for one in maps.numpy()])
        return possible(maps + like(self.epsilon, maps) * like(signs, maps))

    def _signs(self, one: np.ndarray) -> np.ndarray:
        """Plus or minus one per pixel of one map."""
        generator = seeds.generator(self.seed, "random sign", zlib.crc32(one.tobytes()))
        return 2 * generator.integers(0, 2, one.shape, dtype=np.int8) - 1
