"""White-box attacks: steps uphill along an objective's gradient, within what is allowed.

Four pieces make an attack: an objective (`objectives`), a step and a start (`steps`), and what it
may reach (`constraints`, `spectral`). All attacks here are one loop with different settings:

    x <- project(x + alpha direction(grad_x J(q(. | x), y)))

- FGSM, the fast gradient sign method (Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572): one step
  along the sign.
- BIM, the basic iterative method (Kurakin, Goodfellow & Bengio 2017, arXiv:1607.02533; Eq. 2 of
  Horowitz & Melchior 2022, arXiv:2211.14788): several steps along the sign.
- PGD, projected gradient descent (Madry et al. 2018, arXiv:1706.06083): also in L2, from random
  starts, of which the best is kept map by map. From the clean map and with momentum it is MI-FGSM
  (Dong et al. 2018, arXiv:1710.06081).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import tensorflow as tf
from tqdm import tqdm

from spurious.inference.posterior import Posterior
from spurious.perturbations.base import like
from spurious.perturbations.constraints import Ball, Constraint, satisfy
from spurious.perturbations.objectives import Objective, named
from spurious.perturbations.steps import (
    Decay,
    Norm,
    accumulate,
    direction,
    draw_start,
    scheduled,
    starts,
)

START = 0.1  # size of the start of an objective that is flat at the clean map, in steps
START_SEED = (0, 0)
REACH = 2.5  # sum of all steps by default, in radii of the ball
LAST_ROUNDS = 30  # alternating projections after the last step


@dataclass(frozen=True)
class PGD:
    """Projected gradient descent, uphill.

    Without a random start, an objective with zero gradient at the clean map (the KL divergences)
    starts from a fixed pattern of plus or minus alpha / 10, the same for every map.

    Spectral constraints conflict with the ball and with densities at zero. Each step projects
    onto them and then onto the ball; `LAST_ROUNDS` alternations follow the last step. Ball and
    range hold exactly, spectral constraints up to what the alternations leave: rounding with an L2
    ball or none, more in an L-infinity ball that the steps fill. The row of damage shows it as the
    change of the power spectrum.

    Args:
        posterior: what is attacked.
        epsilon: radius of the ball, counts as `norm` measures them; None: no ball, which needs
            `alpha` and constraints.
        alpha: size of the first step, counts; by default such that all steps together cross the
            ball with some to spare, 2.5 epsilon (Madry et al.).
        steps: number of steps.
        norm: "linf" (every pixel) or "l2" (root mean square over a map's pixels).
        objective: what is increased, a name of `OBJECTIVES` or an `Objective`.
        decay: "constant" steps, or "linear" from alpha down to alpha / steps.
        momentum: weight of the gradients before, from 0 (none) to 1 (all alike).
        random_start: start anywhere in the ball (without one, within `alpha`), not at the clean
            map. The draw is the same for every map.
        restarts: number of random starts; the result with the largest objective is kept, map by
            map.
        constraints: what else must hold, projected onto in turn.
        upper: largest density allowed, counts; clean maps must not exceed it.
        seed: root of the random starts.
        batch_size: maps attacked at a time, which sets the memory.

    Raises:
        ValueError: a value is out of its range; in a call, the truth is missing, a clean map
            exceeds `upper`, or the objective does not depend on the maps at all.
    """

    posterior: Posterior
    epsilon: float | None
    alpha: float | None = None
    steps: int = 20
    norm: Norm = "linf"
    objective: str | Objective = "nll"
    decay: Decay = "constant"
    momentum: float = 0.0
    random_start: bool = True
    restarts: int = 1
    constraints: tuple[Constraint, ...] = ()
    upper: float | None = None
    seed: int = 0
    batch_size: int = 128

    def __post_init__(self) -> None:
        if self.epsilon is not None and not self.epsilon >= 0:
            raise ValueError(f"epsilon = {self.epsilon} must be at least 0")
        if self.epsilon is None and (self.alpha is None or not self.constraints):
            raise ValueError("epsilon: without one, give alpha and constraints")
        if (self.alpha is not None and not self.alpha >= 0) or self.steps < 1:
            raise ValueError(
                f"alpha = {self.alpha} must be at least 0 and steps = {self.steps} at least 1"
            )
        if self.norm not in get_args(Norm) or self.decay not in get_args(Decay):
            raise ValueError(
                f"norm = {self.norm!r} must be one of {get_args(Norm)} and "
                f"decay = {self.decay!r} one of {get_args(Decay)}"
            )
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum = {self.momentum} must lie between 0 and 1")
        if self.restarts < 1 or (self.restarts > 1 and not self.random_start):
            raise ValueError(
                f"restarts = {self.restarts} must be at least 1, and 1 without random_start"
            )
        named(self.objective)

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; some objectives need the truth."""
        maps = tf.convert_to_tensor(maps)
        if truth is None:
            if named(self.objective).needs_truth:
                raise ValueError(f"objective {self.objective!r} needs the truth")
            truth = tf.zeros((len(maps), 1))
        truth = like(truth, maps)
        if self.upper is not None and tf.reduce_max(maps) > self.upper:
            raise ValueError(
                f"upper = {self.upper} must be at least the largest clean density, "
                f"{float(tf.reduce_max(maps)):g}"
            )
        firsts = range(0, len(maps), self.batch_size)
        bar = tqdm(firsts, desc="attack", unit="batch", delay=2, leave=False)
        batches = (slice(first, first + self.batch_size) for first in bar)
        return tf.concat([self._attack(maps[rows], truth[rows]) for rows in batches], axis=0)

    @cached_property
    def first_step(self) -> float:
        """Size of the first step, counts."""
        if self.alpha is not None:
            return self.alpha
        assert self.epsilon is not None  # see __post_init__
        mean = 1.0 if self.decay == "constant" else (self.steps + 1) / (2 * self.steps)
        return REACH * self.epsilon / (self.steps * mean)

    @cached_property
    def _ball(self) -> Ball:
        return Ball(self.epsilon, self.norm, self.upper)

    @cached_property
    def _attack(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """All starts and steps as one graph, traced once for any batch size."""
        return tf.function(self._best, reduce_retracing=True)

    def _best(self, clean: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        """The best of all starts, map by map."""
        reference = self.posterior(clean)
        seeds = starts(self.seed, self.restarts)
        best = self._climb(clean, truth, reference, seeds[0])
        if self.restarts == 1:
            return best
        record = self._value(best, reference, truth)
        for seed in seeds[1:]:
            maps = self._climb(clean, truth, reference, seed)
            value = self._value(maps, reference, truth)
            best = tf.where((value > record)[:, None, None], maps, best)
            record = tf.maximum(value, record)
        return best

    def _climb(
        self, clean: tf.Tensor, truth: tf.Tensor, reference: Any, seed: tf.Tensor
    ) -> tf.Tensor:
        """All steps from one start."""
        alpha = like(self.first_step, clean)
        maps = self._start(clean, seed)
        velocity = tf.zeros_like(clean)
        for i in tf.range(self.steps):
            gradient = self._gradient(maps, reference, truth)
            if self.momentum:
                velocity = accumulate(velocity, gradient, self.momentum)
                gradient = velocity
            size = scheduled(alpha, i, self.steps, self.decay)
            maps = maps + size * direction(gradient, self.norm)
            maps = satisfy(maps, clean, self.constraints, self._ball)
        if not self.constraints:
            return maps
        return satisfy(maps, clean, self.constraints, self._ball, LAST_ROUNDS)

    def _start(self, clean: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if self.random_start:
            size = like(self.first_step if self.epsilon is None else self.epsilon, clean)
            start = draw_start(clean, size, self.norm, seed)
        elif named(self.objective).flat_at_clean:
            pattern = tf.random.stateless_uniform(
                tf.shape(clean)[1:], START_SEED, -1, 1, clean.dtype
            )
            start = clean + START * self.first_step * tf.sign(pattern)
        else:
            return clean
        return satisfy(start, clean, self.constraints, self._ball)

    def _value(self, maps: tf.Tensor, reference: Any, truth: tf.Tensor) -> tf.Tensor:
        """The objective of each map, (batch,)."""
        return named(self.objective)(self.posterior(maps), reference, truth)

    def _gradient(self, maps: tf.Tensor, reference: Any, truth: tf.Tensor) -> tf.Tensor:
        """Gradient of the summed objective: each map's own, because maps do not mix."""
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(self._value(maps, reference, truth))
        gradient = tape.gradient(total, maps)
        if gradient is None:
            raise ValueError(f"objective {self.objective!r} does not depend on the maps")
        return gradient


@dataclass(frozen=True)
class BIM:
    """Basic iterative method: PGD along the sign, from the clean map, with constant steps.

    Args:
        posterior: what is attacked.
        alpha: size of a step, counts.
        steps: number of steps.
        epsilon: largest change of a pixel, counts; by default what the steps can reach,
            alpha x steps.
        objective: what is increased: "nll" of the truth (the paper), another name of `OBJECTIVES`
            or an `Objective`.
        upper: largest density allowed, counts; clean maps must not exceed it.
        batch_size: maps attacked at a time, which sets the memory.
        constraints: as for `PGD`.
    """

    posterior: Posterior
    alpha: float
    steps: int = 10
    epsilon: float | None = None
    objective: str | Objective = "nll"
    upper: float | None = None
    batch_size: int = 128
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        _ = self.pgd  # refuses what is impossible before work starts

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; some objectives need the truth."""
        return self.pgd(maps, truth)

    @cached_property
    def pgd(self) -> PGD:
        """The same attack in PGD's terms."""
        return PGD(
            self.posterior,
            epsilon=self.alpha * self.steps if self.epsilon is None else self.epsilon,
            alpha=self.alpha,
            steps=self.steps,
            objective=self.objective,
            random_start=False,
            constraints=self.constraints,
            upper=self.upper,
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method: one step of size `epsilon` counts; arguments as for `BIM`."""

    posterior: Posterior
    epsilon: float
    objective: str | Objective = "nll"
    upper: float | None = None
    batch_size: int = 128

    def __post_init__(self) -> None:
        _ = self.bim  # refuses what is impossible before work starts

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`."""
        return self.bim(maps, truth)

    @cached_property
    def bim(self) -> BIM:
        """The same attack as a single step of the iterative method."""
        return BIM(
            self.posterior,
            alpha=self.epsilon,
            steps=1,
            objective=self.objective,
            upper=self.upper,
            batch_size=self.batch_size,
        )
