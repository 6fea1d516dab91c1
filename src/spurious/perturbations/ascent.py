"""What gradient attacks share: where they start, what they may reach, and which end is kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, get_args

import numpy as np

from spurious.description.marks import Doc, Unless, Within
from spurious.description.quantities import Budget
from spurious.lazy import tf
from spurious.perturbations.base import BatchSize, Upper, like, refuse_above, require
from spurious.perturbations.constraints import Ball, Constraints, satisfy
from spurious.perturbations.objectives import AnyObjective, named
from spurious.perturbations.steps import AnyNorm, Norm, draw_start, starts
from spurious.progress import track

if TYPE_CHECKING:
    from spurious.posteriors.posterior import Posterior

START = 0.1  # size of the start of an objective that is flat at the clean map, in steps
START_SEED = (0, 0)
LAST_ROUNDS = 30  # alternating projections after the last step
PIXELS = 128**3  # at a time, at most: 128 maps of 128 x 128


@dataclass(frozen=True)
class Ascent(ABC):
    """Climbs of an objective, each from its own start; the best end is kept, map by map.

    Without a random start, an objective with zero gradient at the clean map (the KL divergences)
    starts from a fixed pattern of plus or minus a tenth of the first step, the same for every map.

    Spectral constraints conflict with the ball and with densities at zero. Each step projects
    onto them and then onto the ball; `LAST_ROUNDS` alternations follow the last step. Ball and
    range hold exactly, spectral constraints up to what the alternations leave: rounding with an L2
    ball or none, more in an L-infinity ball that the steps fill. The row of damage shows it as the
    change of the power spectrum.

    Raises:
        ValueError: a value is out of its range; in a call, the truth is missing, a clean map
            exceeds `upper`, or the objective does not depend on the maps at all.
    """

    posterior: Posterior
    epsilon: Annotated[
        float | None,
        Budget,
        Unless(None),
        Doc(
            "radius of the ball: largest change of a pixel (linf) or RMS change (l2); none: no "
            "ball, which needs alpha and constraints"
        ),
    ]
    alpha: Annotated[
        float | None, Budget, Doc("size of the first step; none: the attack's own choice")
    ] = None
    steps: Annotated[int, Within(1, 10_000), Doc("number of steps")] = 20
    norm: AnyNorm = "linf"
    objective: Annotated[AnyObjective, Doc("what is increased")] = "nll"
    random_start: Annotated[
        bool,
        Doc(
            "start anywhere in the ball (without one, within alpha), not at the clean map; the "
            "draw is the same for every map"
        ),
    ] = True
    restarts: Annotated[
        int, Within(1, 1000), Doc("random starts, of which the best is kept map by map")
    ] = 1
    constraints: Annotated[Constraints, Doc("what else must hold, projected onto in turn")] = ()
    upper: Upper = None
    seed: int = 0
    batch_size: BatchSize = 128

    def __post_init__(self) -> None:
        self.consistent(vars(self))
        require(0, np.inf, epsilon=self.epsilon, alpha=self.alpha)
        require(1, np.inf, steps=self.steps, restarts=self.restarts, batch_size=self.batch_size)
        if self.norm not in get_args(Norm):
            raise ValueError(f"norm = {self.norm!r} must be one of {get_args(Norm)}")
        named(self.objective)

    @staticmethod
    def consistent(given: Mapping[str, Any]) -> None:
        """Refuse steps without an end, and several starts from the clean map."""
        if given["epsilon"] is None and (given["alpha"] is None or not given["constraints"]):
            raise ValueError("epsilon: without one, give alpha and constraints")
        if given["restarts"] > 1 and not given["random_start"]:
            raise ValueError(f"restarts = {given['restarts']} must be 1 without random_start")

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; some objectives need the truth."""
        return self._batched(self._attack, maps, truth)

    def ends(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """Where each start leads, before the best is chosen: (batch, restarts, N, N)."""
        return self._batched(self._every, maps, truth)

    @property
    @abstractmethod
    def first_step(self) -> float:
        """Size of the first step, counts."""

    @property
    def step_norm(self) -> Norm:
        """The norm of which a step is the steepest ascent."""
        return self.norm

    @abstractmethod
    def _climb(
        self, clean: tf.Tensor, truth: tf.Tensor, reference: Any, seed: tf.Tensor
    ) -> tf.Tensor:
        """All steps from one start, within what is allowed.

        Args:
            clean: the maps, (batch, N, N).
            truth: their parameters, (batch, p).
            reference: the posterior of the clean maps.
            seed: of the start, (2, 2).
        """

    def _batched(self, attack: Callable[..., tf.Tensor], maps: Any, truth: Any) -> tf.Tensor:
        """`attack`, a batch at a time, on what may be attacked."""
        maps = tf.convert_to_tensor(maps)
        if truth is None:
            if named(self.objective).needs_truth:
                raise ValueError(f"objective {self.objective!r} needs the truth")
            truth = tf.zeros((len(maps), 1))
        refuse_above(self.upper, maps)
        parts = in_batches(attack, self.batch_size, "attack", maps, like(truth, maps))
        return tf.concat(parts, axis=0)

    @cached_property
    def _ball(self) -> Ball:
        return Ball(self.epsilon, self.norm, self.upper)

    @cached_property
    def _attack(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """All starts and steps as one graph, traced once for any batch size."""
        return tf.function(self._best, reduce_retracing=True)

    @cached_property
    def _every(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """All starts, with all their steps, as one graph."""
        return tf.function(self._ends, reduce_retracing=True)

    def _ends(self, clean: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        reference = self.posterior(clean)
        seeds = starts(self.seed, self.restarts)
        ends = tf.map_fn(
            lambda seed: self._climb(clean, truth, reference, seed),
            seeds,
            fn_output_signature=clean.dtype,
        )
        return tf.transpose(ends, [1, 0, 2, 3])

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

    def _start(self, clean: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if self.random_start:
            size = like(self.first_step if self.epsilon is None else self.epsilon, clean)
            start = draw_start(clean, size, self.norm, seed)
        elif named(self.objective).flat_at_clean:
            pattern = tf.random.stateless_uniform(
                tf.shape(clean)[1:], START_SEED, -1, 1, clean.dtype
            )
            start = clean + like(START * self.first_step, clean) * tf.sign(pattern)
        else:
            return clean
        return self._allowed(start, clean)

    def _allowed(self, maps: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """One round of projections."""
        return satisfy(maps, clean, self.constraints, self._ball)

    def _settled(self, maps: tf.Tensor, clean: tf.Tensor) -> tf.Tensor:
        """The last rounds of projections."""
        if not self.constraints:
            return maps
        return satisfy(maps, clean, self.constraints, self._ball, LAST_ROUNDS)

    def _value(self, maps: tf.Tensor, reference: Any, truth: tf.Tensor) -> tf.Tensor:
        """The objective of each map, (batch,)."""
        return named(self.objective)(self.posterior(maps), reference, truth)

    def _evaluate(
        self, maps: tf.Tensor, reference: Any, truth: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The objective of each map and its gradient in that map, because maps do not mix."""
        return value_and_gradient(
            lambda maps: self._value(maps, reference, truth), maps, self.objective
        )


def value_and_gradient(
    value: Callable[[tf.Tensor], tf.Tensor], maps: tf.Tensor, objective: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """An objective's values and the gradient of their sum.

    Args:
        value: maps -> values of any shape.
        maps: where.
        objective: what it is, for the error's text.

    Raises:
        ValueError: the values do not depend on the maps.
    """
    with tf.GradientTape() as tape:
        tape.watch(maps)
        found = value(maps)
    gradient = tape.gradient(found, maps)
    if gradient is None:
        raise ValueError(f"objective {objective!r} does not depend on the maps")
    return found, gradient


def in_batches(attack: Callable[..., Any], size: int, name: str, *rows: tf.Tensor) -> list[Any]:
    """`attack` of `size` rows at a time, in a list; after two seconds with a progress bar.

    The first of `rows` are maps (n, N, N); of large ones, fewer at a time.
    """
    size = min(size, max(1, PIXELS // rows[0].shape[-1] ** 2))
    firsts = range(0, len(rows[0]), size)
    bar = track(firsts, name=name, unit="batch", delay=2)
    return [attack(*(one[first : first + size] for one in rows)) for first in bar]
