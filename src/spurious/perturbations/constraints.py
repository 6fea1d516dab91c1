"""What an attack may reach: a ball around the clean map, densities in range, and more.

Balls are convex and the clean map lies in range, so clipping to the range after a ball leaves a map
within the ball. Other constraints (`spectral`) conflict with both; `satisfy` alternates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from spurious.description.lookup import OneOf
from spurious.lazy import tf
from spurious.perturbations.base import like, possible
from spurious.perturbations.steps import Norm, rms


class Constraint(Protocol):
    """A set of maps around each clean one."""

    def __call__(self, maps: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """The nearest maps of the set; maps in the set, the clean ones among them, stay put.

        Args:
            maps: (batch, N, N) in counts.
            clean: the maps that they were, (batch, N, N).
        """
        ...


Constraints = tuple[Annotated[Constraint, OneOf("constraint")], ...]
"""The type of an attack's field."""


@dataclass(frozen=True)
class Ball:
    """Changes up to a size, and densities in range.

    Args:
        epsilon: largest change, counts, as `norm` measures it; none: any.
        norm: "linf" (each pixel) or "l2" (root mean square over the pixels).
        upper: largest density, counts; none: any. Densities are at or above zero always.
    """

    epsilon: float | None
    norm: Norm = "linf"
    upper: float | None = None

    def __call__(self, maps: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """See `Constraint`."""
        if self.epsilon is not None:
            maps = within(maps, clean, like(self.epsilon, clean), self.norm)
        return possible(maps, self.upper)


def within(maps: tf.Tensor, clean: tf.Tensor, epsilon: Any, norm: Norm) -> tf.Tensor:
    """Nearest maps whose change is at most `epsilon`, one for all or (batch, 1, 1)."""
    return (within_linf if norm == "linf" else within_l2)(maps, clean, epsilon)


def within_linf(maps: tf.Tensor, clean: tf.Tensor, epsilon: Any) -> tf.Tensor:
    """Nearest maps whose every pixel is within `epsilon` of the clean one."""
    return tf.clip_by_value(maps, clean - epsilon, clean + epsilon)


def within_l2(maps: tf.Tensor, clean: tf.Tensor, epsilon: Any) -> tf.Tensor:
    """Nearest maps whose change has a root mean square of at most `epsilon`."""
    change = maps - clean
    size = rms(change)
    shrunk = clean + change * tf.math.divide_no_nan(epsilon, size)
    return tf.where(size > epsilon, shrunk, maps)


def satisfy(
    maps: tf.Tensor,
    clean: tf.Tensor,
    constraints: Sequence[Constraint],
    ball: Constraint,
    rounds: int = 1,
) -> tf.Tensor:
    """Alternating projections: in each round the constraints in turn, and the ball last.

    So the ball and the range of densities hold exactly, and what is left of the conflict is a
    violation of the constraints, which more rounds make smaller.
    """
    if not constraints:
        return ball(maps, clean)
    for _ in tf.range(rounds):
        for constraint in constraints:
            maps = constraint(maps, clean)
        maps = ball(maps, clean)
    return maps
