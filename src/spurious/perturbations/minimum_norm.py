"""The smallest change that moves a posterior by a given distance.

The distance is that of the posterior's mean from where it was, d = |L^-1 (mean' - mean)| with
L L^T the clean posterior's covariance (Mahalanobis): standard deviations, alike for any choice of
parameters, and with one parameter |shift| / sigma. Its inverse question, how far a given budget
moves the posterior, is that of `Displacement` as the objective of any attack.

The budget is bisected map by map, with Auto-PGD (`auto.climb`) as what tries a budget. Whatever
succeeds is drawn back toward the clean map as far as it still succeeds, which often makes the
budget much smaller than the bisection alone would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_args

import numpy as np

from spurious.description.marks import Doc, Inside, Within
from spurious.description.quantities import Budget
from spurious.lazy import tf
from spurious.perturbations.ascent import in_batches, value_and_gradient
from spurious.perturbations.auto_pgd import FIRST_STEP, checkpoints, climb
from spurious.perturbations.base import BatchSize, Upper, like, possible, refuse_above, require
from spurious.perturbations.constraints import within
from spurious.perturbations.steps import PIXELS, AnyNorm, Norm, draw_start, rms, starts

if TYPE_CHECKING:
    from spurious.posteriors.posterior import Posterior

DRAWS = 12  # halvings when a success is drawn back: 1 / 4096 of its size


class Minimum(NamedTuple):
    """The smallest changes found.

    Attributes:
        maps: perturbed maps, (n, N, N); where nothing succeeded, the farthest that was reached.
        epsilons: sizes of the changes, counts under the norm, (n,); inf where the largest budget
            does not suffice.
        distances: of the posterior's mean from the clean one, in clean standard deviations, (n,).
    """

    maps: tf.Tensor
    epsilons: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Displacement:
    """Mahalanobis distance of the posterior's mean from the clean one, squared, over 2."""

    needs_truth = False
    flat_at_clean = True

    def __call__(self, perturbed: Any, clean: Any, truth: Any = None) -> tf.Tensor:
        """See `Objective`."""
        shift = (perturbed.mean() - clean.mean())[..., None]
        whitened = tf.linalg.triangular_solve(tf.linalg.cholesky(clean.covariance()), shift)
        return 0.5 * tf.reduce_sum(whitened**2, (1, 2))


@dataclass(frozen=True)
class MinimumNorm:
    """The smallest change of each map that moves its posterior's mean by so many clean sigmas.

    Raises:
        ValueError: a value is out of its range.
    """

    posterior: Posterior
    sigmas: Annotated[
        float,
        Within(0, 100),
        Inside(0),
        Doc("how far, in standard deviations of the clean posterior (Mahalanobis)"),
    ]
    largest: Annotated[float, Budget, Doc("largest budget that is tried")]
    norm: AnyNorm = "l2"
    steps: Annotated[int, Within(1, 10_000), Doc("of each attack that tries a budget")] = 20
    restarts: Annotated[
        int,
        Within(1, 1000),
        Doc("random starts at the largest budget; later attacks start from what succeeded last"),
    ] = 3
    bisections: Annotated[
        int,
        Within(0, 30),
        Doc("budgets tried after that; the smallest is known to 2^-bisections of itself"),
    ] = 7
    upper: Upper = None
    seed: int = 0
    batch_size: BatchSize = 128
    _last: dict[str, np.ndarray] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.sigmas > 0:
            raise ValueError(f"sigmas = {self.sigmas} must be above 0")
        require(0, np.inf, largest=self.largest, bisections=self.bisections)
        require(1, np.inf, steps=self.steps, restarts=self.restarts)
        if self.norm not in get_args(Norm):
            raise ValueError(f"norm = {self.norm!r} must be one of {get_args(Norm)}")

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; the truth does not matter. `find` also tells the budgets."""
        return self.find(maps).maps

    def find(self, maps: Any) -> Minimum:
        """The smallest change of each map (n, N, N) in counts."""
        maps = tf.convert_to_tensor(maps)
        refuse_above(self.upper, maps)
        parts = in_batches(self._search, self.batch_size, "minimum norm", maps)
        found, distance = (tf.concat(part, axis=0) for part in zip(*parts, strict=True))
        epsilons = self._size(found - maps).numpy().ravel().astype(np.float64)
        reached = distance.numpy().astype(np.float64)
        epsilons = np.where(reached >= self.sigmas, epsilons, np.inf)
        self._last.update(epsilons=epsilons, distances=reached)
        return Minimum(found, epsilons, reached)

    def extras(self) -> dict[str, np.ndarray]:
        """See `HasExtras`: `epsilons` and `distances` of `Minimum`; empty before the first call."""
        return dict(self._last)

    @cached_property
    def _search(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """All of one batch as one graph, traced once for any batch size."""
        return tf.function(self._bisect, reduce_retracing=True)

    def _bisect(self, clean: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps with the smallest changes, and their distances (batch,)."""
        reference = self.posterior(clean)
        best, distance = self._first(clean, reference)
        succeeded = distance >= self.sigmas
        best, distance = self._drawn_back(best, clean, reference, distance)
        high = self._size(best - clean)
        low = tf.zeros_like(high)
        for _ in tf.range(self.bisections):
            middle = (low + high) / 2
            start = self._within(best, clean, middle)
            maps, reached = self._attack(start, clean, reference, middle)
            found = succeeded & (reached >= self.sigmas)
            maps, reached = self._drawn_back(maps, clean, reference, reached)
            low = tf.where(found[:, None, None], low, middle)
            best = tf.where(found[:, None, None], maps, best)
            distance = tf.where(found, reached, distance)
            high = self._size(best - clean)
        return best, distance

    def _first(self, clean: tf.Tensor, reference: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """The best of all random starts with the largest budget."""
        epsilon = tf.fill((tf.shape(clean)[0], 1, 1), like(self.largest, clean))
        best, record = clean, tf.zeros_like(clean[:, 0, 0])
        for seed in starts(self.seed, self.restarts):
            start = draw_start(clean, like(self.largest, clean), self.norm, seed)
            start = self._within(start, clean, epsilon)
            maps, distance = self._attack(start, clean, reference, epsilon)
            best = tf.where((distance > record)[:, None, None], maps, best)
            record = tf.maximum(record, distance)
        return best, record

    def _attack(
        self, start: tf.Tensor, clean: tf.Tensor, reference: Any, epsilon: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The farthest that Auto-PGD comes with each map's own budget, (batch, 1, 1)."""
        best, value = climb(
            lambda maps: self._evaluate(maps, reference),
            lambda maps: self._within(maps, clean, epsilon),
            lambda maps: self._within(maps, clean, epsilon),
            start,
            like(FIRST_STEP, clean) * epsilon,
            tf.constant(checkpoints(self.steps)),
            self.norm,
        )
        return best, tf.sqrt(2 * value)

    def _drawn_back(
        self, maps: tf.Tensor, clean: tf.Tensor, reference: Any, distance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The share of each change that still succeeds; all of it where even that does not."""
        change, goal = maps - clean, distance >= self.sigmas
        low, high = tf.zeros_like(distance), tf.ones_like(distance)
        for _ in tf.range(DRAWS):
            middle = (low + high) / 2
            reached = self._distance(clean + middle[:, None, None] * change, reference)
            enough = goal & (reached >= self.sigmas)
            low, high = tf.where(enough, low, middle), tf.where(enough, middle, high)
            distance = tf.where(enough, reached, distance)
        shorter = clean + high[:, None, None] * change
        return tf.where((goal & (high < 1))[:, None, None], shorter, maps), distance

    def _distance(self, maps: tf.Tensor, reference: Any) -> tf.Tensor:
        return tf.sqrt(2 * Displacement()(self.posterior(maps), reference))

    def _evaluate(self, maps: tf.Tensor, reference: Any) -> tuple[tf.Tensor, tf.Tensor]:
        return value_and_gradient(
            lambda maps: Displacement()(self.posterior(maps), reference), maps, Displacement()
        )

    def _within(self, maps: tf.Tensor, clean: tf.Tensor, epsilon: tf.Tensor) -> tf.Tensor:
        """Within each map's own ball, and in range."""
        return possible(within(maps, clean, epsilon, self.norm), self.upper)

    def _size(self, change: tf.Tensor) -> tf.Tensor:
        """Size of each change under the norm, (batch, 1, 1)."""
        if self.norm == "linf":
            return tf.reduce_max(tf.abs(change), PIXELS, keepdims=True)
        return rms(change)
