"""What a white-box attack increases: one number per map, differentiable in the map.

An objective compares the posterior of the perturbed map with that of the clean one and with the
truth. Attacks always go uphill; what should become small enters with a minus sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from spurious.data.maps import NAMES
from spurious.description.lookup import OneOf
from spurious.description.marks import Doc, Inside, Within
from spurious.errors import one_of
from spurious.lazy import tf

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


AnyObjective = Annotated[str | Objective, OneOf("objective", names=True)]
"""The type of an attack's field: a name of `OBJECTIVES`, or an `Objective`."""


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
    """KL(q(. | perturbed map) || q(. | clean map)) in nats.

    It is least, with gradient zero, at the clean map.
    """

    needs_truth = False
    flat_at_clean = True

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return kl(perturbed, clean)


@dataclass(frozen=True)
class ReverseDivergence(Divergence):
    """KL(q(. | clean map) || q(. | perturbed map)) in nats, the other direction."""

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return kl(clean, perturbed)


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
class TowardUniverse:
    """log q(Omega_m, sigma_8 | perturbed map): the posterior moves to a chosen universe.

    Raises:
        ValueError: the posterior has another parameter.
    """

    FILLED: ClassVar[tuple[str, ...]] = ("names",)

    omega_m: Annotated[float, Inside(0, 1), Doc("of that universe")]
    sigma_8: Annotated[float, Inside(0), Doc("of that universe")]
    names: tuple[str, ...] = NAMES
    needs_truth = False
    flat_at_clean = False

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in NAMES:
                raise ValueError(f"objective toward: the posterior's {name} is missing")

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        universe = tuple(float(getattr(self, name)) for name in self.names)
        return Toward(universe)(perturbed, clean, truth)


@dataclass(frozen=True)
class ShiftS8:
    """-(shift - sigmas)^2 / 2, where shift is that of S_8 = sigma_8 sqrt(Omega_m / 0.3).

    S_8 is taken at the posterior's mean; the shift, perturbed minus clean, is in standard
    deviations of S_8 under the clean posterior, which follow from its covariance to first order.

    Raises:
        ValueError: `sigmas` is 0 or no number, or a parameter is missing.
    """

    FILLED: ClassVar[tuple[str, ...]] = ("names",)

    sigmas: Annotated[float, Within(-100, 100), Doc("the shift wanted, not 0; negative: less S_8")]
    names: tuple[str, ...] = NAMES
    needs_truth = False
    flat_at_clean = False

    def __post_init__(self) -> None:
        self.consistent(vars(self))
        if not {"omega_m", "sigma_8"} <= set(self.names):
            raise ValueError(f"objective shift_s8 needs omega_m and sigma_8, not {self.names}")

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return -0.5 * (self.shift(perturbed, clean) - self.sigmas) ** 2

    @staticmethod
    def consistent(given: Mapping[str, Any]) -> None:
        """Refuse a shift by nothing."""
        if not abs(given["sigmas"]) > 0:
            raise ValueError(f"sigmas = {given['sigmas']:g} must not be 0")

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
class Overconfident:
    """-log det of the posterior's covariance; where its mean goes does not matter."""

    needs_truth = False
    flat_at_clean = False

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return -tf.linalg.logdet(perturbed.covariance())


@dataclass(frozen=True)
class Underconfident:
    """log det of the posterior's covariance; where its mean goes does not matter."""

    needs_truth = False
    flat_at_clean = False

    def __call__(self, perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
        """See `Objective`."""
        return tf.linalg.logdet(perturbed.covariance())


OBJECTIVES: dict[str, Objective] = {
    "nll": NegativeLogLikelihood(),
    "kl": Divergence(),
    "kl_perturbed_clean": Divergence(),
    "kl_clean_perturbed": ReverseDivergence(),
    "overconfident": Overconfident(),
    "underconfident": Underconfident(),
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
        raise ValueError(f"objective = {objective!r} {one_of(objective, OBJECTIVES)}")
    return OBJECTIVES[objective]


def kl(one: Any, other: Any) -> tf.Tensor:
    """See `spurious.densities.divergences.kl`, which imports TensorFlow Probability."""
    from spurious.densities.divergences import kl as divergence

    return divergence(one, other)
