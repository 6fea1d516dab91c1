"""One pattern for all maps: a universal adversarial perturbation.

Moosavi-Dezfooli et al. 2017 (arXiv:1610.08401) showed that one change fools a network on most of
its inputs. Here it is found by stochastic gradient ascent of the mean objective over maps, as in
Shafahi et al. 2020 (arXiv:1811.11304), within a ball:

    v <- project(v + alpha direction(m)),  m <- 0.9 m + mean over a batch of grad_v J(g(x) + v)

where g rolls, flips and transposes each map at random, so that no place of the pattern knows a
place of a map: only their relative position enters, and it is averaged over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

import numpy as np

from spurious import seeds
from spurious.description.marks import Doc, Within
from spurious.description.quantities import Budget
from spurious.lazy import tf
from spurious.perturbations.ascent import START, value_and_gradient
from spurious.perturbations.base import Upper, like, possible, require
from spurious.perturbations.constraints import within
from spurious.perturbations.gradient import REACH
from spurious.perturbations.objectives import AnyObjective, named
from spurious.perturbations.steps import AnyNorm, Norm, accumulate, direction, scheduled

if TYPE_CHECKING:
    from spurious.posteriors.posterior import Posterior

MOMENTUM = 0.9


@dataclass(frozen=True, eq=False)
class Pattern:
    """The same change of every map; densities stay in range by clipping.

    Args:
        pattern: (N, N), counts.
        upper: largest density allowed, counts.
    """

    pattern: np.ndarray
    upper: float | None = None

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; the truth does not matter.

        Raises:
            ValueError: the maps have another size than the pattern.
        """
        maps = tf.convert_to_tensor(maps)
        if tuple(maps.shape[1:]) != self.pattern.shape:
            raise ValueError(
                f"maps are {tuple(maps.shape[1:])} but the pattern is {self.pattern.shape}"
            )
        return possible(maps + like(self.pattern, maps), self.upper)


@dataclass(frozen=True, eq=False)
class Universal:
    """A pattern trained on some maps, to change others; trained at its first use.

    Args:
        posterior: what is attacked.
        training_maps: (n, N, N) in counts; not those that will be perturbed.
        training_truth: their true parameters, (n, p), if the objective needs them.
        seed: root of the batches, of how their maps are rolled, and of the start.

    Raises:
        ValueError: a value is out of its range, there are no maps, or the truth is missing.
    """

    FILLED: ClassVar[tuple[str, ...]] = ("training_maps", "training_truth")

    posterior: Posterior
    epsilon: Annotated[
        float, Budget, Doc("size of the pattern: largest (linf) or RMS (l2); clipping leaves less")
    ]
    training_maps: np.ndarray = field(repr=False)
    training_truth: np.ndarray | None = field(default=None, repr=False)
    alpha: Annotated[
        float | None,
        Budget,
        Doc("first step; steps fall linearly. None: all together make 2.5 epsilon"),
    ] = None
    steps: Annotated[int, Within(1, 100_000), Doc("each with the mean gradient of a batch")] = 100
    norm: AnyNorm = "linf"
    objective: Annotated[AnyObjective, Doc("whose mean over the maps is increased")] = "nll"
    upper: Upper = None
    seed: int = 0
    batch_size: Annotated[int, Within(1, 4096), Doc("maps a step")] = 32

    def __post_init__(self) -> None:
        require(0, np.inf, epsilon=self.epsilon, alpha=self.alpha)
        require(1, np.inf, steps=self.steps)
        if self.norm not in get_args(Norm):
            raise ValueError(f"norm = {self.norm!r} must be one of {get_args(Norm)}")
        if len(self.training_maps) == 0 or self.batch_size < 1:
            raise ValueError(
                f"{len(self.training_maps)} maps and batch_size = {self.batch_size}: at least 1"
            )
        if self.training_truth is None and named(self.objective).needs_truth:
            raise ValueError(f"objective {self.objective!r} needs the truth")

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; the truth of these maps does not matter."""
        return self.perturbation(maps)

    @cached_property
    def pattern(self) -> np.ndarray:
        """What is added to every map before clipping, (N, N) in the type of the training maps."""
        maps = tf.convert_to_tensor(self.training_maps)
        known = self.training_truth is not None
        truth = like(self.training_truth if known else np.zeros((len(maps), 1)), maps)
        batches = [tf.constant(part) for part in self._batches()]
        return tf.function(self._train)(maps, truth, *batches).numpy()

    def extras(self) -> dict[str, np.ndarray]:
        """See `HasExtras`: the `pattern`."""
        return {"pattern": self.pattern}

    @cached_property
    def perturbation(self) -> Pattern:
        """The trained pattern on its own, without the maps and the network."""
        return Pattern(self.pattern, self.upper)

    def _batches(self) -> tuple[np.ndarray, ...]:
        """What each step sees: which maps, (steps, batch), and how they lie.

        Which rows and columns of a map become its own, (2, steps, batch, N), and whether they
        change places, (steps, batch).
        """
        draw = seeds.generator(self.seed, "universal batches")
        count, n = len(self.training_maps), self.training_maps.shape[-1]
        shape = (self.steps, min(self.batch_size, count))
        passes = -(-shape[0] * shape[1] // count)
        chosen = np.concatenate([draw.permutation(count) for _ in range(passes)])
        rolled, sense = draw.integers(n, size=(2, *shape, 1)), draw.choice([-1, 1], (2, *shape, 1))
        order = (rolled + sense * np.arange(n)) % n
        return chosen[: shape[0] * shape[1]].reshape(shape), order, draw.random(shape) < 0.5

    def _train(
        self,
        maps: tf.Tensor,
        truth: tf.Tensor,
        chosen: tf.Tensor,
        order: tf.Tensor,
        turn: tf.Tensor,
    ) -> tf.Tensor:
        """All steps as one graph."""
        alpha = self._first_step
        pattern = self._start(maps)
        velocity = tf.zeros_like(pattern)
        for i in tf.range(self.steps):
            clean = laid(tf.gather(maps, chosen[i]), order[0, i], order[1, i], turn[i])
            gradient = self._gradient(pattern, clean, tf.gather(truth, chosen[i]))
            velocity = accumulate(velocity, gradient, MOMENTUM)
            size = scheduled(like(alpha, maps), i, self.steps, "linear")
            pattern = self._project(pattern + size * direction(velocity, self.norm))
        return pattern[0]

    @property
    def _first_step(self) -> float:
        if self.alpha is not None:
            return self.alpha
        return REACH * self.epsilon * 2 / (self.steps + 1)

    def _start(self, maps: tf.Tensor) -> tf.Tensor:
        """A faint random pattern, as in the KL divergences nothing leads away from none."""
        seed = seeds.stateless(self.seed, "universal start")
        draw = tf.random.stateless_uniform((1, *maps.shape[1:]), seed, -1, 1, maps.dtype)
        return like(START * min(self._first_step, self.epsilon), maps) * tf.sign(draw)

    def _project(self, pattern: tf.Tensor) -> tf.Tensor:
        return within(pattern, tf.zeros_like(pattern), like(self.epsilon, pattern), self.norm)

    def _gradient(self, pattern: tf.Tensor, clean: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
        """Gradient of the batch's mean objective in the pattern, (1, N, N)."""
        reference = self.posterior(clean)

        def mean(pattern: tf.Tensor) -> tf.Tensor:
            perturbed = self.posterior(possible(clean + pattern, self.upper))
            return tf.reduce_mean(named(self.objective)(perturbed, reference, truth))

        return value_and_gradient(mean, pattern, self.objective)[1]


def laid(maps: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Maps with their rows and columns in another order, some transposed after that.

    Args:
        maps: (batch, N, N).
        rows: which row of each map becomes its first, second, ...: (batch, N).
        columns: likewise.
        turn: which maps are transposed, (batch,).
    """
    maps = tf.gather(maps, rows, axis=1, batch_dims=1)
    maps = tf.gather(maps, columns, axis=2, batch_dims=1)
    return tf.where(turn[:, None, None], tf.transpose(maps, (0, 2, 1)), maps)
