"""Training, validation and test rows of a data set, dealt by simulation or by cosmology."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spurious import seeds
from spurious.data.maps import distinct


@dataclass(frozen=True)
class Split:
    """Row numbers of the three disjoint parts of a data set, each sorted."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def cosmologies(labels: np.ndarray) -> np.ndarray:
    """Number of each map's cosmology: maps with equal labels (n, p) have the same number, (n,)."""
    return np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)


def split(
    group: np.ndarray, test_fraction: float, validation_fraction: float, root_seed: int
) -> Split:
    """Split a data set at random, group by group.

    Maps of one simulation share their structures and their labels: if they straddled the parts, a
    network could be tested on what it was trained on. So all of them go to the same part. With
    cosmologies for groups, the network is tested on cosmologies that it has never seen.

    Args:
        group: number of each map's simulation, or of its cosmology, (n,).
        test_fraction: share of the groups for the test alone.
        validation_fraction: share of the others, to choose the best epoch.
        root_seed: root of the random order.
    """
    groups, place = distinct(group)
    n = len(groups)
    order = seeds.generator(root_seed, "split").permutation(n)
    n_test = round(n * test_fraction)
    n_validation = round((n - n_test) * validation_fraction)
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    rows = [np.flatnonzero(np.isin(place, part)) for part in (train, validation, test)]
    return Split(*rows)


def evenly_spaced(n: int, count: int) -> np.ndarray:
    """`count` of n rows, spread evenly: the first cosmologies of a suite are alike."""
    return (2 * np.arange(count) + 1) * n // (2 * count)
