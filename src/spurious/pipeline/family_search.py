"""The search of one family: its study, its fronts, and what wider ranges would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spurious.config import Config
from spurious.files import md5
from spurious.pipeline import code
from spurious.pipeline.confirmation import Witnesses
from spurious.pipeline.inputs import files
from spurious.search import study
from spurious.search.families import Family, build_families, build_family
from spurious.search.front import FrontPoint, front
from spurious.search.objective import Objective
from spurious.search.refine import Path as Climb
from spurious.search.refine import refine
from spurious.search.result import Result
from spurious.search.starts import Starts

FRONT_STEPS = 6  # evaluations of a climb, which begins near its end
FRONT_STARTS = 2  # trials from which a front is climbed: where the fence is low, another may win
WIDER = 10.0  # times as far as the ranges reach is looked at, where a winner lies on an end
WIDER_STARTS = 2  # the most promising of several there, and one more
WIDER_STEPS = 12  # evaluations of a climb in the wider ranges
APART = 0.2  # distance in the cube between them


class Explored(NamedTuple):
    """What was found of one family."""

    result: Result
    fronts: dict[str, list[FrontPoint]]
    wider: dict[str, Any] | None


def explore(config: Config, name: str, storage: str | Path) -> Explored:
    """Search a family of `search.families`, then along its fences and in wider ranges."""
    witnesses = Witnesses(config)
    objective = objective_of(witnesses, name)
    found = search(witnesses, objective, storage)
    return Explored(found, climb_fronts(config, objective, found), widen(config, objective, found))


def work(config: Config, name: str, storage: str | Path) -> None:
    """Work on a family's study, beside other processes, until it is complete."""
    witnesses = Witnesses(config)
    search(witnesses, objective_of(witnesses, name), storage)


def objective_of(witnesses: Witnesses, name: str) -> Objective:
    """The objective of a family, on the maps of the search."""
    config, data = witnesses.config, witnesses.searched
    family = build_families(config.search, data.box_size, config.seed)[name]
    return study.build_objective(
        config.search,
        family,
        data.maps,
        witnesses.targets,
        data.box_size,
        groups=data.index,
        labels=data.labels,
    )


def search(witnesses: Witnesses, objective: Objective, storage: str | Path) -> Result:
    """Begin or go on with a study, whose name holds what it depends on: maps, networks, code."""
    config, data = witnesses.config, witnesses.searched
    networks = [md5(path) for path in files(config, config.run.target)]
    maps = study.maps_fingerprint(data.maps, data.box_size)
    made = config.how_made(config.run.target)
    fingerprint = " ".join([maps, *networks, *made, code.fingerprint("search")])
    return study.run(
        config.search, objective, storage, config.seed, fingerprint, scale=config.scale
    )


def climb_fronts(
    config: Config, objective: Objective, found: Result
) -> dict[str, list[FrontPoint]]:
    """Along each fence of `search.front`, from the best that was found."""
    starts = _bests(objective.family, found)
    if not starts:
        return {}
    limits, heights = config.search.fences.limits, config.search.front
    return {
        fence: front(objective, starts, fence, along, limits, FRONT_STEPS)
        for fence in type(heights).model_fields
        if (along := getattr(heights, fence))
    }


def _bests(family: Family, found: Result) -> list[np.ndarray]:
    """Points (d,) of the best trials that lie apart; if none is feasible, of the closest."""
    feasible = [one for one in found.history if one.feasible]
    ranked = sorted(feasible, key=lambda one: one.value, reverse=True)
    points: list[np.ndarray] = []
    for one in ranked or [one for one in [found.closest] if one is not None]:
        point = family.point(one.parameters)
        if all(np.linalg.norm(point - other) > APART for other in points):
            points.append(point)
    return points[:FRONT_STARTS]


def widen(config: Config, objective: Objective, found: Result) -> dict[str, Any] | None:
    """What more a family does in wider ranges, where its winner lies on an end of one.

    A few climbs from what was found and from points of the wider cube: the least that it gives.

    Returns:
        "factor", "ranges" of the coordinates, "kl", "value", "parameters", "fences" and "at_bound"
        on the search's maps; None where no winner lies on an end.
    """
    best, family = found.best, objective.family
    if best is None or not family.at_bound(family.point(best.parameters)):
        return None
    settings = config.search.families[family.name].widened(WIDER)
    wide = build_family(family.name, settings, objective.box_size, config.seed)
    limits, elsewhere = config.search.fences.limits, objective.of(wide)
    climb = Climb(elsewhere, elsewhere.fences)
    scattered = Starts(elsewhere, limits, config.seed)
    numbers = range(len(wide.known), len(wide.known) + WIDER_STARTS)
    points = [wide.point(family.parameters(point)) for point in _bests(family, found)]
    for point in [*points, *(wide.from_coordinates(scattered(n)) for n in numbers)]:
        refine(climb, point, limits, WIDER_STEPS)
    top = climb.best(limits)
    return {
        "factor": WIDER,
        "ranges": {one.name: [one.low, one.high] for one in wide.coordinates},
        "feasible": top.evaluation.is_feasible(limits),
        "kl": top.evaluation.kl,
        "value": top.evaluation.reported,
        "parameters": wide.parameters(top.point),
        "fences": {name: fence.height for name, fence in top.evaluation.fences.items()},
        "at_bound": wide.at_bound(top.point),
    }
