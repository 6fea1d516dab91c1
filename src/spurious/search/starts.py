"""Where the climbs of a family begin.

First at what is known of the family, such as the paper's systematic; then at points of a scrambled
Sobol sequence, which cover the bounds together more evenly than chance does (Owen 1998, "Scrambling
Sobol' and Niederreiter-Xing points"; SciPy's `qmc.Sobol`). Points within the bounds may break the
fences, and asking these takes no network: so each is moved to the nearest point within them. The
first such start is the most promising of several, seen by one forward pass each.

A start depends on the root seed and on its own number, on no other start: an interrupted search
goes on as if nothing had happened, and workers need not wait for each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from optuna.distributions import FloatDistribution
from scipy.stats import qmc

from spurious import seeds
from spurious.search.families import Coordinate
from spurious.search.objective import Objective
from spurious.search.projection import nearest_within
from spurious.search.screening import SCREENED, most_promising


class Starts:
    """The starts of a search, by number.

    Args:
        objective: what is climbed.
        limits: height that each fence may have.
        root_seed: root of the draws.
        climbs: whether a climb begins at a start. Without, a start is what it is: not the most
            promising, not moved within the fences.
    """

    def __init__(
        self, objective: Objective, limits: Mapping[str, float], root_seed: int, climbs: bool = True
    ) -> None:
        self._objective = objective
        self._limits = limits
        self._root_seed = root_seed
        self._climbs = climbs
        family = objective.family
        known = [family.point(one) for one in family.known]
        self._known = [point for point in known if np.all((point >= 0) & (point <= 1))]

    def __call__(self, number: int) -> dict[str, float]:
        """The values of the coordinates, by name, as an Optuna trial holds them."""
        coordinates = self._objective.family.coordinates
        if number < len(self._known):
            return values(coordinates, self._known[number])
        number -= len(self._known)
        if not self._climbs:
            return values(coordinates, self._covering(number))
        if number > 0:
            return values(coordinates, self._inside(SCREENED + number - 1))
        # Only the first: what promises most does not always end highest, so the others must differ.
        points = [self._inside(i) for i in range(SCREENED)]
        evaluate = self._objective.value_only
        return values(coordinates, most_promising(evaluate, points, self._limits))

    def _covering(self, number: int) -> np.ndarray:
        return covering(self._root_seed, self._objective.family.dimension, number)

    def _inside(self, number: int) -> np.ndarray:
        return nearest_within(self._objective.fences, self._covering(number), self._limits)


def covering(root_seed: int, dimension: int, number: int) -> np.ndarray:
    """One point (d,) of a scrambled Sobol sequence, from number 0 on."""
    sobol = qmc.Sobol(dimension, rng=seeds.generator(root_seed, "cover"))
    return sobol.random_base2(number.bit_length())[number]


def distributions(coordinates: Sequence[Coordinate]) -> dict[str, FloatDistribution]:
    """What an Optuna trial says of the coordinates, which it holds by their values."""
    return {one.name: FloatDistribution(one.low, one.high, log=one.scale == "log")
            for one in coordinates}  # fmt: skip


def values(coordinates: Sequence[Coordinate], point: np.ndarray) -> dict[str, float]:
    """The values at a point (d,) of the cube; rounding must not push one over its bound."""
    return {
        one.name: float(np.clip(one.at(float(place)), one.low, one.high))
        for one, place in zip(coordinates, point, strict=True)
    }
