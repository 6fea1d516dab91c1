"""The manifest of a suite: the MD5 of each of its maps, by which any one of them can be remade.

A text file, a line a map, in the order of the data set::

    # MD5 of each map's pixels: float32, little-endian, row by row
    # {"lines": ..., "labels": ..., "provenance": {...}, "schema": 1}
    # simulation axis md5 std max
    0 2 0cc175b9c0f1b6a831c399e269772661 38.81234 812.3456

The MD5 is that of the 4 N^2 bytes of one map (N, N) and of nothing else. `std` and `max`, in
counts, tell maps of another processor from other maps: there the last bits may differ. The header
has what determines the maps, the MD5 of their cosmologies and seeds, and that of all lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spurious.data.maps import MapSet
from spurious.errors import UserError, shown
from spurious.files import replacing

SCHEMA = 1
TITLE = "# MD5 of each map's pixels: float32, little-endian, row by row"
COLUMNS = "# simulation axis md5 std max"
TOLERANCE = 1e-4
"""Largest difference of `std` and `max`, over `std`, of the same map on another processor."""


@dataclass(frozen=True)
class Line:
    """One map: its line of sight, the MD5 of its pixels, their deviation and largest in counts."""

    axis: int
    md5: str
    std: float
    largest: float

    @classmethod
    def of(cls, pixels: np.ndarray, axis: int) -> Line:
        """The line of a map (N, N)."""
        std, largest = float(pixels.std(dtype=np.float64)), float(pixels.max())
        return cls(axis, digest(pixels), std, largest)

    def difference(self, other: Line) -> float:
        """How far two maps are apart as their numbers say, over the deviation of this one."""
        apart = max(abs(self.std - other.std), abs(self.largest - other.largest))
        return apart / self.std


@dataclass(frozen=True)
class Manifest:
    """What a suite's maps are, without the maps.

    Attributes:
        path: where it was read.
        provenance: everything that determines the maps besides their labels and seeds.
        labels: MD5 of cosmologies and seeds, see `labels_digest`.
        lines: of each simulation, by its number, one a line of sight.
    """

    path: Path
    provenance: Mapping[str, Any]
    labels: str
    lines: Mapping[int, tuple[Line, ...]]

    def of(self, index: int) -> tuple[Line, ...]:
        """The lines of one simulation.

        Raises:
            UserError: there is no such simulation.
        """
        if index not in self.lines:
            last = max(self.lines, default=-1)
            raise UserError(f"simulation {index} is not in {self.path}: it has 0 to {last}")
        return self.lines[index]

    def check(self, provenance: Mapping[str, Any], labels: str) -> None:
        """Refuse the manifest of other maps.

        Args:
            provenance: of the maps that are expected, as a file has it.
            labels: their `labels_digest`.

        Raises:
            UserError: names the first setting or version that differs.
        """
        for key, found, expected in _differences(self.provenance, provenance):
            raise UserError(
                f"{self.path} is of other maps: {key} = {shown(found)} there, {shown(expected)} "
                "here; use what it was made with, or make it again with `spurious simulate`"
            )
        if labels != self.labels:
            raise UserError(
                f"{self.path} is of other maps: its design has other cosmologies; make it again "
                "with `spurious simulate`"
            )


def digest(pixels: np.ndarray) -> str:
    """MD5 of a map (N, N): float32, little-endian, row by row, and nothing else."""
    return hashlib.md5(np.ascontiguousarray(pixels, "<f4").data, usedforsecurity=False).hexdigest()


def labels_digest(labels: np.ndarray, seeds: np.ndarray) -> str:
    """MD5 of labels (n, p) and seeds (n,) of maps: float64 and uint64, little-endian, in turn."""
    found = hashlib.md5(np.ascontiguousarray(labels, "<f8").data, usedforsecurity=False)
    found.update(np.ascontiguousarray(seeds, "<u8").data)
    return found.hexdigest()


def write(path: Path, data: MapSet, provenance: Mapping[str, Any]) -> None:
    """Write the manifest of a data set, whole or not at all. Equal maps give equal bytes."""
    body = "".join(
        f"{index} {line.axis} {line.md5} {line.std:.7g} {line.largest:.7g}\n"
        for index, line in zip(data.index, map(Line.of, data.maps, data.axis), strict=True)
    )
    about = {
        "schema": SCHEMA,
        "provenance": dict(provenance),
        "labels": labels_digest(data.labels, data.seeds),
        "lines": _text_digest(body),
    }
    head = f"{TITLE}\n# {json.dumps(about, sort_keys=True)}\n{COLUMNS}\n"
    with replacing(path) as temporary:
        temporary.write_text(head + body, encoding="utf-8")


def read(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        UserError: it is missing, damaged, or of another version of this format.
    """
    try:
        title, about, _, body = path.read_text(encoding="utf-8").split("\n", 3)
        if not title.startswith("# MD5 of each map"):
            raise ValueError("it does not begin like one")
        return _parsed(path, json.loads(about.removeprefix("#")), body)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: `spurious simulate` writes it") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged or is no manifest of maps: {reason}") from error


def _parsed(path: Path, about: Mapping[str, Any], body: str) -> Manifest:
    if about["schema"] != SCHEMA:
        raise UserError(f"{path} has schema {shown(about['schema'])}, expected {SCHEMA}")
    if _text_digest(body) != about["lines"]:
        raise ValueError("its lines are not those that were written")
    lines: dict[int, tuple[Line, ...]] = {}
    for text in body.splitlines():
        index, axis, md5, std, largest = text.split(" ")
        line = Line(int(axis), md5, float(std), float(largest))
        lines[int(index)] = (*lines.get(int(index), ()), line)
    return Manifest(path, dict(about["provenance"]), str(about["labels"]), lines)


def _text_digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _differences(found: Any, expected: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each value that two nested dictionaries do not share: its key, there and here."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for name in sorted({*found, *expected}):
            below = f"{key}.{name}" if key else name
            yield from _differences(found.get(name), expected.get(name), below)
    elif found != expected:
        yield key, found, expected
