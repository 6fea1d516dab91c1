"""How strong a logistic systematic is and how much power it changes, with exact gradients.

The search moves in a cube [0, 1]^3 that maps linearly to (log a, log transition, asinh beta), where
transition = -b / a is the density at which the systematic switches. So the switch does not move
when the slope changes, what spans decades is searched by decade (half of all pixels lie below a
density of 60 counts, the densest reach 1000), and beta may have either sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from spurious import spectra
from spurious.config import Bounds
from spurious.inference.distributions import kl
from spurious.inference.posterior import Posterior
from spurious.perturbations.systematics import Logistic

COORDINATES = ("a", "transition", "asinh_beta")


@dataclass(frozen=True)
class Cube:
    """The cube [0, 1]^3 and what its corners stand for.

    Raises:
        ValueError: a bound of a or of the transition is not positive.
    """

    bounds: Bounds

    def __post_init__(self) -> None:
        if min(self.bounds.a.low, self.bounds.transition.low) <= 0:
            raise ValueError(
                "a and transition are searched in their logarithms: bounds must be > 0"
            )

    @property
    def low(self) -> np.ndarray:
        """(log a, log transition, asinh beta) at the corner (0, 0, 0)."""
        b = self.bounds
        return np.array([np.log(b.a.low), np.log(b.transition.low), np.arcsinh(b.beta.low)])

    @property
    def high(self) -> np.ndarray:
        """(log a, log transition, asinh beta) at the corner (1, 1, 1)."""
        b = self.bounds
        return np.array([np.log(b.a.high), np.log(b.transition.high), np.arcsinh(b.beta.high)])

    def systematic(self, point: Any) -> Logistic:
        """The systematic at a point (3,) of the cube; a tensor gives one with tensors."""
        if tf.is_tensor(point):
            low, width = (tf.constant(v, point.dtype) for v in (self.low, self.high - self.low))
            log_a, log_transition, asinh_beta = tf.unstack(low + point * width)
            b = -tf.exp(log_a + log_transition)
            return Logistic(tf.exp(log_a), b, tf.sinh(asinh_beta))
        log_a, log_transition, asinh_beta = self.low + np.asarray(point) * (self.high - self.low)
        b = -float(np.exp(log_a + log_transition))
        return Logistic(float(np.exp(log_a)), b, float(np.sinh(asinh_beta)))

    def point(self, systematic: Logistic) -> np.ndarray:
        """The point (3,) of a systematic; outside [0, 1] if it is out of bounds."""
        log_a, log_transition = np.log(systematic.a), np.log(-systematic.b / systematic.a)
        place = np.array([log_a, log_transition, np.arcsinh(systematic.beta)])
        return (place - self.low) / (self.high - self.low)


class Evaluation(NamedTuple):
    """One systematic on the search's maps; gradients are by the coordinates of the cube.

    Attributes:
        kl: mean KL(q(. | perturbed) || q(. | clean)), nats.
        kl_gradient: (3,).
        change: relative change of the mean contrast spectrum, <P'> / <P> - 1, (n_bins,).
        change_jacobian: (n_bins, 3).
        least_density: smallest density before clipping at zero, counts.
    """

    kl: float
    kl_gradient: np.ndarray
    change: np.ndarray
    change_jacobian: np.ndarray
    least_density: float

    @property
    def is_finite(self) -> bool:
        """False where the posterior or the spectrum overflows."""
        return bool(np.isfinite(self.kl) and np.all(np.isfinite(self.change)))

    @property
    def max_change(self) -> float:
        """What the fence limits: the largest |change| over the bins."""
        return float(np.abs(self.change).max())

    @property
    def max_change_gradient(self) -> np.ndarray:
        """Gradient of `max_change`, (3,): that of the bin that sets it."""
        worst = int(np.abs(self.change).argmax())
        return np.sign(self.change[worst]) * self.change_jacobian[worst]


class Objective:
    """Evaluates points of the cube on a fixed set of maps, all of them in memory at once.

    The fence is on the density contrast, because a constant offset, which no raw bin sees, is a
    change of every mode of the contrast. Densities are clipped at zero before anything is measured.

    Args:
        maps: (n, N, N) in counts.
        posterior: what is to be fooled.
        box_size: side of a map, Mpc/h.
        cube: the coordinates.
    """

    def __init__(self, maps: Any, posterior: Posterior, box_size: float, cube: Cube) -> None:
        self.cube = cube
        self._maps = tf.constant(maps, tf.float32)
        self._posterior = posterior
        self._box_size = box_size
        self._clean = posterior(self._maps)
        self._clean_power = self._mean_power(self._maps)
        self._compiled = tf.function(self._evaluate)

    def __call__(self, point: np.ndarray) -> Evaluation:
        """Evaluate one point (3,)."""
        tensors = self._compiled(tf.constant(point, tf.float32))
        value, gradient, change, jacobian, least = (t.numpy().astype(np.float64) for t in tensors)
        return Evaluation(float(value), gradient, change, jacobian, float(least))

    def _evaluate(self, point: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """The KL's gradient by one backward pass; the bins' by one forward pass a coordinate."""
        with tf.GradientTape() as tape:
            tape.watch(point)
            systematic = self.cube.systematic(point)
            perturbed = self._posterior(systematic(self._maps))
            value = tf.reduce_mean(kl(perturbed, self._clean))
        columns = []
        for tangent in tf.unstack(tf.eye(3, dtype=point.dtype)):
            with tf.autodiff.ForwardAccumulator(point, tangent) as forward:
                power = self._mean_power(self.cube.systematic(point)(self._maps))
                change = power / self._clean_power - 1
            columns.append(forward.jvp(change))
        least = tf.reduce_min(systematic.unclipped(self._maps))
        return value, tape.gradient(value, point), change, tf.stack(columns, axis=1), least

    def _mean_power(self, maps: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(spectra.power(maps, self._box_size, contrast=True), axis=0)
