"""The Pareto front: the best that a family does at each height of a fence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from spurious.progress import Bar
from spurious.search.objective import Evaluation, Objective
from spurious.search.refine import Path, Step, rank, refine


@dataclass(frozen=True)
class FrontPoint:
    """The best systematic found within one height of the fence.

    Attributes:
        fence: name of the fence.
        height: its limit here.
        parameters: as the family reports them.
        value: the goal as it is reported.
        kl: mean KL(q(. | perturbed) || q(. | clean)), nats.
        heights: what each fence says.
        least_density: smallest density before clipping at zero, counts.
        feasible: false if nothing within all fences was found: then it is what is nearest.
        at_bound: names of the parameters that lie on an end of their range.
    """

    fence: str
    height: float
    parameters: dict[str, float]
    value: float
    kl: float
    heights: dict[str, float]
    least_density: float
    feasible: bool
    at_bound: tuple[str, ...] = ()


def front(
    objective: Objective,
    starts: Iterable[np.ndarray],
    fence: str,
    heights: Sequence[float],
    limits: Mapping[str, float],
    steps: int,
) -> list[FrontPoint]:
    """Climb at every height of a fence, from the starts and from the neighbours on the front.

    From the lowest height up, each climb begins at the best point of the height below and at every
    start; then down again, from the best of the height above. Whatever was evaluated on the way
    counts at every height that it respects, so the front never falls, and no height does worse
    than climbs from the starts alone.

    Args:
        objective: evaluates the points; it must know `fence` and those of `limits`.
        starts: points (d,) to begin at, such as the winner of a search. At least one.
        fence: name of the fence whose height varies.
        heights: its limits, in any order.
        limits: of the other fences; one for `fence` itself is ignored.
        steps: evaluations of each climb, after that of its start.

    Returns:
        A point for each height, in increasing order.

    Raises:
        ValueError: there is no start.
    """
    starts, heights = [np.asarray(start) for start in starts], sorted(heights)
    if not starts:
        raise ValueError("a front needs at least one start")
    pool = Path(objective, objective.fences)
    bar = Bar(total=2 * len(heights) - 1, name=f"front of {objective.family.name}")
    with bar:
        for i, height in enumerate(heights):
            here = {**limits, fence: height}
            below = [] if i == 0 else [pool.best({**limits, fence: heights[i - 1]}).point]
            _climb(pool, [*below, *starts], here, steps)
            bar.update()
        for lower, upper in reversed(list(pairwise(heights))):
            above = pool.best({**limits, fence: upper}).point
            _climb(pool, [above], {**limits, fence: lower}, steps)
            bar.update()
    limits_of = {height: {**limits, fence: height} for height in heights}
    return [
        _front_point(objective, pool.best(limits_of[height]), fence, height, limits_of[height])
        for height in heights
    ]


def _climb(
    pool: Path, starts: Sequence[np.ndarray], limits: Mapping[str, float], steps: int
) -> None:
    """Climb from each start; what was evaluated joins the pool, and is not evaluated again."""
    known = {step.point.tobytes(): step.evaluation for step in pool.steps}

    def evaluate(point: np.ndarray) -> Evaluation:
        if point.tobytes() not in known:
            known[point.tobytes()] = pool(point)
        return known[point.tobytes()]

    for start in starts:
        refine(Path(evaluate, pool.fences), start, limits, steps)


def _front_point(
    objective: Objective, best: Step, fence: str, height: float, limits: Mapping[str, float]
) -> FrontPoint:
    evaluation = best.evaluation
    return FrontPoint(
        fence=fence,
        height=height,
        parameters=objective.family.parameters(best.point),
        value=evaluation.reported,
        kl=evaluation.kl,
        heights={name: value.height for name, value in evaluation.fences.items()},
        least_density=evaluation.least_density,
        feasible=rank(evaluation, limits)[0] == 2,
        at_bound=tuple(objective.family.at_bound(best.point)),
    )
