"""White-box attacks: steps along the sign of an objective's gradient.

The basic iterative method (BIM; Kurakin, Goodfellow & Bengio 2017, arXiv:1607.02533; Eq. 2 of
Horowitz & Melchior 2022, arXiv:2211.14788) repeats

    x <- Clip(x + alpha sign(grad_x J(q(. | x), y)))

and the fast gradient sign method (FGSM; Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572) is its
first step. Three pieces make an attack: an objective J, a step, and a projection back to what is
allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import tensorflow as tf
from tqdm import tqdm

from spurious.inference.posterior import Posterior, kl
from spurious.perturbations.base import like, possible

Objective = Literal["nll", "kl"]
START = 0.1  # size of the start of objective "kl", in steps
START_SEED = (0, 0)


def negative_log_likelihood(perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
    """-log q(truth | perturbed map), the paper's J: (batch,)."""
    return -perturbed.log_prob(truth)


def divergence(perturbed: Any, clean: Any, truth: tf.Tensor) -> tf.Tensor:
    """KL(q(. | perturbed map) || q(. | clean map)), which needs no truth: (batch,)."""
    return kl(perturbed, clean)


OBJECTIVES: dict[str, Callable[[Any, Any, tf.Tensor], tf.Tensor]] = {
    "nll": negative_log_likelihood,
    "kl": divergence,
}


def sign_step(maps: tf.Tensor, gradient: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Move every pixel by `alpha` uphill."""
    return maps + alpha * tf.sign(gradient)


def project(maps: tf.Tensor, clean: tf.Tensor, epsilon: Any, upper: float | None) -> tf.Tensor:
    """Nearest maps within `epsilon` of the clean ones in every pixel, and possible."""
    return possible(tf.clip_by_value(maps, clean - epsilon, clean + epsilon), upper)


@dataclass(frozen=True)
class BIM:
    """Basic iterative method.

    The KL divergence is least, and its gradient zero, at the clean map. So "kl" starts from a
    fixed pattern of plus or minus alpha / 10, the same for every map, inside the same budget.

    Args:
        posterior: what is attacked.
        alpha: size of a step, counts.
        steps: number of steps.
        epsilon: largest change of a pixel, counts; by default what the steps can reach,
            alpha x steps.
        objective: what is increased: "nll" of the truth (the paper) or "kl" from the clean
            posterior.
        upper: largest density allowed, counts; clean maps must not exceed it.
        batch_size: maps attacked at a time, which sets the memory.
    """

    posterior: Posterior
    alpha: float
    steps: int = 10
    epsilon: float | None = None
    objective: Objective = "nll"
    upper: float | None = None
    batch_size: int = 128

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or self.steps < 1:
            raise ValueError(
                f"alpha = {self.alpha} must be at least 0 and steps = {self.steps} at least 1"
            )
        if self.epsilon is not None and not self.epsilon >= 0:
            raise ValueError(f"epsilon = {self.epsilon} must be at least 0")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective = {self.objective!r} must be one of {list(OBJECTIVES)}")

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; the objective "nll" needs the truth."""
        maps = tf.convert_to_tensor(maps)
        if truth is None:
            if self.objective == "nll":
                raise ValueError("objective 'nll' needs the truth")
            truth = tf.zeros((len(maps), 1))
        truth = like(truth, maps)
        starts = range(0, len(maps), self.batch_size)
        bar = tqdm(starts, desc="attack", unit="batch", delay=2, leave=False)
        batches = (slice(start, start + self.batch_size) for start in bar)
        return tf.concat([self._attack(maps[rows], truth[rows]) for rows in batches], axis=0)

    @cached_property
    def _attack(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """All steps as one graph, traced once for any batch size."""
        return tf.function(self._iterate, reduce_retracing=True)

    def _iterate(self, clean: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        alpha = like(self.alpha, clean)
        reach = self.alpha * self.steps if self.epsilon is None else self.epsilon
        epsilon = like(reach, clean)
        reference = self.posterior(clean)
        maps = self._start(clean, epsilon)
        for _ in tf.range(self.steps):
            gradient = self._gradient(maps, reference, truth)
            maps = project(sign_step(maps, gradient, alpha), clean, epsilon, self.upper)
        return maps

    def _start(self, clean: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        if self.objective == "nll":
            return clean
        pattern = tf.random.stateless_uniform(tf.shape(clean)[1:], START_SEED, -1, 1, clean.dtype)
        return project(clean + START * self.alpha * tf.sign(pattern), clean, epsilon, self.upper)

    def _gradient(self, maps: tf.Tensor, reference: Any, truth: tf.Tensor) -> tf.Tensor:
        """Gradient of the summed objective: each map's own, because maps do not mix."""
        with tf.GradientTape() as tape:
            tape.watch(maps)
            total = tf.reduce_sum(
                OBJECTIVES[self.objective](self.posterior(maps), reference, truth)
            )
        return tape.gradient(total, maps)


@dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method: one step of size `epsilon` counts; arguments as for `BIM`."""

    posterior: Posterior
    epsilon: float
    objective: Objective = "nll"
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
