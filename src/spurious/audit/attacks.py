"""The attacks of an audit: each is one graph, whatever budgets and steps it is given.

Building an attack costs seconds of tracing, and a curve needs one for every budget. So budgets are
variables here, set call by call. A subclass may put another attack in place of any of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tensorflow as tf

from spurious.inference.posterior import Posterior
from spurious.perturbations.ascent import LAST_ROUNDS
from spurious.perturbations.constraints import Ball, Constraint, satisfy
from spurious.perturbations.gradient import PGD, REACH
from spurious.perturbations.noise import GaussianNoise, RandomSign
from spurious.perturbations.spectral import Bounded, PhaseOnly

BIM_STEPS = 10  # Horowitz & Melchior 2022, with alpha = 0.01: Section 3


class Adjustable:
    """PGD on the negative log-likelihood of the truth, from the clean map, all budgets variable.

    Args:
        posterior: what is attacked.
        settings: further arguments of `PGD`.
    """

    def __init__(self, posterior: Posterior, **settings: Any) -> None:
        self._epsilon = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self._alpha = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self._steps = tf.Variable(1, trainable=False, dtype=tf.int32)
        self.pgd = PGD(
            posterior,
            self._epsilon,
            self._alpha,
            self._steps,
            **{"random_start": False, **settings},
        )

    def set(self, epsilon: float, steps: int, reach: float = REACH) -> None:
        """The ball in counts, the number of steps, and the sum of all steps in its radii."""
        self._epsilon.assign(epsilon)
        self._alpha.assign(reach * epsilon / steps)
        self._steps.assign(steps)


@dataclass(frozen=True)
class Attacks:
    """White-box attacks on one posterior, and the noise that they are compared with.

    All take maps (n, N, N) and their true parameters (n, p), and sizes in counts.

    Args:
        posterior: what is attacked.
        steps: of every iterative attack; BIM has the paper's ten.
        restarts: number of random starts in `ends`.
        seed: root of random starts and noise.
    """

    posterior: Posterior
    steps: int = 10
    restarts: int = 3
    seed: int = 0

    def bim(self, maps: Any, truth: Any, epsilon: float) -> tf.Tensor:
        """The paper's ten steps, which together just reach `epsilon`."""
        self._linf.set(epsilon, BIM_STEPS, reach=1.0)
        return self._linf.pgd(maps, truth)

    def pgd(self, maps: Any, truth: Any, epsilon: float, steps: int | None = None) -> tf.Tensor:
        """Steps that could cross the ball, no pixel changed by more than `epsilon`."""
        self._linf.set(epsilon, steps or self.steps)
        return self._linf.pgd(maps, truth)

    def fgsm(self, maps: Any, truth: Any, epsilon: float) -> tf.Tensor:
        """A single step of `epsilon`."""
        self._linf.set(epsilon, 1, reach=1.0)
        return self._linf.pgd(maps, truth)

    def pgd_l2(self, maps: Any, truth: Any, epsilon: float) -> tf.Tensor:
        """An RMS change of at most `epsilon`."""
        self._l2.set(epsilon, self.steps)
        return self._l2.pgd(maps, truth)

    def bounded(self, maps: Any, truth: Any, epsilon: float, fraction: float) -> tf.Tensor:
        """The same, with every annulus' power kept within a fraction of its cosmic variance."""
        self._fraction.assign(fraction)
        self._bounded.set(epsilon, self.steps)
        return self._bounded.pgd(maps, truth)

    def phase_only(self, maps: Any, truth: Any, epsilon: float) -> tf.Tensor:
        """The same, with every mode's amplitude kept."""
        self._phase_only.set(epsilon, self.steps)
        return self._phase_only.pgd(maps, truth)

    def ends(self, maps: Any, truth: Any, epsilon: float) -> tf.Tensor:
        """Where PGD ends from each random start in the ball: (n, restarts, N, N)."""
        self._started.set(epsilon, self.steps)
        return self._started.pgd.ends(maps, truth)

    def random_sign(self, maps: Any, epsilon: float) -> tf.Tensor:
        """Every pixel changed by `epsilon`, up or down at random."""
        return RandomSign(epsilon, self.seed)(maps)

    def noise(self, maps: Any, rms: float) -> tf.Tensor:
        """White Gaussian noise."""
        return GaussianNoise(rms, self.seed)(maps)

    def bounded_noise(self, maps: Any, rms: float, fraction: float) -> tf.Tensor:
        """White Gaussian noise, drawn back to what `bounded` may do."""
        clean = tf.convert_to_tensor(maps)
        self._fraction.assign(fraction)
        return self._fenced(self.noise(clean, rms), clean, tf.constant(rms, tf.float64))

    @cached_property
    def _linf(self) -> Adjustable:
        return Adjustable(self.posterior)

    @cached_property
    def _l2(self) -> Adjustable:
        return Adjustable(self.posterior, norm="l2")

    @cached_property
    def _fraction(self) -> tf.Variable:
        return tf.Variable(0.0, trainable=False, dtype=tf.float64)

    @cached_property
    def _fence(self) -> Constraint:
        return Bounded(self._fraction)

    @cached_property
    def _bounded(self) -> Adjustable:
        return Adjustable(self.posterior, norm="l2", constraints=(self._fence,))

    @cached_property
    def _fenced(self) -> Any:
        fence = self._fence  # a variable must not be made within a graph

        @tf.function(reduce_retracing=True)
        def fenced(maps: tf.Tensor, clean: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
            return satisfy(maps, clean, (fence,), Ball(epsilon, "l2"), LAST_ROUNDS)

        return fenced

    @cached_property
    def _phase_only(self) -> Adjustable:
        return Adjustable(self.posterior, norm="l2", constraints=(PhaseOnly(),))

    @cached_property
    def _started(self) -> Adjustable:
        return Adjustable(self.posterior, random_start=True, restarts=self.restarts, seed=self.seed)
