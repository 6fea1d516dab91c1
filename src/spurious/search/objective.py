"""How much a systematic of a family fools a posterior, and what else it changes, with gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from spurious.inference.distributions import kl
from spurious.inference.posterior import Posterior
from spurious.perturbations.base import possible
from spurious.search.families import Family
from spurious.search.fences import FenceValue, Observed, build_fences
from spurious.search.goals import Goal, MeanKL

FORWARD, BACKWARD = 1, 2  # network work of a pass over all maps


class Evaluation(NamedTuple):
    """One point on the search's maps; derivatives are by the d coordinates of the cube.

    Attributes:
        value: the goal as the optimiser climbs it.
        gradient: of the value, (d,); None where only values were asked for.
        kl: mean KL(q(. | perturbed) || q(. | clean)) in nats, whatever the goal.
        fences: name -> what the fence says.
        least_density: smallest density before clipping at zero, counts.
        reported: the goal as it is told; differs from `value` only where that is smoothed.
        quadratic: whether the value is quadratic in a small change, see `Goal`.
    """

    value: float
    gradient: np.ndarray | None
    kl: float
    fences: dict[str, FenceValue]
    least_density: float
    reported: float = np.nan
    quadratic: bool = True

    @property
    def is_finite(self) -> bool:
        """False where the posterior or a fence overflows, or has a gradient that does."""
        numbers = [np.atleast_1d(self.value), np.atleast_1d(self.kl)]
        numbers += [part for fence in self.fences.values() for part in (fence.values,)]
        derivatives = [self.gradient, *(fence.jacobian for fence in self.fences.values())]
        numbers += [part for part in derivatives if part is not None]
        return all(bool(np.all(np.isfinite(part))) for part in numbers)

    def excess(self, limits: Mapping[str, float]) -> dict[str, float]:
        """Height minus limit of each fence that has a limit; feasible where <= 0."""
        return {name: self.fences[name].height - limit for name, limit in limits.items()}

    def is_feasible(self, limits: Mapping[str, float]) -> bool:
        """Whether it is finite and within every limit."""
        return self.is_finite and all(excess <= 0 for excess in self.excess(limits).values())


class Objective:
    """Evaluates points of a family's cube on a fixed set of maps, all of them in memory at once.

    Densities are clipped at zero before anything is measured: negative ones cannot be.

    Args:
        maps: (n, N, N) in counts.
        posterior: what is to be fooled.
        box_size: side of a map, Mpc/h.
        family: what the coordinates mean.
        goal: what is maximised; by default the mean KL.
        fences: names of what is limited or otherwise wanted, see `spurious.search.fences`.

    Attributes:
        work: network work so far, in forward passes over all maps: a backward pass counts two, and
            the pass over the clean maps, which all competitors need, is left out. Fences need no
            network.
    """

    def __init__(
        self,
        maps: Any,
        posterior: Posterior,
        box_size: float,
        family: Family,
        goal: Goal | None = None,
        fences: Sequence[str] = ("power",),
    ) -> None:
        self.family = family
        self.goal = goal or MeanKL()
        self.work = 0
        self._fences = build_fences(fences)
        self._posterior = posterior
        self._box_size = box_size
        self._maps = tf.constant(maps, tf.float32)
        self._clean = posterior(self._maps)
        self._observed = Observed(self._maps, box_size)
        # Also computes what the fences need of the clean maps, before any graph is built.
        sizes = [len(fence.values(self._observed, self._observed)) for fence in self._fences]
        self._ends = np.cumsum(sizes)[:-1]
        middle = family.effect(np.full(family.dimension, 0.5))
        # XLA fuses what is done pixel by pixel; its Fourier transforms are slow on CPUs.
        self._moved = tf.function(self._perturbed, jit_compile=middle.POINTWISE)
        self._with_gradients = tf.function(self._evaluate)
        self._values_only = tf.function(self._values)
        self._fences_alone = tf.function(self._fences_at)

    def __call__(self, point: np.ndarray) -> Evaluation:
        """Evaluate one point (d,) with all gradients."""
        self.work += FORWARD + BACKWARD
        goal, fences = self._with_gradients(tf.constant(point, tf.float32))
        return self._evaluation(goal, fences)

    def value_only(self, point: np.ndarray) -> Evaluation:
        """Evaluate one point (d,) without gradients: a third of the network work."""
        self.work += FORWARD
        goal, fences = self._values_only(tf.constant(point, tf.float32))
        return self._evaluation(goal, fences)

    def fences(self, point: np.ndarray) -> dict[str, FenceValue]:
        """The fences alone at one point (d,), with gradients: no network work."""
        values, jacobian = self._fences_alone(tf.constant(point, tf.float32))
        return self._split(_array(values), _array(jacobian))

    def _evaluate(self, point: tf.Tensor) -> tuple[Any, Any]:
        """The goal's gradient by one backward pass; the fences' by one forward pass a coordinate.

        The fences never touch the network, so only the goal's pass is network work.
        """
        with tf.GradientTape() as tape:
            tape.watch(point)
            value, others = self._goal_at(point)
        zero = tf.UnconnectedGradients.ZERO
        gradient = tape.gradient(value, point, unconnected_gradients=zero)
        return (value, gradient, *others), self._fences_at(point)

    def _goal_at(self, point: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        unclipped = self.family.effect(point).unclipped(self._maps)
        perturbed = self._posterior(possible(unclipped))
        value = self.goal(perturbed, self._clean)
        if self.goal == MeanKL():
            return value, (value, value, tf.reduce_min(unclipped))
        divergence = tf.reduce_mean(kl(perturbed, self._clean))
        reported = self.goal.reported(perturbed, self._clean)
        return value, (divergence, reported, tf.reduce_min(unclipped))

    def _fences_at(self, point: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Values of all fences one after the other, (m,), and their Jacobian, (m, d)."""
        perturbed, derivatives = self._moved(point)
        columns = []
        for derivative in tf.unstack(derivatives):
            with tf.autodiff.ForwardAccumulator(perturbed, derivative) as forward:
                values = self._fence_values(perturbed)
            zero = tf.UnconnectedGradients.ZERO
            columns.append(forward.jvp(values, unconnected_gradients=zero))
        return values, tf.stack(columns, axis=1)

    def _perturbed(self, point: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The perturbed maps, (n, N, N), and their derivatives by the coordinates, (d, n, N, N)."""
        derivatives = []
        for tangent in tf.unstack(tf.eye(self.family.dimension, dtype=point.dtype)):
            with tf.autodiff.ForwardAccumulator(point, tangent) as forward:
                perturbed = self.family.effect(point)(self._maps)
            zero = tf.UnconnectedGradients.ZERO
            derivatives.append(forward.jvp(perturbed, unconnected_gradients=zero))
        return perturbed, tf.stack(derivatives)

    def _fence_values(self, perturbed: tf.Tensor) -> tf.Tensor:
        observed = Observed(perturbed, self._box_size)
        return tf.concat([f.values(observed, self._observed) for f in self._fences], axis=0)

    def _values(self, point: tf.Tensor) -> tuple[Any, Any]:
        value, others = self._goal_at(point)
        perturbed = self.family.effect(point)(self._maps)
        return (value, None, *others), (self._fence_values(perturbed), None)

    def _evaluation(self, goal: Any, fences: Any) -> Evaluation:
        value, gradient, divergence, reported, least = (_array(one) for one in goal)
        return Evaluation(
            value=float(value),
            gradient=gradient,
            kl=float(divergence),
            fences=self._split(*(_array(one) for one in fences)),
            least_density=float(least),
            reported=float(reported),
            quadratic=self.goal.quadratic,
        )

    def _split(self, values: np.ndarray, jacobian: np.ndarray | None) -> dict[str, FenceValue]:
        parts = np.split(values, self._ends)
        nothing = [None] * len(parts)
        rows = nothing if jacobian is None else np.split(jacobian, self._ends)
        names = [fence.name for fence in self._fences]
        return {
            name: FenceValue.of(part, block)
            for name, part, block in zip(names, parts, rows, strict=True)
        }


def _array(tensor: Any) -> Any:
    """In double precision; None stays None."""
    return None if tensor is None else tensor.numpy().astype(np.float64)
