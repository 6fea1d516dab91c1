"""What a white-box attack increases: one number per map, differentiable in the map.

An objective compares the posterior of the perturbed map with that of the clean one and with the
truth. Attacks always go uphill; what should become small enters with a minus sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import tensorflow as tf

from spurious.inference.distributions import kl
from spurious.maps import NAMES

PIVOT = 0.3  # Omega_m at which S_8 equals sigma_8, as in weak-lensing surveys
LEAST_OMEGA_M = 1e-3  # keeps the square root real where a posterior's mean is no universe


class Objective(Protocol):
    """A function of posteriors and truth that an attack increases."""

    @property
    def needs_truth(self) -> bool:
        """Whether the truth enters."""
        ...

    @property
    def flat_at_clean(self) -> bool:
        """Whether the gradient is zero at the clean map, so that an attack must start beside it."""
        ...

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """The objective of each map, (batch,).

        Args:
            perturbed: posterior of the perturbed maps, batch_shape (batch,).
            clean: posterior of the clean maps.
            truth: the maps' true parameters, (batch, p); anything if `needs_truth` is false.
        """
        ...


@dataclass(frozen=True)
class NegativeLogLikelihood:
    """-log q(truth | perturbed map) in nats: the paper's J."""

    needs_truth = True
    flat_at_clean = False

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return -perturbed.log_prob(truth)


@dataclass(frozen=True)
class Divergence:
    """KL(q(. | perturbed map) || q(. | clean map)) in nats, or with `reverse` the other way.

    It is least, with gradient zero, at the clean map.
    """

    reverse: bool = False
    needs_truth = False
    flat_at_clean = True

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return kl(clean, perturbed) if self.reverse else kl(perturbed, clean)


@dataclass(frozen=True)
class Toward:
    """log q(target | perturbed map): the posterior moves to a chosen cosmology.

    Args:
        target: the cosmology, in the order of the posterior's parameters.
    """

    target: tuple[float, ...]
    needs_truth = False
    flat_at_clean = False

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return perturbed.log_prob(tf.constant(self.target, perturbed.dtype))


@dataclass(frozen=True)
class ShiftS8:
    """-(shift - sigmas)^2 / 2, where shift is that of S_8 = sigma_8 sqrt(Omega_m / 0.3).

    S_8 is taken at the posterior's mean; the shift, perturbed minus clean, is in standard
    deviations of S_8 under the clean posterior, which follow from its covariance to first order.

    Args:
        sigmas: the shift wanted, negative for less S_8. Not 0.
        names: the posterior's parameters, "omega_m" and "sigma_8" among them.

    Raises:
        ValueError: `sigmas` is 0 or no number, or a parameter is missing.
    """

    sigmas: float
    names: tuple[str, ...] = NAMES
    needs_truth = False
    flat_at_clean = False

    def __post_init__(self) -> None:
        if not abs(self.sigmas) > 0:
            raise ValueError(f"sigmas = {self.sigmas} of objective shift_s8 must not be 0")
        if not {"omega_m", "sigma_8"} <= set(self.names):
            raise ValueError(f"objective shift_s8 needs omega_m and sigma_8, not {self.names}")

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return -0.5 * (self.shift(perturbed, clean) - self.sigmas) ** 2

    def shift(self, perturbed: Any, clean: Any) -> tf.Tensor:
        """S_8 of the mean, perturbed minus clean, in clean standard deviations: (batch,)."""
        mean = clean.mean()
        with tf.GradientTape() as tape:
            tape.watch(mean)
            s_8 = self._s_8(mean)
        slope = tape.gradient(s_8, mean)
        variance = tf.einsum("bi,bij,bj->b", slope, clean.covariance(), slope)
        return (self._s_8(perturbed.mean()) - s_8) / tf.sqrt(variance)

    def _s_8(self, mean: tf.Tensor) -> tf.Tensor:
        omega_m = tf.maximum(mean[:, self.names.index("omega_m")], LEAST_OMEGA_M)
        return mean[:, self.names.index("sigma_8")] * tf.sqrt(omega_m / PIVOT)


@dataclass(frozen=True)
class LogVolume:
    """sign x log det of the posterior's covariance.

    -1 makes the posterior overconfident, +1 underconfident; where its mean goes does not matter.
    """

    sign: int
    needs_truth = False
    flat_at_clean = False

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return self.sign * tf.linalg.logdet(perturbed.covariance())


OBJECTIVES: dict[str, Objective] = {
    "nll": NegativeLogLikelihood(),
    "kl": Divergence(),
    "kl_perturbed_clean": Divergence(),
    "kl_clean_perturbed": Divergence(reverse=True),
    "overconfident": LogVolume(-1),
    "underconfident": LogVolume(1),
}
"""Objectives that need no number, by name; "kl" is short for "kl_perturbed_clean"."""


def named(objective: str | Objective) -> Objective:
    """The objective of a name, or the objective itself.

    Raises:
        ValueError: there is none of this name.
    """
    if not isinstance(objective, str):
        return objective
    if objective not in OBJECTIVES:
        raise ValueError(f"objective = {objective!r} must be one of {list(OBJECTIVES)}")
    return OBJECTIVES[objective]


def target(cosmology: dict[str, float], names: Sequence[str]) -> Toward:
    """The objective `Toward` for parameters given by name.

    Raises:
        ValueError: a parameter of the posterior is missing.
    """
    missing = [name for name in names if name not in cosmology]
    if missing:
        raise ValueError(f"objective toward: the posterior's {missing[0]} is missing")
    return Toward(tuple(cosmology[name] for name in names))
