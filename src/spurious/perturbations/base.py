"""What a perturbation is."""

from __future__ import annotations

from numbers import Real
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np

from spurious.description.marks import Doc, Within
from spurious.description.quantities import Density
from spurious.lazy import tf

Upper = Annotated[
    float | None, Density, Doc("largest density allowed; clean maps must not exceed it")
]
BatchSize = Annotated[int, Within(1, 4096), Doc("maps attacked at a time, which sets the memory")]
"""Types of the fields that attacks have in common."""


class Perturbation(Protocol):
    """A change of maps that leaves them possible: densities stay at or above zero."""

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """Perturb each map on its own: the result does not depend on its companions in the batch.

        Args:
            maps: (batch, N, N) in counts, at or above zero.
            truth: the maps' true parameters (batch, p); only attacks that aim away from the truth
                need it, the others ignore it.

        Returns:
            The perturbed maps: shape, type and unit of `maps`, at or above zero.
        """
        ...


@runtime_checkable
class HasExtras(Protocol):
    """A perturbation that finds more than maps."""

    def extras(self) -> dict[str, np.ndarray]:
        """What was found, by name, in the last call: rows in the order of its maps, or patterns."""
        ...


def possible(maps: tf.Tensor, upper: float | None = None) -> tf.Tensor:
    """Clip densities to zero and, if given, to `upper`."""
    maps = tf.maximum(maps, like(0.0, maps))
    return maps if upper is None else tf.minimum(maps, like(upper, maps))


def like(value: Any, maps: tf.Tensor) -> tf.Tensor:
    """A number or tensor in the type of `maps`; `tf.cast` would first round a number to float32."""
    return tf.cast(value, maps.dtype) if tf.is_tensor(value) else tf.constant(value, maps.dtype)


def require(low: float, high: float, **values: Any) -> None:
    """Check that numbers lie between `low` and `high`, both included; tensors and None pass.

    Raises:
        ValueError: names the number and what is allowed.
    """
    for name, value in values.items():
        if not isinstance(value, Real):  # None, a tensor, a variable
            continue
        if not low <= float(value) <= high:
            raise ValueError(f"{name} = {value} must be between {low:g} and {high:g}")


def refuse_above(upper: float | None, maps: tf.Tensor) -> None:
    """Check that no clean map exceeds the largest density allowed, if there is one.

    Raises:
        ValueError: one does.
    """
    if upper is not None and tf.reduce_max(maps) > upper:
        raise ValueError(
            f"upper = {upper} must be at least the largest clean density, "
            f"{float(tf.reduce_max(maps)):g}"
        )
