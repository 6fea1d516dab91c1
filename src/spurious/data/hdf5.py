"""Data sets on disk: projected density maps with their labels, as HDF5.

HDF5 schema, version 2 (one file is one `MapSet`; see docs/data.md):

==========  ===================  ==========================================================
dataset     shape, type          meaning
==========  ===================  ==========================================================
`maps`      (n, N, N) float32    the maps, in the unit that the attribute `unit` names; from
                                 this engine the projected particle count per pixel, mean N
                                 for N^3 particles in N^3 cells
`labels`    (n, p) float64       the parameters, in the order of the attribute `names`
`seeds`     (n,) uint64          seed of each simulation's white noise; 0 if unknown
`index`     (n,) int64           number of the simulation: the same for all its maps
`axis`      (n,) int8            line of sight, box axis 0, 1 or 2; -1 if unknown
`fields`    (s, N, N, N)         optional: density of each of the s simulations in units of
            float32              its mean, in the order in which `index` first names them
==========  ===================  ==========================================================

A map seen along axis 2 has box axis 0 along its rows and axis 1 along its columns; along axis 1
it has 0 and 2, along axis 0 it has 1 and 2.

File attributes: `schema`, `names` (JSON list), `unit`, `box_size` (Mpc/h), `provenance` (JSON:
settings and versions that made the maps). Each dataset has the attribute `sha256`, of its bytes:
HDF5 itself does not notice a number that has changed on the disk. No time of day is stored: the
same inputs give the same bytes, so DVC sees a remade data set as unchanged.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from spurious.data import validity
from spurious.data.maps import (
    ROWS,
    Kind,
    MapSet,
    array_names,
)
from spurious.errors import UserError
from spurious.files import absent, replacing

SCHEMA = 2
BLOCK = 64 * 2**20  # bytes that `join_maps` holds in memory at a time
SLACK = 2**16  # bytes, more than a file has beside its arrays
SHA256 = "sha256"  # attribute of each array of a file


def write_maps(path: Path, data: MapSet) -> None:
    """Write a data set as HDF5, whole or not at all. The same data give the same bytes."""
    arrays = {name: getattr(data, name) for name in array_names(data.fields is not None)}
    shapes = {name: array.shape for name, array in arrays.items()}
    with _created(path, Kind.of(data), shapes, data.provenance) as file:
        for name, whole in arrays.items():
            _fill(file[name], [whole])


def read_maps(path: Path, fields: bool = False) -> MapSet:
    """Read a data set and check its values: every stage gets its maps from here.

    Args:
        path: of the file.
        fields: whether to read the three-dimensional fields too, which may be large.

    Raises:
        UserError: the file is missing, is not HDF5, or does not follow the schema; it holds values
            that no data set may have (`spurious.data.validity`), or others than were written into
            it; or `fields` are asked for and it has none.
    """
    with _opened(path) as file:
        if fields and "fields" not in file:
            raise UserError(f"{path} has no fields: make it with simulation.fields = true")
        data = MapSet(
            **{name: _read(path, file, name) for name in array_names(fields)},
            box_size=float(file.attrs["box_size"]),
            names=tuple(json.loads(file.attrs["names"])),
            unit=str(file.attrs["unit"]),
            provenance=dict(json.loads(file.attrs["provenance"])),
        )
        _check(path, data)
        for name in array_names(fields):
            _check_digest(path, file[name], getattr(data, name))
        return data


def fingerprint(path: Path) -> str:
    """Hash of the maps, labels and seeds of a file, read from its checksums if it has them.

    Raises:
        UserError: the file is missing or damaged.
    """
    digest = hashlib.sha256()
    with _opened(path) as file:
        stored = {name: file[name].attrs.get(SHA256) for name in ROWS}
    for name, one in stored.items():
        digest.update(f"{name} {one or _digest(_blocks(path, name))}".encode())
    return digest.hexdigest()


def join_maps(path: Path, parts: Iterable[Path], provenance: Mapping[str, Any]) -> None:
    """Stream finished files into one, in order, whole or not at all, never all in memory.

    The bytes are those that `write_maps` would give `concatenate` of the parts.

    Args:
        path: the file to write.
        parts: files of `write_maps`; all or none of them have fields.
        provenance: of the whole; that of the parts is dropped.

    Raises:
        UserError: there are no parts; one is missing or damaged; they do not fit together.
    """
    parts = [Path(part) for part in parts]
    kind, shapes = _joined(path, parts)
    with _created(path, kind, shapes, provenance) as file:
        for name in shapes:
            _fill(file[name], (block for part in parts for block in _blocks(part, name)))


@contextmanager
def _created(
    path: Path, kind: Kind, shapes: Mapping[str, tuple[int, ...]], provenance: Mapping[str, Any]
) -> Iterator[h5py.File]:
    """A new file with its attributes and empty arrays; it gets its name when the block is done."""
    with replacing(path) as temporary:
        dtypes = {name: np.dtype(ROWS.get(name, np.float32)) for name in shapes}
        size = sum(dtypes[name].itemsize * math.prod(shape) for name, shape in shapes.items())
        _require_space(temporary, SLACK + size)
        with h5py.File(temporary, "w") as file:
            file.attrs["schema"] = SCHEMA
            file.attrs["names"] = json.dumps(list(kind.names))
            file.attrs["unit"] = kind.unit
            file.attrs["box_size"] = kind.box_size
            file.attrs["provenance"] = json.dumps(dict(provenance), sort_keys=True)
            # All before the first is filled, so that the bytes depend on content alone.
            for name, shape in shapes.items():
                file.create_dataset(name, shape, dtypes[name], track_times=False)
            yield file


def _fill(target: h5py.Dataset, blocks: Iterable[np.ndarray]) -> None:
    """Write all rows of an array, and the checksum of its bytes."""
    digest, end = hashlib.sha256(), 0
    for block in blocks:
        start, end = end, end + len(block)
        rows = np.ascontiguousarray(block, target.dtype)
        digest.update(rows.data)
        target[start:end] = rows
    target.attrs[SHA256] = digest.hexdigest()


def _digest(blocks: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def _read(path: Path, file: h5py.File, name: str) -> np.ndarray:
    """One array, in the type of the schema."""
    validity.check_kind(path, name, file[name].dtype)
    found: np.ndarray = file[name][...]
    with np.errstate(over="ignore"):  # a number too large for the type is refused as infinite
        return found.astype(ROWS.get(name, np.float32), copy=False)


def _check(path: Path, data: MapSet) -> None:
    validity.check_about(path, data.names, data.unit, data.box_size)
    validity.check_maps(path, data.maps)
    validity.check_labels(path, data.labels, data.names, data.provenance.get("ranges"))
    validity.check_simulations(path, data.index, data.labels, data.seeds, data.names)
    if data.fields is not None:
        validity.check_maps(path, data.fields, "fields")


def _check_digest(path: Path, stored: h5py.Dataset, found: np.ndarray) -> None:
    """Refuse valid values that differ from those written, if the file has a checksum."""
    if (expected := stored.attrs.get(SHA256)) not in (None, _digest([found])):
        name = stored.name.strip("/")
        raise UserError(
            f"{path} is damaged: its {name} are not those that were written into it "
            f"(SHA-256, not {str(expected)[:12]}): fetch it or make it again"
        )


def _require_space(path: Path, size: int) -> None:
    """An OSError if the disk cannot hold `size` bytes: HDF5 itself crashes when it cannot write."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """A file of this schema, for reading; errors of HDF5 become one line."""
    if not Path(path).is_file():
        raise UserError(absent(path))
    try:
        with h5py.File(path, "r") as file:
            if (schema := file.attrs["schema"]) != SCHEMA:
                raise UserError(f"{path} has schema {schema}, expected {SCHEMA}: make it again")
            yield file
    except (
        OSError, KeyError, TypeError, ValueError, RuntimeError,
        AttributeError, MemoryError, OverflowError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged or is no map data set: {reason}") from error


def _blocks(path: Path, name: str) -> Iterator[np.ndarray]:
    """The rows of one array of a file, in blocks of limited size."""
    with _opened(path) as file:
        source = file[name]
        step = max(1, BLOCK // max(1, source.dtype.itemsize * math.prod(source.shape[1:])))
        for start in range(0, len(source), step):
            yield source[start : start + step]


def _joined(path: Path, parts: Sequence[Path]) -> tuple[Kind, dict[str, tuple[int, ...]]]:
    """What all parts share, and the shapes of the joined arrays."""
    if not parts:
        raise UserError(f"{path}: there are no parts to join")
    kinds, shapes, index = zip(*(_summary(part) for part in parts), strict=True)
    for part, kind in zip(parts, kinds, strict=True):
        if kind != kinds[0]:
            raise UserError(f"{part} does not fit to {parts[0]}: {kind}; {kinds[0]}")
    joined = {
        name: (sum(one[name][0] for one in shapes), *shape[1:]) for name, shape in shapes[0].items()
    }
    simulations = len(np.unique(np.concatenate(index)))
    if kinds[0].fields and joined["fields"][0] != simulations:
        raise UserError(
            f"{path}: its parts have {joined['fields'][0]} fields for {simulations} simulations; "
            "all maps of a simulation must be in the same part"
        )
    return kinds[0], joined


def _summary(path: Path) -> tuple[Kind, dict[str, tuple[int, ...]], np.ndarray]:
    """Kind, shapes and simulation numbers of a file, without its maps."""
    with _opened(path) as file:
        fields = "fields" in file
        shapes = {name: file[name].shape for name in array_names(fields)}
        kind = Kind(
            tuple(json.loads(file.attrs["names"])),
            str(file.attrs["unit"]),
            float(file.attrs["box_size"]),
            shapes["maps"][1],
            fields,
        )
        return kind, shapes, file["index"][...]
