"""The data set: projected density maps with their labels, on disk and in memory.

HDF5 schema, version 1 (one file is one `MapSet`):

==========  ===================  ==========================================================
dataset     shape, type          meaning
==========  ===================  ==========================================================
`maps`      (n, N, N) float32    projected particle count per pixel; mean N per pixel for
                                 N^3 particles in N^3 cells, projected along one axis
`labels`    (n, p) float64       the parameters, in the order of the attribute `names`
`seeds`     (n,) uint64          seed of each simulation's white noise
`index`     (n,) int64           number of the simulation in its suite
==========  ===================  ==========================================================

File attributes: `schema`, `names` (JSON list), `unit`, `box_size` (Mpc/h), `provenance` (JSON:
settings and versions that made the maps). No time of day is stored: the same inputs give
the same bytes, so DVC sees a remade data set as unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spurious import seeds as seeding
from spurious.files import UserError, replacing

SCHEMA = 1
NAMES = ("omega_m", "sigma_8")
UNIT = "projected particle count per pixel"


@dataclass(frozen=True)
class MapSet:
    """Maps (n, N, N) in counts with labels (n, p), seeds (n,) and simulation numbers (n,)."""

    maps: np.ndarray
    labels: np.ndarray
    seeds: np.ndarray
    index: np.ndarray
    box_size: float
    names: tuple[str, ...] = NAMES
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.maps)
        if self.maps.ndim != 3 or self.maps.shape[1] != self.maps.shape[2]:
            raise ValueError(f"maps have shape {self.maps.shape}, expected (n, N, N)")
        if self.labels.shape != (n, len(self.names)):
            raise ValueError(
                f"labels have shape {self.labels.shape}, expected {(n, len(self.names))}"
            )
        if self.seeds.shape != (n,) or self.index.shape != (n,):
            raise ValueError(f"seeds and index must have shape ({n},)")

    def __len__(self) -> int:
        return len(self.maps)

    def take(self, rows: np.ndarray) -> MapSet:
        """The subset at `rows`, in that order."""
        return replace(
            self,
            maps=self.maps[rows],
            labels=self.labels[rows],
            seeds=self.seeds[rows],
            index=self.index[rows],
        )


def write_maps(path: Path, data: MapSet) -> None:
    """Write a data set as HDF5, whole or not at all. The same data give the same bytes."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["schema"] = SCHEMA
        file.attrs["names"] = json.dumps(list(data.names))
        file.attrs["unit"] = UNIT
        file.attrs["box_size"] = float(data.box_size)
        file.attrs["provenance"] = json.dumps(dict(data.provenance), sort_keys=True)
        for name, values, dtype in (
            ("maps", data.maps, np.float32),
            ("labels", data.labels, np.float64),
            ("seeds", data.seeds, np.uint64),
            ("index", data.index, np.int64),
        ):
            file.create_dataset(name, data=np.asarray(values, dtype), track_times=False)


def read_maps(path: Path) -> MapSet:
    """Read a data set.

    Raises:
        UserError: the file is missing, is not HDF5, or does not follow the schema.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is missing: make it with `spurious simulate`")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs["schema"] != SCHEMA:
                raise UserError(f"{path} has schema {file.attrs['schema']}, expected {SCHEMA}")
            return MapSet(
                maps=file["maps"][:],
                labels=file["labels"][:],
                seeds=file["seeds"][:],
                index=file["index"][:],
                box_size=float(file.attrs["box_size"]),
                names=tuple(json.loads(file.attrs["names"])),
                provenance=json.loads(file.attrs["provenance"]),
            )
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or is no map data set: {error}") from error


def concatenate(parts: list[MapSet]) -> MapSet:
    """Join data sets in order; box size, names and provenance are the first one's."""
    return replace(
        parts[0],
        maps=np.concatenate([part.maps for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        seeds=np.concatenate([part.seeds for part in parts]),
        index=np.concatenate([part.index for part in parts]),
    )


@dataclass(frozen=True)
class Split:
    """Row numbers of the three disjoint parts of a data set, each sorted."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(n: int, test_fraction: float, validation_fraction: float, root_seed: int) -> Split:
    """Split n simulations at random.

    `test_fraction` of all are for the test alone; `validation_fraction` of the rest choose
    the best epoch. Each simulation gives one map, so a split of maps is one of simulations.
    """
    order = seeding.generator(root_seed, "split").permutation(n)
    n_test = round(n * test_fraction)
    n_validation = round((n - n_test) * validation_fraction)
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    return Split(np.sort(train), np.sort(validation), np.sort(test))


@dataclass(frozen=True)
class Standardiser:
    """Counts to the network's units and back: standardised = (counts - mean) / std."""

    mean: float
    std: float

    @classmethod
    def fit(cls, maps: np.ndarray) -> Standardiser:
        """Mean and standard deviation over all pixels of all `maps`, in counts."""
        return cls(float(np.mean(maps, dtype=np.float64)), float(np.std(maps, dtype=np.float64)))

    def __call__(self, counts: Any) -> Any:
        """Counts to standard units (any array or tensor)."""
        return (counts - self.mean) / self.std

    def inverse(self, standardised: Any) -> Any:
        """Standard units to counts."""
        return standardised * self.std + self.mean


def augment(maps: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each map rolled, rotated by a multiple of 90 degrees and flipped, each at random.

    Boxes are periodic and have no preferred direction, so none of this changes what a map says
    about cosmology, and it is exact: pixels move, none is interpolated.

    Args:
        maps: (n, N, N).
        generator: draws two rolls, two reversals and one transposition a map.

    Returns:
        New maps (n, N, N).
    """
    n, size = maps.shape[:2]
    # Two reversals and a transposition make all eight rotations and reflections of a square.
    offset = generator.integers(size, size=(2, n, 1))
    sign = generator.choice((-1, 1), size=(2, n, 1))
    rows, columns = (offset + sign * np.arange(size)) % size
    moved = maps[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]
    transposed = generator.random(n) < 0.5
    moved[transposed] = moved[transposed].swapaxes(1, 2)
    return moved
