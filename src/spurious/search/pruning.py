"""Which climbs are hopeless: those that would stay below the best even if they sped up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spurious.search.objective import Evaluation

FIRST_STEP = 3  # before it, a climb says little of where it ends
LOOK_BACK = 2  # steps
OPTIMISM = 3.0  # times the gain of the last two steps is what may still come
LEVEL = 0.98  # of the best: what comes that near is no worse


def promise(evaluation: Evaluation, limits: Mapping[str, float]) -> float:
    """The value that a point would about have if its change were scaled down to fit the fences.

    Most heights are linear in a small amplitude; a value is too, or quadratic. A climb may be far
    outside the fences for most of its way, and this tells where it is going. Of a quadratic value,
    the square root is returned.
    """
    ratios = [evaluation.fences[name].height / limit for name, limit in limits.items()]
    value = evaluation.value
    if evaluation.quadratic:
        value = np.sqrt(max(value, 0.0))
    return float(value / max(1.0, *ratios))


def hopeless(promises: Sequence[float], best: float, dimension: int) -> bool:
    """Whether a climb will most likely stay below `best`.

    A quasi-Newton method learns the curvature in about as many steps as there are coordinates.

    Args:
        promises: largest so far, at each step from the start on.
        best: the promise of the best feasible point of the study.
        dimension: number of coordinates.
    """
    if len(promises) <= max(FIRST_STEP, dimension):
        return False
    gain = promises[-1] - promises[-1 - LOOK_BACK]
    return promises[-1] + OPTIMISM * gain < best - (1 - LEVEL) * abs(best)
