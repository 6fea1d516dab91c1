"""How much a systematic of a family fools a posterior, and what else it changes, with gradients."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from spurious.densities.divergences import kl
from spurious.perturbations.base import possible
from spurious.posteriors.posterior import Posterior
from spurious.search.families import Family
from spurious.search.fences import Fence, FenceValue, build_fences
from spurious.search.goals import Goal, MeanKL
from spurious.search.observed import Observed

FORWARD, BACKWARD = 1, 2  # network work of a pass of one network over all maps


class Evaluation(NamedTuple):
    """One point on the search's maps; derivatives are by the d coordinates of the cube.

    Attributes:
        value: the goal as the optimiser climbs it.
        gradient: of the value, (d,); None where only values were asked for.
        kl: mean KL(q(. | perturbed) || q(. | clean)) in nats, whatever the goal, over all maps and
            posteriors.
        fences: name -> what the fence says.
        least_density: smallest density before clipping at zero, counts.
        reported: the goal as it is reported; differs from `value` only where that is smoothed.
        quadratic: whether the value is quadratic in a small change, see `Goal`.
        kls: the mean KL of each posterior.
    """

    value: float
    gradient: np.ndarray | None
    kl: float
    fences: dict[str, FenceValue]
    least_density: float
    reported: float = np.nan
    quadratic: bool = True
    kls: tuple[float, ...] = ()

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
        posterior: what is to be fooled; of several, such as independent trainings of one network,
            the mean of the goal over them is maximised.
        box_size: side of a map, Mpc/h.
        family: what the coordinates mean.
        goal: what is maximised; by default the mean KL.
        fences: names of what is limited or otherwise wanted, see `spurious.search.fences`.
        confidence: with which the heights of all fences are upper bounds at once (Bonferroni);
            None: they are estimates.
        groups: number of the simulation that each map is of, (n,); default: one a map.
        labels: true parameters of the maps (n, p), for fences that ask for them.

    Attributes:
        family: what the coordinates mean.
        goal: what is maximised.
        box_size: side of a map, Mpc/h.
        work: network work so far, in forward passes of one network over all maps: a backward pass
            counts two, and the pass over the clean maps, which all competitors need, is left out.
            Fences need no network.

    Raises:
        ValueError: there is no posterior.
    """

    def __init__(
        self,
        maps: Any,
        posterior: Posterior | Sequence[Posterior],
        box_size: float,
        family: Family,
        goal: Goal | None = None,
        fences: Sequence[str] = ("power",),
        confidence: float | None = None,
        groups: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> None:
        self.family = family
        self.goal = goal or MeanKL()
        self.work = 0
        self._fences = build_fences(fences)
        self._posteriors = tuple(posterior) if isinstance(posterior, Sequence) else (posterior,)
        if not self._posteriors:
            raise ValueError("an objective needs at least one posterior")
        self.box_size = box_size
        self._confidence = None if confidence is None else 1 - (1 - confidence) / len(fences)
        self._maps = tf.constant(maps, tf.float32)
        self._clean = [one(self._maps) for one in self._posteriors]
        self._observed = Observed(self._maps, box_size, groups, labels)
        # Also computes what the fences need of the clean maps, before any graph is built.
        sizes = [len(self._values_of(fence, self._observed)) for fence in self._fences]
        self._ends = np.cumsum(sizes)[:-1]
        middle = family.effect(np.full(family.dimension, 0.5))
        # XLA fuses what is done pixel by pixel; its Fourier transforms are slow on CPUs.
        self._moved = tf.function(self._perturbed, jit_compile=middle.POINTWISE)
        self._with_gradients = tf.function(self._evaluate)
        self._values_only = tf.function(self._values)
        self._fences_alone = tf.function(self._fences_at)

    def __call__(self, point: np.ndarray) -> Evaluation:
        """Evaluate one point (d,) with all gradients."""
        self.work += (FORWARD + BACKWARD) * len(self._posteriors)
        goal, fences = self._with_gradients(self._scaled(point))
        return self._evaluation(goal, fences)

    def value_only(self, point: np.ndarray) -> Evaluation:
        """Evaluate one point (d,) without gradients: a third of the network work."""
        self.work += FORWARD * len(self._posteriors)
        goal, fences = self._values_only(self._scaled(point))
        return self._evaluation(goal, fences)

    def fences(self, point: np.ndarray) -> dict[str, FenceValue]:
        """The fences alone at one point (d,), with gradients: no network work."""
        values, jacobian = self._fences_alone(self._scaled(point))
        return self._split(_array(values), _array(jacobian))

    def of(self, family: Family) -> Objective:
        """The same in another cube: of a family that differs in its bounds only.

        The programs that TensorFlow has built are shared, which saves most of the time of a few
        evaluations; the work is counted anew.
        """
        other = copy.copy(self)
        other.family, other.work = family, 0
        return other

    def _scaled(self, point: np.ndarray) -> tf.Tensor:
        """What the programs take: they know of no bounds."""
        return tf.constant(self.family.scaled(point), tf.float32)

    def _evaluate(self, scaled: tf.Tensor) -> tuple[Any, Any]:
        """The goal's gradient by one backward pass; the fences' by one forward pass a coordinate.

        The fences never touch the network, so only the goal's pass is network work.
        """
        with tf.GradientTape() as tape:
            tape.watch(scaled)
            value, others = self._goal_at(scaled)
        zero = tf.UnconnectedGradients.ZERO
        gradient = tape.gradient(value, scaled, unconnected_gradients=zero)
        return (value, gradient, *others), self._fences_at(scaled)

    def _goal_at(self, scaled: tf.Tensor) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """The goal, and what else the posteriors say: their KLs, and the goal as it is reported."""
        unclipped = self.family.scaled_effect(scaled).unclipped(self._maps)
        maps = possible(unclipped)
        pairs = [(one(maps), q) for one, q in zip(self._posteriors, self._clean, strict=True)]
        values = tf.stack([self.goal(*pair) for pair in pairs])
        least = tf.reduce_min(unclipped)
        if self.goal == MeanKL():
            return tf.reduce_mean(values), (values, tf.reduce_mean(values), least)
        divergences = tf.stack([tf.reduce_mean(kl(*pair)) for pair in pairs])
        reported = tf.reduce_mean(tf.stack([self.goal.reported(*pair) for pair in pairs]))
        return tf.reduce_mean(values), (divergences, reported, least)

    def _fences_at(self, scaled: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Values of all fences one after the other, (m,), and their Jacobian, (m, d)."""
        perturbed, derivatives = self._moved(scaled)
        columns = []
        for derivative in tf.unstack(derivatives):
            with tf.autodiff.ForwardAccumulator(perturbed, derivative) as forward:
                values = self._fence_values(perturbed)
            zero = tf.UnconnectedGradients.ZERO
            columns.append(forward.jvp(values, unconnected_gradients=zero))
        return values, tf.stack(columns, axis=1)

    def _perturbed(self, scaled: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The perturbed maps, (n, N, N), and their derivatives by the coordinates, (d, n, N, N)."""
        derivatives = []
        for tangent in tf.unstack(tf.eye(self.family.dimension, dtype=scaled.dtype)):
            with tf.autodiff.ForwardAccumulator(scaled, tangent) as forward:
                perturbed = self.family.scaled_effect(scaled)(self._maps)
            zero = tf.UnconnectedGradients.ZERO
            derivatives.append(forward.jvp(perturbed, unconnected_gradients=zero))
        return perturbed, tf.stack(derivatives)

    def _fence_values(self, perturbed: tf.Tensor) -> tf.Tensor:
        observed = Observed(perturbed, self.box_size)
        return tf.concat([self._values_of(one, observed) for one in self._fences], axis=0)

    def _values_of(self, fence: Fence, observed: Observed) -> tf.Tensor:
        return fence.values(observed, self._observed, self._confidence)

    def _values(self, scaled: tf.Tensor) -> tuple[Any, Any]:
        value, others = self._goal_at(scaled)
        perturbed = self.family.scaled_effect(scaled)(self._maps)
        return (value, None, *others), (self._fence_values(perturbed), None)

    def _evaluation(self, goal: Any, fences: Any) -> Evaluation:
        value, gradient, divergences, reported, least = (_array(one) for one in goal)
        return Evaluation(
            value=float(value),
            gradient=None if gradient is None else gradient * self.family.widths,
            kl=float(np.mean(divergences)),
            fences=self._split(*(_array(one) for one in fences)),
            least_density=float(least),
            reported=float(reported),
            quadratic=self.goal.quadratic,
            kls=tuple(divergences.tolist()),
        )

    def _split(self, values: np.ndarray, jacobian: np.ndarray | None) -> dict[str, FenceValue]:
        parts = np.split(values, self._ends)
        rows: list[np.ndarray | None] = [None] * len(parts)
        if jacobian is not None:
            rows = [*np.split(jacobian * self.family.widths, self._ends)]
        names = [fence.name for fence in self._fences]
        return {
            name: FenceValue.of(part, block)
            for name, part, block in zip(names, parts, rows, strict=True)
        }


def _array(tensor: Any) -> Any:
    """In double precision; None stays None."""
    return None if tensor is None else tensor.numpy().astype(np.float64)
