"""The attacks of an audit: one graph each, for all budgets and numbers of steps.

Building an attack costs seconds of tracing, and a curve needs one for every budget. So budgets are
variables here, set in each call. A subclass may replace any of these attacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import tensorflow as tf

from spurious.perturbations.ascent import LAST_ROUNDS
from spurious.perturbations.auto_pgd import AutoPGD, checkpoints
from spurious.perturbations.constraints import Ball, Constraint, satisfy
from spurious.perturbations.gradient import BIM, PGD
from spurious.perturbations.noise import GaussianNoise, RandomSign
from spurious.perturbations.spectral import Bounded, PhaseOnly
from spurious.perturbations.steps import Decay, Norm
from spurious.posteriors.posterior import Posterior

OBJECTIVE = "kl_perturbed_clean"  # what attacks climb here, and what is counted
BIM_STEPS = 10  # Horowitz & Melchior 2022, with alpha = 0.01: Section 3


@dataclass(frozen=True)
class Limit:
    """What an attack may do to a map.

    Attributes:
        epsilon: largest change, counts as `norm` measures it.
        norm: "linf" (each pixel) or "l2" (root mean square over a map's pixels).
        fraction: of one map's cosmic variance by which the power of an annulus may change; None:
            no limit.
        phases_only: whether every Fourier mode keeps its amplitude.
    """

    epsilon: float
    norm: Norm = "linf"
    fraction: float | None = None
    phases_only: bool = False

    @property
    def constrained(self) -> bool:
        """Whether the power spectrum is limited too."""
        return self.fraction is not None or self.phases_only

    @property
    def kind(self) -> tuple[str, bool, bool]:
        """The kind of limit; limits of one kind share a graph."""
        return self.norm, self.fraction is not None, self.phases_only


@dataclass(frozen=True)
class Scheduled(AutoPGD):
    """Auto-PGD whose number of steps is a variable."""

    marks: tf.Variable = field(kw_only=True)

    @property
    def windows(self) -> tf.Tensor:
        """See `AutoPGD`."""
        return self.marks


@dataclass(frozen=True)
class Shrinking(PGD):
    """PGD, whose steps are gradients within constraints and shrink linearly."""

    decay: Decay = "linear"

    @property
    def step_norm(self) -> Norm:
        """See `Ascent`."""
        return "l2" if self.constraints else self.norm


class Adjustable:
    """Auto-PGD on KL(perturbed || clean), from random starts, all budgets variable.

    Args:
        posterior: the posterior to attack.
        limit: determines the kind of limit; its numbers are ignored.
        restarts: number of random starts.
        seed: of the starts.
        kind: class of the attack.
    """

    def __init__(
        self,
        posterior: Posterior,
        limit: Limit,
        restarts: int,
        seed: int,
        kind: type[Scheduled] = Scheduled,
    ) -> None:
        self._epsilon, self._fraction = (
            tf.Variable(0.0, trainable=False, dtype=tf.float64) for _ in range(2)
        )
        self._marks = tf.Variable(checkpoints(1), trainable=False, shape=[None])
        constraints: list[Constraint] = [PhaseOnly()] if limit.phases_only else []
        if limit.fraction is not None:
            constraints.append(Bounded(self._fraction))
        self.attack = kind(
            posterior,
            self._epsilon,
            norm=limit.norm,
            objective=OBJECTIVE,
            restarts=restarts,
            constraints=tuple(constraints),
            seed=seed,
            marks=self._marks,
        )

    def set(self, limit: Limit, steps: int) -> Scheduled:
        """The attack with these budgets and this number of steps."""
        self._epsilon.assign(limit.epsilon)
        self._fraction.assign(0.0 if limit.fraction is None else limit.fraction)
        self._marks.assign(checkpoints(steps))
        return self.attack


@dataclass(frozen=True)
class Attacks:
    """White-box attacks on one posterior, and the noise that they are compared with.

    All take maps (n, N, N), and sizes in counts.

    Args:
        posterior: the posterior to attack.
        steps: of the strongest attack within a ball.
        constrained_steps: of the strongest attack that also keeps the power spectrum.
        restarts: its number of random starts.
        seed: root of random starts and noise.

    Attributes:
        CLIMBING: class of the strongest attack.
        LONG: class of the one that it is compared with.
    """

    CLIMBING: ClassVar[type[Scheduled]] = Scheduled
    LONG: ClassVar[type[Shrinking]] = Shrinking

    posterior: Posterior
    steps: int = 20
    constrained_steps: int = 40
    restarts: int = 1
    seed: int = 0
    _built: dict[Any, Adjustable] = field(default_factory=dict, init=False, repr=False)

    def steps_within(self, limit: Limit) -> int:
        """Number of steps of the strongest attack."""
        return self.constrained_steps if limit.constrained else self.steps

    def strongest(self, maps: Any, limit: Limit, steps: int | None = None) -> tf.Tensor:
        """The strongest attack known here: Auto-PGD, the best of all its starts."""
        return self._adjusted(limit, self.restarts, steps)(maps)

    def ends(self, maps: Any, limit: Limit, count: int) -> tf.Tensor:
        """Maps where it ends from each of `count` random starts: (n, count, N, N)."""
        return self._adjusted(limit, count, None).ends(maps)

    def reference(self, maps: Any, limit: Limit, steps: int) -> tf.Tensor:
        """Another attack, long and from another start: `Shrinking`."""
        constraints = self._adjusted(limit, self.restarts, None).constraints
        return self.LONG(
            self.posterior,
            limit.epsilon,
            limit.epsilon / (4 if constraints else 1),
            steps,
            norm=limit.norm,
            objective=OBJECTIVE,
            constraints=constraints,
            seed=self.seed + 1,
        )(maps)

    def bim(self, maps: Any, truth: Any, epsilon: float) -> tf.Tensor:
        """The paper's attack: ten steps that together just reach `epsilon`, on -log q(truth)."""
        return BIM(self.posterior, epsilon / BIM_STEPS, BIM_STEPS)(maps, truth)

    def fgsm(self, maps: Any, epsilon: float) -> tf.Tensor:
        """A single step of `epsilon`, from beside the clean map, where KL is flat."""
        self._step.assign(epsilon)
        return self._fgsm(maps)

    def random_sign(self, maps: Any, epsilon: float) -> tf.Tensor:
        """Every pixel changed by `epsilon`, up or down at random."""
        return RandomSign(epsilon, self.seed)(maps)

    def noise(self, maps: Any, rms: float) -> tf.Tensor:
        """White Gaussian noise."""
        return GaussianNoise(rms, self.seed)(maps)

    def bounded_noise(self, maps: Any, rms: float, fraction: float) -> tf.Tensor:
        """White Gaussian noise, projected onto what the strongest attack may do."""
        clean = tf.convert_to_tensor(maps)
        self._fraction.assign(fraction)
        return self._fenced(self.noise(clean, rms), clean, tf.constant(rms, tf.float64))

    def _adjusted(self, limit: Limit, restarts: int, steps: int | None) -> Scheduled:
        key = (*limit.kind, restarts)
        if key not in self._built:
            self._built[key] = Adjustable(self.posterior, limit, restarts, self.seed, self.CLIMBING)
        return self._built[key].set(limit, steps or self.steps_within(limit))

    @cached_property
    def _step(self) -> tf.Variable:
        return tf.Variable(0.0, trainable=False, dtype=tf.float64)

    @cached_property
    def _fgsm(self) -> PGD:
        return PGD(
            self.posterior, self._step, self._step, 1, objective=OBJECTIVE, random_start=False
        )

    @cached_property
    def _fraction(self) -> tf.Variable:
        return tf.Variable(0.0, trainable=False, dtype=tf.float64)

    @cached_property
    def _fenced(self) -> Any:
        fence = Bounded(self._fraction)  # a variable must not be made within a graph

        @tf.function(reduce_retracing=True)
        def fenced(maps: tf.Tensor, clean: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
            return satisfy(maps, clean, (fence,), Ball(epsilon, "l2"), LAST_ROUNDS)

        return fenced
