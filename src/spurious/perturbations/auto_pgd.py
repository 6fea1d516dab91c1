"""Auto-PGD: projected gradient ascent that chooses its own step sizes.

Croce & Hein 2020 (arXiv:2003.01690), Algorithm 1: a step with momentum,

    z <- project(x_k + eta direction(grad J))
    x_(k+1) <- project(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_(k-1))),

and checkpoints, closer and closer, at which eta is halved and the climb goes on from the best map
so far, if J rose in fewer than three quarters of the steps since the last one, or if neither eta
nor the best J has changed since. Every map has its own eta.

The record only means something if its maps are allowed. Spectral constraints and a ball are
satisfied by alternating projections, of which a single round leaves a violation that grows with
eta; a map of the first, long steps would hold the record for ever by what it must not do, and every
halving would lead back to it. So `ROUNDS` of them precede every evaluation. And within constraints
a step follows the gradient itself, whatever the ball's norm: the projections onto them are
orthogonal, so they keep what they allow of the gradient, but turn its signs, which are as good as
white noise to most modes, into something else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from spurious.lazy import tf
from spurious.perturbations.ascent import Ascent
from spurious.perturbations.base import like
from spurious.perturbations.constraints import satisfy
from spurious.perturbations.steps import Norm, direction

if TYPE_CHECKING:
    Evaluate = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

MOMENTUM = 0.75  # weight of the step, the rest is that of the one before: alpha of the paper
RISING = 0.75  # steps that must go up between two checkpoints: rho
FIRST_STEP = 2.0  # in radii of the ball
FIRST_STEP_WITHIN = {"linf": 0.25, "l2": 1.0}  # the same within constraints, as an RMS; measured
FIRST_CHECKPOINT, LEAST_WINDOW, SHORTENING = 22, 6, 3  # in per cent of the steps
ROUNDS = 5  # alternating projections before a map is evaluated


@dataclass(frozen=True)
class AutoPGD(Ascent):
    """Auto-PGD, uphill: projected gradient ascent without a step size to choose.

    It takes one gradient more than `PGD` of as many steps, and its result is the best map of each
    climb rather than the last.

    `epsilon` may be a float64 variable of TensorFlow: then one trace serves every value that it is
    given between calls.

    Without alpha, the first step is 2 epsilon, as in the paper, or within constraints epsilon / 4
    in an L-infinity ball and epsilon in an L2 ball. It is an RMS if steps are gradients, see
    `step_norm`.

    Raises:
        ValueError: as for `Ascent`.
    """

    @property
    def first_step(self) -> float:
        """Size of the first step, counts."""
        if self.alpha is not None:
            return self.alpha
        assert self.epsilon is not None  # see __post_init__
        return (FIRST_STEP_WITHIN[self.norm] if self.constraints else FIRST_STEP) * self.epsilon

    @property
    def step_norm(self) -> Norm:
        """See `Ascent`: the ball's, or "l2" within constraints."""
        return "l2" if self.constraints else self.norm

    @property
    def windows(self) -> tf.Tensor:
        """When step sizes are reconsidered, see `checkpoints`: (steps + 1,)."""
        return tf.constant(checkpoints(self.steps))

    def _climb(
        self, clean: tf.Tensor, truth: tf.Tensor, reference: Any, seed: tf.Tensor
    ) -> tf.Tensor:
        best, _ = climb(
            lambda maps: self._evaluate(maps, reference, truth),
            lambda maps: self._allowed(maps, clean),
            lambda maps: satisfy(maps, clean, self.constraints, self._ball, ROUNDS),
            self._start(clean, seed),
            tf.fill((tf.shape(clean)[0], 1, 1), like(self.first_step, clean)),
            self.windows,
            self.step_norm,
        )
        return self._settled(best, clean)


def climb(
    evaluate: Evaluate,
    project: Callable[[tf.Tensor], tf.Tensor],
    settle: Callable[[tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    size: tf.Tensor,
    windows: tf.Tensor,
    norm: Norm,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Algorithm 1, for each map on its own; inside a `tf.function`.

    Args:
        evaluate: maps to the objective of each, (batch,), and its gradient.
        project: maps to the nearest allowed ones, or nearly.
        settle: the same of maps that are evaluated next, so that the best of them is allowed.
        start: allowed maps, (batch, N, N).
        size: of the first step of each map, counts, (batch, 1, 1).
        windows: the `checkpoints` of so many steps, (steps + 1,).
        norm: what a step's size means.

    Returns:
        The best map of each climb and its objective.
    """
    value, gradient = evaluate(start)
    maps, previous, weight = start, start, like(1.0, start)
    best, slope, record = start, gradient, value
    rises, halved, checked = tf.zeros_like(value), tf.zeros_like(value, tf.bool), value
    for i in tf.range(1, tf.size(windows)):
        stepped = project(maps + size * direction(gradient, norm))
        ahead = maps + weight * (stepped - maps) + (1 - weight) * (maps - previous)
        previous, maps, weight = maps, settle(ahead), like(MOMENTUM, start)
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
