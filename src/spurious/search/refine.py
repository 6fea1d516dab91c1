"""From a proposal to the strongest systematic near it that keeps within every fence.

Projected gradient ascent (Goldstein 1964; Bertsekas 1976, "On the Goldstein-Levitin-Polyak gradient
projection method"): a step along the exact gradient of the goal, then the nearest point within the
fences. Fences cost no network work here, so the network sees only points that keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from spurious.search.objective import Evaluation
from spurious.search.projection import Fences, excess_share, nearest_within

STRIDE = 0.3  # length of the first step, in the cube
LONGER = 1.5  # times the last stride, after a gain
SHORTER = 0.3  # times it, after none
SHORTEST = 1e-4  # way between two points that is worth an evaluation
GAIN = 1e-3  # relative; two gains in a row below it end a climb


@dataclass(frozen=True)
class Step:
    """A point (d,) of the cube with its evaluation."""

    point: np.ndarray
    evaluation: Evaluation


@dataclass
class Path:
    """All that was evaluated on the way, in order; each point once.

    Attributes:
        evaluate: evaluates a point with all gradients, such as an `Objective`.
        fences: asks for the fences alone, which costs no network work, such as `Objective.fences`.
        steps: what was evaluated.
    """

    evaluate: Callable[[np.ndarray], Evaluation]
    fences: Fences
    steps: list[Step] = field(default_factory=list)

    def __call__(self, point: np.ndarray) -> Evaluation:
        """Evaluate a point (d,), or recall it if it was the last one."""
        return self.step(point).evaluation

    def step(self, point: np.ndarray) -> Step:
        """The same, with its point."""
        if not (self.steps and np.array_equal(self.steps[-1].point, point)):
            self.steps.append(Step(np.array(point), self.evaluate(point)))
        return self.steps[-1]

    def best(self, limits: Mapping[str, float]) -> Step:
        """The feasible step with the largest value; if none is feasible, the one nearest to it."""
        return max(self.steps, key=lambda step: rank(step.evaluation, limits))


def rank(evaluation: Evaluation, limits: Mapping[str, float]) -> tuple[int, float]:
    """Feasible before infeasible; then the larger value, or the smaller height in its limit.

    What is not finite comes last.
    """
    if not evaluation.is_finite:
        return 0, 0.0
    if evaluation.is_feasible(limits):
        return 2, evaluation.value
    return 1, -excess_share(evaluation.fences, limits)


def refine(
    path: Path,
    start: np.ndarray,
    limits: Mapping[str, float],
    steps: int,
    on_step: Callable[[int, Step], bool] | None = None,
) -> None:
    """Climb the goal from `start` inside the cube and within every fence.

    Ask for `path.best` afterwards. The climb begins at the point within the fences that is nearest
    to `start`. A step that gains is followed by a longer one, a step that does not, or leads to no
    finite number, by a shorter one from the same point. It ends where the gradient leads out of the
    fences, after two small gains in a row, or after `steps`; at once where its start is not finite.

    Args:
        path: evaluates the points and keeps them.
        start: where to begin, (d,).
        limits: height that each fence may have.
        steps: evaluations after that of the start. 0: only the start.
        on_step: called with the number of each point that gained, from 0 for the start, and the
            point; if it returns true, the climb ends.
    """
    here = path.step(nearest_within(path.fences, start, limits))
    most = len(path.steps) + steps
    if not here.evaluation.is_finite:
        return
    stride, gained, small = STRIDE, 0, 0
    ended = on_step is not None and on_step(0, here)
    while not ended and len(path.steps) < most:
        point = _ahead(path, here, stride, limits)
        if point is None:
            return
        found = path.step(point)
        if rank(found.evaluation, limits) <= rank(here.evaluation, limits):
            stride *= SHORTER
            continue
        small = small + 1 if _gain(here, found) < GAIN else 0
        here, stride, gained = found, stride * LONGER, gained + 1
        ended = small == 2 or (on_step is not None and on_step(gained, here))


def _ahead(path: Path, here: Step, stride: float, limits: Mapping[str, float]) -> np.ndarray | None:
    """The point (d,) of the next step, or None where no stride leads anywhere."""
    direction = _direction(here)
    while stride >= SHORTEST and np.any(direction):
        aim = here.point + stride * direction
        point = nearest_within(path.fences, aim, limits, here.point)
        if np.linalg.norm(point - here.point) >= SHORTEST:
            return point
        stride *= SHORTER
    return None


def _direction(here: Step) -> np.ndarray:
    """The gradient (d,) without what leads out of the cube, of length 1; or 0."""
    slope = np.nan_to_num(np.asarray(here.evaluation.gradient, np.float64))
    out = ((here.point <= 0) & (slope < 0)) | ((here.point >= 1) & (slope > 0))
    slope = np.where(out, 0.0, slope)
    length = np.linalg.norm(slope)
    return slope / length if length > 0 else slope


def _gain(before: Step, after: Step) -> float:
    """Of the value, relative to what it was."""
    gain = after.evaluation.value - before.evaluation.value
    return gain / max(abs(before.evaluation.value), 1e-12)
