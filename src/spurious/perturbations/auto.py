"""Auto-PGD: projected gradient ascent that chooses its own step sizes.

Croce & Hein 2020 (arXiv:2003.01690), Algorithm 1: a step with momentum,

    z <- project(x_k + eta direction(grad J))
    x_(k+1) <- project(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_(k-1))),

and checkpoints, closer and closer, at which eta is halved and the climb goes on from the best map
so far, if J rose in fewer than three quarters of the steps since the last one, or if neither eta
nor the best J has changed since. Every map has its own eta.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from spurious.inference.posterior import Posterior
from spurious.perturbations.base import like
from spurious.perturbations.constraints import Constraint, satisfy
from spurious.perturbations.gradient import LAST_ROUNDS, PGD
from spurious.perturbations.objectives import Objective
from spurious.perturbations.steps import Norm, direction

MOMENTUM = 0.75  # weight of the step, the rest is that of the one before: alpha of the paper
RISING = 0.75  # steps that must go up between two checkpoints: rho
FIRST_STEP = 2.0  # in radii of the ball
FIRST_CHECKPOINT, LEAST_WINDOW, SHORTENING = 22, 6, 3  # in per cent of the steps

Evaluate = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@dataclass(frozen=True)
class AutoPGD:
    """Auto-PGD, uphill: `PGD` without a step size to choose.

    It takes one gradient more than `PGD` of as many steps, and its result is the best map of each
    climb rather than the last.

    Args:
        posterior: what is attacked.
        epsilon: radius of the ball, counts as `norm` measures them; None: no ball, which needs
            `alpha` and constraints.
        alpha: size of the first step, counts; by default 2 epsilon, as in the paper.
        steps: number of steps.
        norm, objective, random_start, restarts, constraints, upper, seed, batch_size: as for
            `PGD`.

    Raises:
        ValueError: as for `PGD`.
    """

    posterior: Posterior
    epsilon: float | None
    alpha: float | None = None
    steps: int = 20
    norm: Norm = "linf"
    objective: str | Objective = "nll"
    random_start: bool = True
    restarts: int = 1
    constraints: tuple[Constraint, ...] = ()
    upper: float | None = None
    seed: int = 0
    batch_size: int = 128

    def __post_init__(self) -> None:
        _ = self.pgd  # refuses what is impossible before work starts

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; some objectives need the truth."""
        return self.pgd(maps, truth)

    @cached_property
    def pgd(self) -> PGD:
        """PGD with the same settings, whose climbs choose their steps."""
        alpha = self.alpha
        if alpha is None and self.epsilon is not None:
            alpha = FIRST_STEP * self.epsilon
        return _Adaptive(
            self.posterior,
            self.epsilon,
            alpha,
            self.steps,
            self.norm,
            self.objective,
            random_start=self.random_start,
            restarts=self.restarts,
            constraints=self.constraints,
            upper=self.upper,
            seed=self.seed,
            batch_size=self.batch_size,
        )


class _Adaptive(PGD):
    """PGD with another way to climb."""

    def _climb(
        self, clean: tf.Tensor, truth: tf.Tensor, reference: Any, seed: tf.Tensor
    ) -> tf.Tensor:
        best, _ = climb(
            lambda maps: self._evaluate(maps, reference, truth),
            lambda maps: satisfy(maps, clean, self.constraints, self._ball),
            self._start(clean, seed),
            tf.fill((tf.shape(clean)[0], 1, 1), like(self.first_step, clean)),
            self.steps,
            self.norm,
        )
        if not self.constraints:
            return best
        return satisfy(best, clean, self.constraints, self._ball, LAST_ROUNDS)

    def _evaluate(
        self, maps: tf.Tensor, reference: Any, truth: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The objective of each map and its gradient."""
        with tf.GradientTape() as tape:
            tape.watch(maps)
            value = self._value(maps, reference, truth)
        gradient = tape.gradient(value, maps)
        if gradient is None:
            raise ValueError(f"objective {self.objective!r} does not depend on the maps")
        return value, gradient


def climb(
    evaluate: Evaluate,
    project: Callable[[tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    size: tf.Tensor,
    steps: int,
    norm: Norm,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Algorithm 1, for each map on its own; inside a `tf.function`.

    Args:
        evaluate: maps to the objective of each, (batch,), and its gradient.
        project: maps to the nearest allowed ones.
        start: allowed maps, (batch, N, N).
        size: of the first step of each map, counts, (batch, 1, 1).
        steps: number of steps.
        norm: what a step's size means.

    Returns:
        The best map of each climb and its objective.
    """
    windows = tf.constant(checkpoints(steps))
    value, gradient = evaluate(start)
    maps, previous, weight = start, start, like(1.0, start)
    best, slope, record = start, gradient, value
    rises, halved, checked = tf.zeros_like(value), tf.zeros_like(value, tf.bool), value
    for i in tf.range(1, steps + 1):
        stepped = project(maps + size * direction(gradient, norm))
        ahead = maps + weight * (stepped - maps) + (1 - weight) * (maps - previous)
        previous, maps, weight = maps, project(ahead), like(MOMENTUM, start)
        last = value
        value, gradient = evaluate(maps)
        rises += tf.cast(value > last, rises.dtype)
        best = _where(value > record, maps, best)
        slope = _where(value > record, gradient, slope)
        record = tf.maximum(value, record)
        if windows[i] > 0:
            wanted = tf.cast(windows[i], rises.dtype) * tf.constant(RISING, rises.dtype)
            halved = (rises < wanted) | (~halved & (record <= checked))
            size = _where(halved, size / 2, size)
            maps, gradient = _where(halved, best, maps), _where(halved, slope, gradient)
            value = tf.where(halved, record, value)
            checked, rises = record, tf.zeros_like(rises)
    return best, record


def checkpoints(steps: int) -> np.ndarray:
    """At each step that is a checkpoint, the steps since the one before; 0 at all others.

    They are at ceil(p_j steps) with p_0 = 0, p_1 = 0.22 and
    p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06): (steps + 1,).
    """
    windows = np.zeros(steps + 1, np.int32)
    share, width, last = FIRST_CHECKPOINT, FIRST_CHECKPOINT, 0
    while share <= 100:
        place = -(-share * steps // 100)
        if place > last:  # of few steps, several shares are the same one
            windows[place], last = place - last, place
        width = max(width - SHORTENING, LEAST_WINDOW)
        share += width
    return windows


def _where(rows: tf.Tensor, yes: tf.Tensor, no: tf.Tensor) -> tf.Tensor:
    """`tf.where` map by map."""
    return tf.where(rows[:, None, None], yes, no)
