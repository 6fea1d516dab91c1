"""What all systematics have in common: a change of the map that one amplitude scales."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from spurious.lazy import tf
from spurious.perturbations.base import possible, require


class Effect(ABC):
    """A `Perturbation` that adds a change to a map; with amplitude 0 it changes nothing.

    Differentiable in the maps and, where a class does not say otherwise, in its parameters, which
    may be numbers or scalar tensors. Numbers are checked when the effect is made, tensors are not.

    Attributes:
        AMPLITUDE: name of the parameter that scales the change; `matching.matched` finds its value.
        LIMITS: what the amplitude can be, both ends included; the ranges that are physically
            plausible are narrower and stand beside the fields.
        POINTWISE: whether what is added to a pixel depends on its own density alone.
        KNOWN: parameters that a search tries first.
    """

    AMPLITUDE: ClassVar[str] = "amplitude"
    LIMITS: ClassVar[tuple[float, float]] = (-1e30, 1e30)
    POINTWISE: ClassVar[bool] = False
    KNOWN: ClassVar[tuple[dict[str, float], ...]] = ()

    def __post_init__(self) -> None:
        require(*self.LIMITS, **{self.AMPLITUDE: getattr(self, self.AMPLITUDE)})

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`."""
        return possible(self.unclipped(maps))

    def unclipped(self, maps: Any) -> tf.Tensor:
        """The perturbed maps before negative densities are set to zero."""
        maps = tf.convert_to_tensor(maps)
        return maps + self.change(maps)

    @classmethod
    def from_search(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The class's parameters, given those that a search moves: they are the same.

        A class whose search moves others (see `Searched.name`) says here what they mean, as
        numbers or tensors, and the inverse in `to_search`.
        """
        return dict(values)

    @classmethod
    def to_search(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that a search moves, given the class's."""
        return dict(values)

    @abstractmethod
    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """What is added to `maps` (batch, N, N): the same shape and type, counts."""
