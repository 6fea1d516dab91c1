"""Training, validation and test rows of a data set, dealt by simulation or by cosmology."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spurious import seeds
from spurious.data.maps import MapSet, distinct
from spurious.errors import UserError


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


def places(whole: MapSet, part: MapSet) -> np.ndarray:
    """The row in `whole` of each map of `part`, which has some of its maps, perturbed or not.

    A simulation and its line of sight name a map. Where several maps of a simulation have the same,
    or none that is known, `part` must have all of them, or be evenly spaced rows.

    Raises:
        UserError: a map is not in `whole`, or which it is cannot be told.
    """
    keys = list(zip(whole.index.tolist(), whole.axis.tolist(), strict=True))
    wanted = list(zip(part.index.tolist(), part.axis.tolist(), strict=True))
    row = {key: number for number, key in enumerate(keys)}
    if not set(wanted) <= row.keys():
        raise UserError("maps of an attack are not among the test maps: make the attack again")
    if len(row) == len(keys):
        return np.array([row[key] for key in wanted], int)
    rows = evenly_spaced(len(whole), len(part))
    if [keys[number] for number in rows] != wanted:
        raise UserError(
            "several maps of a simulation have the same line of sight, and which of them were "
            "attacked cannot be told: attack all test maps, without `maps` in params.yaml"
        )
    return rows
