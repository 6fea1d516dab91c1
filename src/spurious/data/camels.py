"""Maps of the CAMELS Multifield Dataset (CMD, arXiv:2109.10915) as a data set of this package.

A file such as `Maps_Mtot_Nbody_IllustrisTNG_LH_z=0.00.npy` holds (15 000, 256, 256) maps of
25 Mpc/h a side, 15 of each simulation one after the other. The text file beside it has a row a
simulation; its columns are Omega_m, sigma_8, A_SN1, A_AGN1, A_SN2, A_AGN2.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spurious.data import validity
from spurious.data.maps import NAMES, MapSet
from spurious.errors import UserError
from spurious.files import absent

BOX_SIZE = 25.0  # Mpc/h, of every simulation of the set as published
UNIT = "as in the CAMELS Multifield Dataset"


def read_camels(
    maps: Path,
    parameters: Path,
    *,
    box_size: float = BOX_SIZE,
    names: Sequence[str] = NAMES,
    columns: Sequence[int] = (0, 1),
    unit: str = UNIT,
) -> MapSet:
    """Read an array of CMD maps and the parameters of its simulations.

    The number of maps a simulation follows from the two files. Single-precision maps stay on disk,
    mapped into memory read-only, until they are used.

    Args:
        maps: NumPy file (n, N, N), the maps of one simulation one after the other.
        parameters: text file, one row a simulation.
        box_size: side of a map, Mpc/h.
        names: what to call the chosen parameters.
        columns: which columns of `parameters` they are, counted from 0.
        unit: of the maps, such as "(Msun/h) / (Mpc/h)^2" for a column density.

    Returns:
        Maps as they are in the file, `index` the row in `parameters`. Seeds and lines of sight are
        unknown: 0 and -1.

    Raises:
        UserError: a file is missing or is not what it should be, the two do not fit together, or
            a map or a chosen parameter has a value that no data set may have
            (`spurious.data.validity`).
    """
    if len(names) != len(columns) or len(set(names)) < len(names):
        raise UserError(
            f"names = {list(names)}: must differ, one for each of columns = {list(columns)}"
        )
    validity.check_about(Path(maps), names, unit, box_size)
    labels = _labels(Path(parameters), columns)
    images = _images(Path(maps))
    each, left = divmod(len(images), len(labels))
    if left or not each:
        raise UserError(
            f"{maps} has {len(images)} maps: must be a multiple of the {len(labels)} simulations "
            f"in {parameters}"
        )
    validity.check_maps(Path(maps), images)
    validity.check_labels(Path(parameters), labels, names)
    return MapSet(
        maps=images,
        labels=np.repeat(labels, each, axis=0),
        seeds=np.zeros(len(images), np.uint64),
        index=np.repeat(np.arange(len(labels)), each),
        axis=np.full(len(images), -1, np.int8),
        box_size=float(box_size),
        names=tuple(names),
        unit=unit,
        provenance={
            "source": "CAMELS Multifield Dataset",
            "maps": Path(maps).name,
            "parameters": Path(parameters).name,
            "columns": list(columns),
        },
    )


def _labels(path: Path, columns: Sequence[int]) -> np.ndarray:
    """The chosen columns, (simulations, p) float64."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty file, which is refused below
            table = np.loadtxt(path, ndmin=2)
    except FileNotFoundError as error:
        raise UserError(absent(path)) from error
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no table of numbers: {reason}") from error
    if not table.size:
        raise UserError(f"{path} has no rows: must have one a simulation")
    if not all(0 <= column < table.shape[1] for column in columns):
        raise UserError(
            f"columns = {list(columns)}: {path} has {table.shape[1]} columns, counted from 0"
        )
    labels: np.ndarray = table[:, list(columns)]
    return labels


def _images(path: Path) -> np.ndarray:
    """The maps, (n, N, N) float32."""
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(absent(path)) from error
    except (OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is no NumPy array of numbers: {reason}") from error
    if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "fiu":
        raise UserError(f"{path} is no NumPy array of real numbers")
    if stored.ndim != 3 or stored.shape[1] != stored.shape[2]:
        raise UserError(f"{path} has shape {stored.shape}: must be (n, N, N)")
    return np.asarray(stored).astype(np.float32, copy=False)
