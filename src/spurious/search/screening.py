"""Which of several points a climb should begin at: one forward pass each, against three a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spurious.search.objective import Evaluation
from spurious.search.pruning import promise

SCREENED = 8  # points: about as much network work as three evaluations of the climb that follows


def most_promising(
    evaluate: Callable[[np.ndarray], Evaluation],
    points: Sequence[np.ndarray],
    limits: Mapping[str, float],
) -> np.ndarray:
    """The point (d,) of largest `promise`; the first one if none is a finite number.

    The hill on which a start lies decides where its climb ends, and the promise often, not always,
    tells a high hill from a low one.

    Args:
        evaluate: evaluates a point, without gradients, such as `Objective.value_only`.
        points: at least one.
        limits: height that each fence may have.
    """
    promises = np.array([promise(evaluate(point), limits) for point in points])
    return points[int(np.argmax(np.where(np.isfinite(promises), promises, -np.inf)))]
