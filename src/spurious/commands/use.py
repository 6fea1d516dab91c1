"""`spurious use`: maps of one's own in the place of simulations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from spurious.config import Config
from spurious.data.camels import BOX_SIZE, UNIT, read_camels
from spurious.data.hdf5 import read_maps, write_maps
from spurious.data.maps import NAMES, MapSet
from spurious.description.names import RULE, is_name
from spurious.errors import UserError, shown
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import replaced_together


def use(
    config: Config,
    maps: Path,
    parameters: Path | None = None,
    columns: Sequence[tuple[str, int]] = (),
    box_size: float | None = None,
    unit: str | None = None,
    mean: float | None = None,
) -> None:
    """Write `data/<scale>/maps.h5`, which all stages read, from another file.

    Args:
        config: says the scale.
        maps: a data set of this package, or a NumPy file (n, N, N).
        parameters: of a NumPy file: a text file, one row a simulation.
        columns: of it: what each parameter is called, and its column, counted from 0; by default
            omega_m and sigma_8 in the first two.
        box_size: side of a map of a NumPy file in Mpc/h; by default that of CAMELS.
        unit: of its pixels.
        mean: over all pixels of all maps, to which one factor brings them; by default they stay as
            they are.

    Raises:
        UserError: there are maps already, or the files are not what they should be.
    """
    path = Layout(config.scale).maps
    if path.exists():
        raise UserError(f"{path} exists and is kept: move it away to use {maps}")
    if maps.suffix == ".npy":
        if parameters is None:
            raise UserError(f"--parameters is missing: a table with a row for each map of {maps}")
        data = _of_arrays(maps, parameters, columns, box_size, unit)
    else:
        given = {"parameters": parameters, "column": columns, "box-size": box_size, "unit": unit}
        for option in (name for name, value in given.items() if value):
            raise UserError(f"--{option}: only goes with a NumPy file; {maps} says that itself")
        data = read_maps(maps)
    if bad := [name for name in data.names if not is_name(name)]:  # of keys of results and metrics
        raise UserError(f"parameter {shown(bad[0])}: {RULE}")
    if mean is not None:
        data = scaled(data, mean)
    with replaced_together("use", [path]) as out:
        write_maps(out.new(path), data)
    n = data.maps.shape[-1]
    print(f"{path}: {len(data)} maps of {n} x {n} pixels, parameters {', '.join(data.names)}")


def _of_arrays(
    maps: Path,
    parameters: Path,
    columns: Sequence[tuple[str, int]],
    box_size: float | None,
    unit: str | None,
) -> MapSet:
    names, numbers = zip(*(columns or enumerated()), strict=True)
    size = BOX_SIZE if box_size is None else box_size
    return read_camels(
        maps, parameters, box_size=size, names=names, columns=numbers, unit=unit or UNIT
    )


def scaled(data: MapSet, mean: float) -> MapSet:
    """All maps times one factor, so that their own means still differ as they did.

    Systematics and their ranges are in counts of mean 64: on maps in another unit they would do
    nothing, or everything.
    """
    factor = np.float32(mean / np.mean(data.maps, dtype=np.float64))
    about = {**data.provenance, "factor": float(factor)}
    unit = f"{data.unit}, times {factor:.6g}"
    return replace(data, maps=data.maps * factor, unit=unit, provenance=about)


def enumerated() -> list[tuple[str, int]]:
    """The names and columns of CAMELS' first parameters."""
    return [(name, column) for column, name in enumerate(NAMES)]
