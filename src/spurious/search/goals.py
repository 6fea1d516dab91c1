"""What a search maximises: one number for all maps, differentiable in the perturbed posterior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

from spurious.data.maps import NAMES
from spurious.description.fields import filled
from spurious.description.lookup import class_of
from spurious.description.marks import Doc, Inside, Within
from spurious.description.names import Name
from spurious.description.schema import select_fields
from spurious.description.section import Entry
from spurious.errors import UserError, one_of
from spurious.lazy import tf
from spurious.perturbations.objectives import ShiftS8, kl

SMOOTHING = 0.5  # sigmas over which the step of `FractionMoved` is spread for the optimiser
FLOOR = 1e-12  # squared sigmas, keeps the root differentiable where a posterior did not move


class Goal(ABC):
    """The larger, the better.

    Attributes:
        quadratic: whether it grows with the square of a small change, as a KL does; then its root
            is climbed, which grows linearly.
        unit: of the value.
    """

    quadratic: ClassVar[bool] = False
    unit: ClassVar[str] = "sigma"

    @abstractmethod
    def __call__(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """What the optimiser climbs, a scalar.

        Args:
            perturbed: posterior of the perturbed maps, batch_shape (batch,).
            clean: posterior of the clean maps.
        """

    def reported(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """What is reported, a scalar; the same unless the optimiser needs something smoother."""
        return self(perturbed, clean)


@dataclass(frozen=True)
class MeanKL(Goal):
    """Mean KL(q(. | perturbed) || q(. | clean)): the paper's number."""

    quadratic = True
    unit = "nat"

    def __call__(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """See `Goal`."""
        return tf.reduce_mean(kl(perturbed, clean))


@dataclass(frozen=True)
class SymmetrisedKL(Goal):
    """Half the sum of the mean KL in both directions."""

    quadratic = True
    unit = "nat"

    def __call__(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """See `Goal`."""
        return (tf.reduce_mean(kl(perturbed, clean)) + tf.reduce_mean(kl(clean, perturbed))) / 2


@dataclass(frozen=True)
class MeanShiftS8(Goal):
    """Mean shift of S_8 = sigma_8 sqrt(Omega_m / 0.3), in clean standard deviations of it.

    Raises:
        ValueError: the posterior lacks omega_m or sigma_8.
    """

    FILLED: ClassVar[tuple[str, ...]] = ("names",)

    sign: Annotated[Literal[-1, 1], Doc("+1: towards more S_8")] = 1
    names: tuple[str, ...] = NAMES

    def __post_init__(self) -> None:
        ShiftS8(float(self.sign), self.names)

    def __call__(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """See `Goal`."""
        shift = ShiftS8(float(self.sign), self.names).shift(perturbed, clean)
        return self.sign * tf.reduce_mean(shift)


@dataclass(frozen=True)
class MeanShift(Goal):
    """Mean of d . (m' - m) / sqrt(d^T C d): the shift of the mean m along a direction d.

    C is the clean posterior's covariance.

    Raises:
        ValueError: the posterior lacks a parameter.
    """

    FILLED: ClassVar[tuple[str, ...]] = ("names",)

    direction: Annotated[dict[Name, float], Doc("d: parameter -> component; others are 0")]
    names: tuple[str, ...] = NAMES

    def __post_init__(self) -> None:
        self.consistent(vars(self))
        for name in self.direction:
            if name not in self.names:
                raise ValueError(f"goal shift: direction.{name} {one_of(name, self.names)}")

    @staticmethod
    def consistent(given: Mapping[str, Any]) -> None:
        """Refuse a direction that leads nowhere."""
        if not any(given["direction"].values()):
            raise ValueError(
                f"direction = {given['direction']} must have a component that is not 0"
            )

    def __call__(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """See `Goal`."""
        mean = clean.mean()
        components = [self.direction.get(name, 0.0) for name in self.names]
        direction = tf.constant(components, mean.dtype)
        shift = tf.linalg.matvec(perturbed.mean() - mean, direction)
        variance = tf.einsum("i,bij,j->b", direction, clean.covariance(), direction)
        return tf.reduce_mean(shift / tf.sqrt(variance))


@dataclass(frozen=True)
class FractionMoved(Goal):
    """Fraction of maps with r = sqrt((m' - m)^T C^-1 (m' - m)) > sigmas, C the clean covariance.

    The optimiser climbs the mean of sigmoid((r - sigmas) / SMOOTHING), because the fraction itself
    is flat almost everywhere; what is reported is the fraction.
    """

    sigmas: Annotated[float, Within(0, 100), Inside(0), Doc("how far a map must move to count")] = (
        2.0
    )
    unit = ""

    def __call__(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """See `Goal`."""
        return tf.reduce_mean(tf.sigmoid((_distance(perturbed, clean) - self.sigmas) / SMOOTHING))

    def reported(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """The fraction itself."""
        return tf.reduce_mean(
            tf.cast(_distance(perturbed, clean) > self.sigmas, perturbed.mean().dtype)
        )


def _distance(perturbed: Any, clean: Any) -> tf.Tensor:
    """Mahalanobis distance of the means, (batch,)."""
    root = tf.linalg.cholesky(clean.covariance())
    moved = (perturbed.mean() - clean.mean())[..., None]
    white = tf.linalg.triangular_solve(root, moved)[..., 0]
    return tf.sqrt(tf.reduce_sum(white**2, axis=-1) + FLOOR)


def check_goal(settings: str | Entry, names: Sequence[str]) -> None:
    """Refuse a goal that is about other parameters than these, before hours of work.

    Raises:
        UserError: one line that names the key.
    """
    try:
        build_goal(settings, names)
    except ValueError as error:
        raise UserError(f"search.goal: {error}") from error


def build_goal(settings: str | Entry, names: Sequence[str]) -> Goal:
    """The goal that `search.goal` describes.

    Args:
        settings: a name or a section.
        names: the posterior's parameters.

    Raises:
        ValueError: it needs a parameter that the posterior does not have.
    """
    make: Any = class_of("goal", settings) if isinstance(settings, str) else settings.CLASS
    given = {} if isinstance(settings, str) else select_fields(settings)
    return cast(Goal, make(**given, **{name: tuple(names) for name in filled(make)}))
