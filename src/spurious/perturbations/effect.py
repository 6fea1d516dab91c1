"""What all systematics have in common: a change of the map that one amplitude scales."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import tensorflow as tf

from spurious.perturbations.base import possible, require


class Effect(ABC):
    """A `Perturbation` that adds a change to a map; with amplitude 0 it changes nothing.

    Differentiable in the maps and, where a class does not say otherwise, in its parameters, which
    may be numbers or scalar tensors. Numbers are checked when the effect is made, tensors are not.

    Attributes:
        AMPLITUDE: name of the parameter that scales the change; `matching.matched` finds its value.
        LIMITS: what the amplitude can be, both ends included; the ranges that are physically
            plausible are narrower and stand in `spurious.config.systematics`.
        POINTWISE: whether what is added to a pixel depends on its own density alone.
    """

    AMPLITUDE: ClassVar[str] = "amplitude"
    LIMITS: ClassVar[tuple[float, float]] = (-1e30, 1e30)
    POINTWISE: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require(*self.LIMITS, **{self.AMPLITUDE: getattr(self, self.AMPLITUDE)})

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`."""
        return possible(self.unclipped(maps))

    def unclipped(self, maps: Any) -> tf.Tensor:
        """The perturbed maps before negative densities are set to zero."""
        maps = tf.convert_to_tensor(maps)
        return maps + self.change(maps)

    @abstractmethod
    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """What is added to `maps` (batch, N, N): the same shape and type, counts."""
