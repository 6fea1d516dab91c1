"""From a proposal to the strongest systematic near it that keeps within every fence: SLSQP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from spurious.search.objective import Evaluation
from spurious.search.within import Fences, excess_share, nearest_within, room, room_jacobian

TOLERANCE = 1e-4  # change of the climbed number, and of value / limit, at which SLSQP stops
FLOOR = 1e-6  # nats, keeps the root differentiable where nothing is changed
WORST = 1e6  # what SLSQP sees where the goal is not finite
CALLS = 2  # evaluations a step on average, at most; the start and the end are not counted
PATIENCE = 8  # feasible evaluations without a gain, after which the climb has ended
GAIN = 1e-3  # relative, what counts as one


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
        steps: what was evaluated.
        fences: the fences alone, which cost no network work; by default those of `evaluate`, if it
            has them. With them, a climb begins and ends within the fences.
    """

    evaluate: Callable[[np.ndarray], Evaluation]
    steps: list[Step] = field(default_factory=list)
    fences: Fences | None = None

    def __post_init__(self) -> None:
        self.fences = self.fences or getattr(self.evaluate, "fences", None)

    def __call__(self, point: np.ndarray) -> Evaluation:
        """Evaluate, or recall if the last point was the same: SLSQP asks for each part apart."""
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
    """Climb the goal from `start` inside the cube, under |value| <= limit for every fence.

    Ask for `path.best` afterwards. Where the path knows the fences alone, the climb begins at the
    nearest point within them, and if it ends outside, the point nearest to its end is evaluated
    too. It is over at once where its start is not finite; a later point that is not finite is one
    that is too far, and the step is shortened.

    Sequential quadratic programming (SLSQP; Kraft 1988) with the exact gradient and one two-sided
    constraint a value of a fence, such as a bin, which is smooth where the maximum is not. Of a
    goal that is quadratic in a small amplitude, such as a KL, the square root is climbed, in units
    of that at the start, so that a start where little happens is not taken for the end.

    Args:
        path: evaluates the points and keeps them.
        start: where to begin, (d,).
        limits: height that each fence may have.
        steps: SLSQP iterations, of two evaluations each on average at the most. 0: only the start.
        on_step: called with the number of each step, from 0 for the start, and its point; if it
            returns true, the climb ends.
    """
    start = np.clip(np.asarray(start, np.float64), 0, 1)
    if path.fences:
        start = nearest_within(path.fences, start, limits)
    climb = _Climb(path, limits, on_step, most=len(path.steps) + CALLS * steps + 1)
    try:
        if not path(start).is_finite:
            return
        climb.begin(start)
        minimize(
            climb.value,
            start,
            jac=climb.gradient,
            bounds=[(0, 1)] * len(start),
            constraints={
                "type": "ineq",
                "fun": lambda x: room(climb.at(x).fences, limits),
                "jac": lambda x: room_jacobian(climb.at(x).fences, limits),
            },
            method="SLSQP",
            callback=climb.tell,
            options={"maxiter": steps, "ftol": TOLERANCE},
        )
    except _Stop:
        pass
    if not climb.is_told_to_stop:
        _come_inside(path, limits)


class _Stop(Exception):
    """Ends SLSQP from within one of its calls."""


@dataclass
class _Climb:
    """What SLSQP sees: minimise `value`.

    Attributes:
        most: evaluations on the path at which the climb ends.
        unit: of what is climbed.
    """

    path: Path
    limits: Mapping[str, float]
    on_step: Callable[[int, Step], bool] | None
    most: int
    unit: float = 1.0
    number: int = 0
    best: float = -np.inf
    waited: int = 0
    is_told_to_stop: bool = False

    def begin(self, start: np.ndarray) -> None:
        """Take the unit from the start, which is evaluated."""
        evaluation = self.path(start)
        self.unit = _root(evaluation) if evaluation.quadratic else 1.0
        self.tell(start)

    def value(self, x: np.ndarray) -> float:
        """Less the goal, or less its root."""
        evaluation = self.at(x)
        if not evaluation.is_finite:
            return WORST
        climbed = _root(evaluation) if evaluation.quadratic else evaluation.value
        return -climbed / self.unit

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Of `value`, (d,)."""
        evaluation = self.at(x)
        if evaluation.gradient is None or not evaluation.is_finite:
            return np.zeros(len(x))
        slope = 1 / (2 * _root(evaluation)) if evaluation.quadratic else 1.0
        return -slope / self.unit * evaluation.gradient

    def tell(self, x: np.ndarray) -> None:
        """After each step."""
        step = self.path.step(np.clip(x, 0, 1))
        if self.on_step and self.on_step(self.number, step):
            self.is_told_to_stop = True
            raise _Stop
        self.number += 1

    def at(self, x: np.ndarray) -> Evaluation:
        """Evaluate, within the budget."""
        x = np.clip(x, 0, 1)  # a line search may leave the box by a rounding
        if not np.array_equal(self.path.steps[-1].point, x):
            if len(self.path.steps) >= self.most or self.waited >= PATIENCE:
                raise _Stop
            self._watch(self.path(x))
        return self.path(x)

    def _watch(self, evaluation: Evaluation) -> None:
        """Count the feasible evaluations since the last gain."""
        if not evaluation.is_feasible(self.limits):
            return
        self.waited += 1
        if evaluation.value > self.best + GAIN * abs(self.best):
            self.best, self.waited = evaluation.value, 0


def _come_inside(path: Path, limits: Mapping[str, float]) -> None:
    """If the last point is outside, but promises more than all within, evaluate the nearest."""
    last = path.steps[-1].evaluation
    category, value = rank(path.best(limits).evaluation, limits)
    promising = rank(last, limits)[0] == 1 and (category < 2 or last.value > value)
    if path.fences and promising:
        path(nearest_within(path.fences, path.steps[-1].point, limits))


def _root(evaluation: Evaluation) -> float:
    """Square root of the value, whose estimate may be a rounding below zero."""
    return float(np.sqrt(max(evaluation.value, 0.0) + FLOOR))
