"""Systematics against a defence: the worst of a family, and random ones of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import tensorflow as tf

from spurious import seeds
from spurious.defences.systematics_training import draw_systematics
from spurious.progress import Bar, track
from spurious.search.families import Family
from spurious.search.objective import Objective
from spurious.search.refine import Path, refine
from spurious.search.starts import Starts

BATCH = 256  # maps at a time


@dataclass(frozen=True)
class Worst:
    """What a small search found in one family.

    Attributes:
        point: of the family's cube, (d,).
        parameters: as the family reports them.
        kl: mean KL(perturbed || clean) on the search's maps, nats.
        feasible: whether it keeps within every fence.
    """

    point: np.ndarray
    parameters: dict[str, float]
    kl: float
    feasible: bool


def worst(
    objective: Objective,
    limits: Mapping[str, float],
    known: np.ndarray | None,
    starts: int,
    steps: int,
    seed: int,
) -> Worst:
    """Climb from a few starts; the best that keeps within the fences, else what is nearest to it.

    The same climbs and covering starts as in `spurious.search`, but few, and without a study that
    could be resumed: what hurts another posterior is a good place to begin.

    Args:
        objective: of the posterior and the family.
        limits: height that each fence may have.
        known: what hurts another posterior, (d,), where the first climb begins.
        starts: how many others, that cover the family.
        steps: evaluations of each climb, after its start.
        seed: root of the starts.
    """
    family, climb = objective.family, Path(objective, objective.fences)
    begin = Starts(objective, limits, seed)
    numbers = range(len(family.known), len(family.known) + starts)
    points = [] if known is None else [np.clip(known, 0, 1)]
    bar = Bar(total=len(points) + starts, name=family.name, unit="climb", delay=2)
    with bar:
        for point in chain(points, (family.from_coordinates(begin(n)) for n in numbers)):
            refine(climb, point, limits, steps)
            bar.update()
    top = climb.best(limits)
    return Worst(
        top.point,
        family.parameters(top.point),
        top.evaluation.kl,
        top.evaluation.is_feasible(limits),
    )


def random_members(families: Sequence[Family], maps: np.ndarray, seed: int) -> np.ndarray:
    """Each map as a systematic of its own leaves it: a random point of a random family.

    Args:
        families: drawn from with equal chances, points uniformly in the families' cubes.
        maps: (n, N, N) in counts.
        seed: root of the draws.
    """
    each = tuple((family,) for family in families)
    one = tf.function(
        lambda some, pair: draw_systematics(each, 0.0, some, pair), reduce_retracing=True
    )
    firsts = track(range(0, len(maps), BATCH), name="systematics", unit="batch", delay=2)
    return np.concatenate(
        [
            one(
                tf.constant(maps[first : first + BATCH]),
                tf.constant(seeds.stateless(seed, "systematics of maps", first)),
            ).numpy()
            for first in firsts
        ]
    )
