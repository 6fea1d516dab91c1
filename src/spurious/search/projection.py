"""The nearest point within every fence: found without the network, which fences do not need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
from scipy.optimize import minimize

from spurious.search.fences import FENCES, FenceValue

MARGIN = 2e-4  # of a limit: SLSQP aims that far inside, because it accepts half as much outside
ITERATIONS = 12
CALLS = 24  # points at which the fences are asked for, at most
TOLERANCE = 1e-6  # change of the squared distance at which SLSQP stops

Fences = Callable[[np.ndarray], Mapping[str, FenceValue]]


class _Stop(Exception):
    """Ends SLSQP from within one of its calls."""


def nearest_within(
    fences: Fences,
    point: np.ndarray,
    limits: Mapping[str, float],
    start: np.ndarray | None = None,
) -> np.ndarray:
    """The point of the cube nearest to `point` that keeps within every limit.

    Least squares under the linearised fences again and again (SLSQP). It may end outside where the
    fences bend much: then the point with the smallest height in its limit is returned.

    Args:
        fences: what the fences say at a point (d,), with gradients.
        point: (d,), taken into the cube first.
        limits: height that each fence may have.
        start: a point (d,) of the cube to look from, best one within the fences; default: `point`.
    """
    point = np.clip(np.asarray(point, np.float64), 0, 1)
    seen: dict[bytes, tuple[np.ndarray, Mapping[str, FenceValue]]] = {}

    def at(x: np.ndarray) -> Mapping[str, FenceValue]:
        x = np.clip(x, 0, 1)
        key = x.tobytes()
        if key not in seen:
            if len(seen) >= CALLS:
                raise _Stop
            seen[key] = (x, fences(x))
        return seen[key][1]

    if excess_share(at(point), limits) <= 0:
        return point
    start = point if start is None else start
    with suppress(_Stop):
        at(start)
        minimize(
            lambda x: 0.5 * np.sum((x - point) ** 2),
            start,
            jac=lambda x: x - point,
            bounds=[(0, 1)] * len(point),
            constraints={
                "type": "ineq",
                "fun": lambda x: room(at(x), limits),
                "jac": lambda x: room_jacobian(at(x), limits),
            },
            method="SLSQP",
            options={"maxiter": ITERATIONS, "ftol": TOLERANCE},
        )
    return min(seen.values(), key=lambda one: _order(one, point, limits))[0]


def excess_share(found: Mapping[str, FenceValue], limits: Mapping[str, float]) -> float:
    """Largest height in its limit, less 1: at most 0 within every fence; infinite if undefined."""
    shares = [found[name].height / limit - 1 for name, limit in limits.items()]
    return float(np.max(shares)) if np.all(np.isfinite(shares)) else np.inf


def room(found: Mapping[str, FenceValue], limits: Mapping[str, float]) -> np.ndarray:
    """1 - margin -+ value / limit of every value of every fence: at least 0 within all.

    The margin is at least what rounding may move the fence's height, which counts at low limits.
    """
    scaled = [found[name].values / limit for name, limit in limits.items()]
    margins = [
        np.full(len(found[name].values), max(MARGIN, FENCES[name].tolerance / limit))
        for name, limit in limits.items()
    ]
    return 1 - np.tile(np.concatenate(margins), 2) + _both_signs(scaled)


def room_jacobian(found: Mapping[str, FenceValue], limits: Mapping[str, float]) -> np.ndarray:
    """Of `room`, by the d coordinates."""
    scaled = [np.asarray(found[name].jacobian) / limit for name, limit in limits.items()]
    return _both_signs(scaled)


def _both_signs(parts: list[np.ndarray]) -> np.ndarray:
    """Stack -values on values: |x| <= 1 is 1 - x >= 0 and 1 + x >= 0. What is no number is 0."""
    values = np.nan_to_num(np.concatenate(parts), posinf=0, neginf=0)
    return np.concatenate([-values, values])


def _order(
    one: tuple[np.ndarray, Mapping[str, FenceValue]], point: np.ndarray, limits: Mapping[str, float]
) -> tuple[float, float]:
    """By how far it is outside; those within by their distance."""
    return max(excess_share(one[1], limits), 0.0), float(np.sum((one[0] - point) ** 2))
