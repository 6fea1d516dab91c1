"""A data set in memory: projected density maps, their labels, and where each comes from.

As arrays, as a `tf.data.Dataset` for training, and as an `xarray.Dataset` to look at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf
    import xarray

NAMES = ("omega_m", "sigma_8")
UNIT = "projected particle count per pixel"
ROWS = {
    "maps": np.float32,
    "labels": np.float64,
    "seeds": np.uint64,
    "index": np.int64,
    "axis": np.int8,
}
LINE_OF_SIGHT = "box axis along which the map was projected; -1 if unknown"


@dataclass(frozen=True)
class MapSet:
    """Maps, and what is known about each.

    Attributes:
        maps: (n, N, N); the maps of one simulation follow each other.
        labels: the parameters, (n, p).
        seeds: of each simulation's white noise, (n,); 0 if unknown.
        index: number of the simulation, (n,); the same for all its maps.
        axis: line of sight, (n,): box axis 0, 1 or 2; -1 if unknown.
        box_size: side of a map, Mpc/h.
        names: the p parameters.
        unit: of the maps.
        provenance: settings and versions that made them. `ranges` in it, parameter -> (least,
            greatest), are those of the simulations: readers refuse labels beyond them.
        fields: density in units of the mean, one a simulation in the order of `simulations`,
            (s, N, N, N); None if not kept or not read.
    """

    maps: np.ndarray
    labels: np.ndarray
    seeds: np.ndarray
    index: np.ndarray
    axis: np.ndarray
    box_size: float
    names: tuple[str, ...] = NAMES
    unit: str = UNIT
    provenance: Mapping[str, Any] = field(default_factory=dict)
    fields: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, p = len(self.maps), len(self.names)
        if self.maps.ndim != 3 or self.maps.shape[1] != self.maps.shape[2]:
            raise ValueError(f"maps have shape {self.maps.shape}, expected (n, N, N)")
        if self.labels.shape != (n, p):
            raise ValueError(f"labels have shape {self.labels.shape}, expected {(n, p)}")
        if not self.seeds.shape == self.index.shape == self.axis.shape == (n,):
            raise ValueError(f"seeds, index and axis must have shape ({n},)")
        if not np.isin(self.axis, (-1, 0, 1, 2)).all():
            raise ValueError("axis must be 0, 1 or 2, or -1 for unknown")
        expected = (len(self.simulations), *self.maps.shape[1:], self.maps.shape[1])
        if self.fields is not None and self.fields.shape != expected:
            raise ValueError(f"fields have shape {self.fields.shape}, expected {expected}")

    def __len__(self) -> int:
        return len(self.maps)

    @property
    def simulated(self) -> bool:
        """Whether this package simulated them, with all that it knows of its simulations."""
        return "simulation" in self.provenance

    @property
    def simulations(self) -> np.ndarray:
        """Numbers of the simulations, each once, in the order in which `index` has them: (s,)."""
        return distinct(self.index)[0]

    def take(self, rows: np.ndarray) -> MapSet:
        """The subset at `rows`, in that order.

        Fields stay with their simulations: kept are those that still have a map, each once, in
        the order in which the subset first names them.
        """
        fields = self.fields
        if fields is not None:
            _, place = distinct(self.index)
            fields = fields[distinct(place[rows])[0]]
        taken = {name: getattr(self, name)[rows] for name in ROWS}
        return replace(self, **taken, fields=fields)

    def to_dataset(self, batch_size: int | None = 32) -> tf.data.Dataset:
        """Pairs (map, label) in the order of the data set, ready for Keras' `fit`.

        TensorFlow holds a copy of them.

        Args:
            batch_size: pairs a batch, the last one may be short; none: single pairs, to shuffle
                (`data.to_dataset(None).shuffle(len(data)).batch(32)`).

        Returns:
            Of (batch, N, N) and (batch, p), both float32.
        """
        import tensorflow as tf  # takes seconds, and most readers do without

        pairs = (np.asarray(self.maps, np.float32), np.asarray(self.labels, np.float32))
        dataset = tf.data.Dataset.from_tensor_slices(pairs)
        if batch_size is not None:
            dataset = dataset.batch(batch_size)
        return dataset.prefetch(tf.data.AUTOTUNE)

    def to_xarray(self) -> xarray.Dataset:
        """Named axes, coordinates in Mpc/h and units. Nothing is copied.

        Variables: `maps` (map, row, column) and, if they were read, `fields` (simulation, x, y,
        z). Rows and columns are the two box axes beside the line of sight, in order: y and z for
        axis 0, x and z for axis 1, x and y for axis 2.

        Coordinates: pixel centres along each axis; each map's labels (by name), `seed`, `axis` and
        `index`, the number of its simulation. `fields.sel(simulation=index)` gives the maps' own
        fields.
        """
        import xarray

        n = self.maps.shape[1]
        centres = (np.arange(n) + 0.5) * self.box_size / n
        coordinates: dict[str, Any] = {
            **{name: ("map", self.labels[:, i]) for i, name in enumerate(self.names)},
            "seed": ("map", self.seeds),
            "index": ("map", self.index, {"long_name": "number of the simulation"}),
            "axis": ("map", self.axis, {"long_name": LINE_OF_SIGHT}),
            **{name: _position(name, centres) for name in ("row", "column")},
        }
        variables: dict[str, Any] = {
            "maps": (("map", "row", "column"), self.maps, {"units": self.unit})
        }
        if self.fields is not None:
            coordinates["simulation"] = ("simulation", self.simulations)
            coordinates |= {name: _position(name, centres) for name in "xyz"}
            unit = {"long_name": "density", "units": "mean density"}
            variables["fields"] = (("simulation", "x", "y", "z"), self.fields, unit)
        about = {
            "box_size": float(self.box_size),
            "box_size_units": "Mpc/h",
            "names": list(self.names),
            "provenance": json.dumps(dict(self.provenance), sort_keys=True),
        }
        return xarray.Dataset(variables, coordinates, about)


def distinct(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values in order of first appearance, and the place of each value among them."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return values[np.sort(first)], np.argsort(order)[inverse]


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


def concatenate(parts: Sequence[MapSet]) -> MapSet:
    """Join data sets in order; provenance is the first one's.

    Raises:
        ValueError: box size, names or unit differ, only some have fields, or a simulation with a
            field is in two of them.
    """
    first, kind = parts[0], Kind.of(parts[0])
    for part in parts:
        if Kind.of(part) != kind:
            raise ValueError(f"{Kind.of(part)} does not fit to {kind}")
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in array_names(kind.fields)
    }
    return replace(first, **joined)


class Kind(NamedTuple):
    """What data sets must share to be joined."""

    names: tuple[str, ...]
    unit: str
    box_size: float
    n_pixels: int
    fields: bool

    @classmethod
    def of(cls, data: MapSet) -> Kind:
        """The kind of a data set in memory."""
        fields = data.fields is not None
        return cls(data.names, data.unit, float(data.box_size), data.maps.shape[1], fields)

    def __str__(self) -> str:
        fields = "with fields" if self.fields else "without fields"
        names = ", ".join(self.names)
        return f"{self.n_pixels} pixels, {self.box_size} Mpc/h, {names}, {self.unit}, {fields}"


def array_names(fields: bool) -> list[str]:
    """The arrays of a data set, with its fields or without."""
    return [*ROWS, "fields"] if fields else list(ROWS)


def _position(name: str, centres: np.ndarray) -> tuple[str, np.ndarray, dict[str, str]]:
    return name, centres, {"long_name": f"pixel centre along {name}", "units": "Mpc/h"}
