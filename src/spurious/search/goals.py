"""What a search maximises: one number for all maps, differentiable in the perturbed posterior."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import tensorflow as tf

from spurious.config import search as cfg
from spurious.inference.distributions import kl
from spurious.perturbations.objectives import ShiftS8

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
        """What is told, a scalar; the same unless the optimiser needs something smoother."""
        return self(perturbed, clean)


@dataclass(frozen=True)
class MeanKL(Goal):
    """Mean KL(q(. | perturbed) || q(. | clean)); symmetrised, half the sum of both directions."""

    symmetrised: bool = False
    quadratic = True
    unit = "nat"

    def __call__(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """See `Goal`."""
        forward = tf.reduce_mean(kl(perturbed, clean))
        if not self.symmetrised:
            return forward
        return (forward + tf.reduce_mean(kl(clean, perturbed))) / 2


@dataclass(frozen=True)
class MeanShiftS8(Goal):
    """Mean shift of S_8, in clean standard deviations of S_8, towards more (or less) of it.

    Args:
        sign: +1 or -1.
        names: the posterior's parameters.

    Raises:
        ValueError: omega_m or sigma_8 is missing.
    """

    sign: int
    names: tuple[str, ...]

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

    Args:
        direction: d, in the order of the posterior's parameters.
    """

    direction: tuple[float, ...]

    def __call__(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """See `Goal`."""
        mean = clean.mean()
        direction = tf.constant(self.direction, mean.dtype)
        shift = tf.linalg.matvec(perturbed.mean() - mean, direction)
        variance = tf.einsum("i,bij,j->b", direction, clean.covariance(), direction)
        return tf.reduce_mean(shift / tf.sqrt(variance))


@dataclass(frozen=True)
class FractionMoved(Goal):
    """Fraction of maps with r = sqrt((m' - m)^T C^-1 (m' - m)) > sigmas, C the clean covariance.

    The optimiser climbs the mean of sigmoid((r - sigmas) / SMOOTHING), because the fraction itself
    is flat almost everywhere; what is reported is the fraction.

    Args:
        sigmas: how far a map must move to count.
    """

    sigmas: float
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


def build_goal(settings: Any, names: Sequence[str]) -> Goal:
    """The goal that `search.goal` describes.

    Args:
        settings: a name or a section, see `spurious.config.search.Goal`.
        names: the posterior's parameters.

    Raises:
        ValueError: it needs a parameter that the posterior does not have.
    """
    if isinstance(settings, str):
        return {"kl": MeanKL(), "kl_symmetrised": MeanKL(symmetrised=True)}[settings]
    if isinstance(settings, cfg.ShiftS8):
        return MeanShiftS8(settings.sign, tuple(names))
    if isinstance(settings, cfg.FractionMoved):
        return FractionMoved(settings.sigmas)
    for name in settings.direction:
        if name not in names:
            raise ValueError(f"goal shift: direction.{name} must be one of {', '.join(names)}")
    return MeanShift(tuple(settings.direction.get(name, 0.0) for name in names))
