"""Where to look next: the point of largest expected feasible improvement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import erfcx, log_ndtr
from scipy.stats import qmc
from threadpoolctl import threadpool_limits

from spurious.search import gaussian_process
from spurious.search.gaussian_process import GaussianProcess

ROWS = 400  # values and derivatives that a process learns from at most
CANDIDATES = 512
CLIMBS = 3  # from the best of the candidates
CLIMB_STEPS = 20
APART = 1e-3  # from all known points, by default
FLOOR = 1e-6  # keeps the root differentiable where the value is zero
SOFTENING = 0.1  # of a limit: below it, how far inside the fence a point lies hardly matters


@dataclass(frozen=True)
class History:
    """What is known of n points, in an order that does not depend on that of the trials.

    Attributes:
        points: (n, d).
        values: to be maximised, (n,), or their square roots.
        gradients: (n, d), NaN where unknown.
        excess: by how much the worst constraint is broken, (n,), on a soft logarithmic scale:
            feasible where <= 0; NaN without constraints.
        excess_gradients: (n, d), NaN where unknown.
    """

    points: np.ndarray
    values: np.ndarray
    gradients: np.ndarray
    excess: np.ndarray
    excess_gradients: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[np.ndarray], dimension: int, root: bool) -> History:
        """From rows of (point, value, gradient, excess, its gradient)."""
        table = np.array(rows).reshape(-1, 3 * dimension + 2)
        # Points that coincide would make the covariance singular.
        table = table[np.unique(np.round(table[:, :dimension], 6), axis=0, return_index=True)[1]]
        d = dimension
        points, values, gradients = table[:, :d], table[:, d], table[:, d + 1 : 2 * d + 1]
        excess, slopes = table[:, 2 * d + 1], table[:, 2 * d + 2 :]
        if root:
            values = np.sqrt(np.maximum(values, 0) + FLOOR)
            gradients = gradients / (2 * values[:, None])
        from_zero = np.maximum(excess, -1) + 1 + SOFTENING
        slopes = slopes / from_zero[:, None]
        return cls(points, values, gradients, np.log(from_zero / (1 + SOFTENING)), slopes)

    @property
    def constrained(self) -> bool:
        """False if no trial has a constraint."""
        return bool(np.isfinite(self.excess).any())

    @property
    def feasible(self) -> np.ndarray:
        """Which points are."""
        return ~(self.excess > 0)

    @property
    def best(self) -> float | None:
        """The best value of a feasible point."""
        values = self.values[self.feasible]
        return float(values.max()) if values.size else None

    def chosen(self) -> History:
        """As many points as a process can learn from: the best one, and others far apart."""
        most = max(ROWS // (1 + self.points.shape[1]), 2)
        if len(self.points) <= most:
            return self
        rank = np.where(self.feasible, self.values - self.values.min() + 1, -self.excess)
        order = [int(np.argmax(rank))]
        distance = np.full(len(self.points), np.inf)
        while len(order) < most:
            gap = np.linalg.norm(self.points - self.points[order[-1]], axis=1)
            distance = np.minimum(distance, gap)
            order.append(int(np.argmax(distance)))
        return History(*(getattr(self, name)[order] for name in self.__dataclass_fields__))


def propose(
    history: History,
    running: np.ndarray,
    fixed: Mapping[int, float],
    rng: np.random.Generator,
    apart: float = APART,
    explore: bool = False,
) -> np.ndarray:
    """The point (d,) of largest expected feasible improvement.

    Args:
        history: at least one point.
        running: points (m, d) that are being evaluated; they are expected to end as predicted.
        fixed: coordinates that must keep their value, by index.
        rng: draws the candidates.
        apart: from all known points.
        explore: instead, the point where least is known of the value and that may be feasible.
    """
    known = np.vstack([history.points, running])
    with threadpool_limits(1, "blas"):  # matrices of a few hundred rows: threads cost more
        value, fence = _learned(history.chosen(), running)
        acquisition = _Acquisition(value, fence, history.best)
        candidates = _candidates(history, fixed, rng)
        for end in [] if explore else acquisition.climbed(candidates, fixed):
            if _distances(end[None], known)[0] >= apart:
                return end
        return candidates[np.argmax(acquisition.ignorance(candidates))]


def _candidates(
    history: History, fixed: Mapping[int, float], rng: np.random.Generator
) -> np.ndarray:
    """All over the cube, and some near the best points."""
    d = history.points.shape[1]
    near = history.points[np.argsort(np.where(history.feasible, -history.values, np.inf))[:3]]
    near = np.repeat(near, CANDIDATES // 16, axis=0)
    near = near + 0.05 * rng.standard_normal(near.shape)
    candidates = np.vstack([qmc.Sobol(d, rng=rng).random(CANDIDATES), np.clip(near, 0, 1)])
    for index, place in fixed.items():
        candidates[:, index] = place
    return candidates


def _distances(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    """From each point to the nearest known one."""
    return np.linalg.norm(points[:, None] - known[None], axis=-1).min(axis=1)


def _learned(kept: History, running: np.ndarray) -> tuple[GaussianProcess, GaussianProcess | None]:
    """The processes of the values and of the excess."""
    value = gaussian_process.fit(kept.points, kept.values, kept.gradients)
    fence = None
    if kept.constrained:
        known = np.isfinite(kept.excess)
        fence = gaussian_process.fit(
            kept.points[known], kept.excess[known], kept.excess_gradients[known]
        )
    if len(running):
        value = value.with_values(running, value.predict(running)[0])
        fence = fence and fence.with_values(running, fence.predict(running)[0])
    return value, fence


@dataclass(frozen=True)
class _Acquisition:
    """Logarithm of expected improvement times probability of feasibility."""

    value: GaussianProcess
    fence: GaussianProcess | None
    best: float | None

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """At points (m, d)."""
        total = self._log_feasible(points)
        if self.best is not None:
            mean, deviation = self.value.predict(points)
            total = total + np.log(deviation)
            total += _log_improvement((mean - self.best) / deviation)
        return total

    def slope(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """At one point (d,), with its gradient."""
        total, gradient = 0.0, np.zeros_like(point)
        if self.best is not None:
            mean, deviation, of_mean, of_deviation = self.value.slope(point)
            z = (mean - self.best) / deviation
            log_improvement = float(_log_improvement(np.array(z)))
            total += np.log(deviation) + log_improvement
            by_z = np.exp(log_ndtr(z) - log_improvement)
            gradient += of_deviation / deviation
            gradient += by_z * (of_mean - z * of_deviation) / deviation
        if self.fence is not None:
            mean, deviation, of_mean, of_deviation = self.fence.slope(point)
            z = -mean / deviation
            total += float(log_ndtr(z))
            by_z = np.exp(_log_density(z) - log_ndtr(z))
            gradient += by_z * (-of_mean - z * of_deviation) / deviation
        return total, gradient

    def ignorance(self, points: np.ndarray) -> np.ndarray:
        """Logarithm of the value's deviation times the probability of feasibility, at (m, d)."""
        return np.log(self.value.predict(points)[1]) + self._log_feasible(points)

    def climbed(self, candidates: np.ndarray, fixed: Mapping[int, float]) -> list[np.ndarray]:
        """Where climbs from the best of the candidates end, the best first."""
        bounds = [(fixed.get(i, 0.0), fixed.get(i, 1.0)) for i in range(candidates.shape[1])]
        order = np.argsort(-self(candidates), kind="stable")[:CLIMBS]
        ends = np.array([self._climb(start, bounds) for start in candidates[order]])
        return list(ends[np.argsort(-self(ends), kind="stable")])

    def _climb(self, start: np.ndarray, bounds: Sequence[tuple[float, float]]) -> np.ndarray:
        def descent(point: np.ndarray) -> tuple[float, np.ndarray]:
            total, gradient = self.slope(point)
            return -total, -gradient

        options = {"maxiter": CLIMB_STEPS}
        found = minimize(descent, start, jac=True, bounds=bounds, options=options)
        ends = np.array([start, np.clip(found.x, *np.transpose(bounds))])
        return ends[np.argmax(self(ends))]

    def _log_feasible(self, points: np.ndarray) -> np.ndarray:
        if self.fence is None:
            return np.zeros(len(points))
        mean, deviation = self.fence.predict(points)
        return log_ndtr(-mean / deviation)


def _log_density(z: Any) -> Any:
    return -0.5 * z**2 - 0.5 * np.log(2 * np.pi)


def _log_improvement(z: np.ndarray) -> np.ndarray:
    """log(phi(z) + z Phi(z)), also far below zero, where the sum itself would cancel."""
    z = np.clip(z, -1e3, None)
    ratio = np.sqrt(np.pi / 2) * erfcx(-np.minimum(z, 0) / np.sqrt(2))
    below = _log_density(np.minimum(z, 0)) + np.log1p(np.minimum(z, 0) * ratio)
    positive = np.maximum(z, 0)
    above = np.log(np.exp(_log_density(positive)) + positive * np.exp(log_ndtr(positive)))
    return np.where(z < 0, below, above)
