"""A data set as other libraries want it: `tf.data` for training, xarray for looking at it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from spurious.maps import MapSet

if TYPE_CHECKING:
    import tensorflow as tf

LINE_OF_SIGHT = "box axis along which the map was projected; -1 if unknown"


def to_dataset(data: MapSet, batch_size: int | None = 32) -> tf.data.Dataset:
    """Pairs (map, label) in the order of the data set, ready for Keras' `fit`.

    Args:
        data: the maps; TensorFlow holds a copy of them.
        batch_size: pairs a batch, the last one may be short; none: single pairs, to shuffle
            (`to_dataset(data, None).shuffle(len(data)).batch(32)`).

    Returns:
        Of (batch, N, N) and (batch, p), both float32.
    """
    import tensorflow as tf  # takes seconds, and xarray does without

    pairs = (np.asarray(data.maps, np.float32), np.asarray(data.labels, np.float32))
    dataset = tf.data.Dataset.from_tensor_slices(pairs)
    if batch_size is not None:
        dataset = dataset.batch(batch_size)
    return dataset.prefetch(tf.data.AUTOTUNE)


def to_xarray(data: MapSet) -> xarray.Dataset:
    """Named axes, coordinates in Mpc/h and units. Nothing is copied.

    Variables: `maps` (map, row, column) and, if they were read, `fields` (simulation, x, y, z).
    Rows and columns are the two box axes beside the line of sight, in order: y and z for axis 0,
    x and z for axis 1, x and y for axis 2.

    Coordinates: pixel centres along each axis; each map's labels (by name), `seed`, `axis` and
    `index`, the number of its simulation. `fields.sel(simulation=index)` are the maps' own fields.
    """
    n = data.maps.shape[1]
    centres = (np.arange(n) + 0.5) * data.box_size / n
    coordinates: dict[str, Any] = {
        **{name: ("map", data.labels[:, i]) for i, name in enumerate(data.names)},
        "seed": ("map", data.seeds),
        "index": ("map", data.index, {"long_name": "number of the simulation"}),
        "axis": ("map", data.axis, {"long_name": LINE_OF_SIGHT}),
        **{name: _position(name, centres) for name in ("row", "column")},
    }
    variables: dict[str, Any] = {
        "maps": (("map", "row", "column"), data.maps, {"units": data.unit})
    }
    if data.fields is not None:
        coordinates["simulation"] = ("simulation", data.simulations)
        coordinates |= {name: _position(name, centres) for name in "xyz"}
        unit = {"long_name": "density", "units": "mean density"}
        variables["fields"] = (("simulation", "x", "y", "z"), data.fields, unit)
    about = {
        "box_size": float(data.box_size),
        "box_size_units": "Mpc/h",
        "names": list(data.names),
        "provenance": json.dumps(dict(data.provenance), sort_keys=True),
    }
    return xarray.Dataset(variables, coordinates, about)


def _position(name: str, centres: np.ndarray) -> tuple[str, np.ndarray, dict[str, str]]:
    return name, centres, {"long_name": f"pixel centre along {name}", "units": "Mpc/h"}
