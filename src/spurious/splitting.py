"""Training, validation and test rows of a data set, dealt by simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spurious import seeds
from spurious.maps import distinct


@dataclass(frozen=True)
class Split:
    """Row numbers of the three disjoint parts of a data set, each sorted."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    index: np.ndarray, test_fraction: float, validation_fraction: float, root_seed: int
) -> Split:
    """Split a data set at random, simulation by simulation.

    Maps of one simulation share their structures and their labels: if they straddled the parts, a
    network could be tested on what it was trained on. So all of them go to the same part.

    Args:
        index: number of each map's simulation, (n,).
        test_fraction: share of the simulations for the test alone.
        validation_fraction: share of the others, to choose the best epoch.
        root_seed: root of the random order.
    """
    simulations, place = distinct(index)
    n = len(simulations)
    order = seeds.generator(root_seed, "split").permutation(n)
    n_test = round(n * test_fraction)
    n_validation = round((n - n_test) * validation_fraction)
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    rows = [np.flatnonzero(np.isin(place, part)) for part in (train, validation, test)]
    return Split(*rows)
