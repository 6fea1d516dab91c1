"""From a proposal to the strongest systematic near it that keeps within the fence: SLSQP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize

from spurious.search.objective import Evaluation

MARGIN = 1e-3  # of the limit: SLSQP aims that far inside, because it accepts TOLERANCE outside
TOLERANCE = 1e-4  # change of sqrt(KL / nat), and of change / limit, at which SLSQP stops
FLOOR = 1e-6  # nats, keeps the root differentiable where nothing is changed


@dataclass(frozen=True)
class Step:
    """A point (3,) of the cube with its evaluation."""

    point: np.ndarray
    evaluation: Evaluation


@dataclass
class Path:
    """All that was evaluated on the way, in order; each point once."""

    evaluate: Callable[[np.ndarray], Evaluation]
    steps: list[Step] = field(default_factory=list)

    def __call__(self, point: np.ndarray) -> Evaluation:
        """Evaluate, or recall if the last point was the same: SLSQP asks for each part apart."""
        if not (self.steps and np.array_equal(self.steps[-1].point, point)):
            self.steps.append(Step(np.array(point), self.evaluate(point)))
        return self.steps[-1].evaluation

    def best(self, limit: float) -> Step:
        """The feasible step with the largest KL; if none is feasible, the one nearest to it."""
        return max(self.steps, key=lambda step: rank(step.evaluation, limit))


def rank(evaluation: Evaluation, limit: float) -> tuple[bool, float]:
    """Feasible before infeasible; then the larger KL, or the smaller excess of change."""
    if not evaluation.is_finite:
        return False, -np.inf
    feasible = evaluation.max_change <= limit
    return feasible, evaluation.kl if feasible else -evaluation.max_change


def refine(path: Path, start: np.ndarray, limit: float, steps: int) -> None:
    """Climb the KL from `start` inside the cube, under |change| <= limit in every bin.

    SLSQP may end outside the fence: ask for `path.best`.

    Sequential quadratic programming (SLSQP; Kraft 1988) with the exact gradient and one two-sided
    constraint a bin, which are smooth where their maximum is not. The square root of the KL is
    climbed: a KL is quadratic in a small amplitude, its root is linear.

    Args:
        path: evaluates the points and keeps them.
        start: where to begin, (3,).
        limit: largest relative change of the mean contrast spectrum in any bin.
        steps: SLSQP iterations.
    """
    inner = 1 - MARGIN
    minimize(
        lambda x: -_root(path(x)),
        np.clip(start, 0, 1),
        jac=lambda x: -path(x).kl_gradient / (2 * _root(path(x))),
        bounds=[(0, 1)] * 3,
        constraints={
            "type": "ineq",
            "fun": lambda x: inner + _both_signs(path(x).change / limit),
            "jac": lambda x: _both_signs(path(x).change_jacobian / limit),
        },
        method="SLSQP",
        options={"maxiter": steps, "ftol": TOLERANCE},
    )


def _both_signs(values: np.ndarray) -> np.ndarray:
    """Stack -values on values: |x| <= 1 is 1 - x >= 0 and 1 + x >= 0."""
    return np.concatenate([-values, values])


def _root(evaluation: Evaluation) -> float:
    """Square root of the KL, whose estimate may be a rounding below zero."""
    return float(np.sqrt(max(evaluation.kl, 0.0) + FLOOR))
