"""The files of a released set, and whether a folder is one: whole, undamaged, of this version.

==========================  ================================================================
file                        what it is
==========================  ================================================================
`release.json`              scale, versions, the MD5 of all other files, the table of damage
`params.yaml`               the parameters of the run
`maps.h5`                   test maps, evenly spaced among those of the run
`maps.md5`                  the MD5 of each map of the run, `spurious.simulation.manifest`
`systematics.json`          family -> parameters of the worst systematic that the search found
`models/<name>/<n>.keras`   the networks
==========================  ================================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from spurious import params
from spurious.config import Config
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.files import md5
from spurious.networks.model_files import read_identity
from spurious.pipeline.layout import Layout
from spurious.pipeline.schemas import Result, read
from spurious.simulation import manifest
from spurious.simulation.manifest import Line

SCHEMA = 1
RELEASE, PARAMS, MAPS, MANIFEST = "release.json", "params.yaml", "maps.h5", "maps.md5"
SYSTEMATICS = "systematics.json"
PACKAGES = ("spurious", "tensorflow", "keras", "tensorflow-probability", "numpy")
MODEL = re.compile(r"models/(?P<name>[^/]+)/(?P<number>\d+)\.keras")
LARGEST = 25e6  # bytes: the set travels with every clone

Table = dict[str, dict[str, float]]
"""Row of the table of damage -> column -> number."""


class About(Result):
    """What `release.json` must have."""

    schema_: int = Field(alias="schema")
    scale: str
    versions: dict[str, str]
    files: dict[str, str] = Field(min_length=1)
    rows: Table = Field(min_length=1)
    run: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Released:
    """A set that was found whole.

    Attributes:
        folder: where it is.
        about: content of its `release.json`.
        config: the parameters of the run, at the scale of the set.
        maps: its test maps.
        winners: family -> parameters of the worst systematic.
    """

    folder: Path
    about: Mapping[str, Any]
    config: Config
    maps: MapSet
    winners: Mapping[str, Mapping[str, float]]

    @property
    def models(self) -> list[tuple[str, int]]:
        """Name and number of the training of each network."""
        found = map(MODEL.fullmatch, self.about["files"])
        return [(one["name"], int(one["number"])) for one in found if one]

    def model(self, name: str, training: int = 1) -> Path:
        """The file of a network."""
        return self.folder / model_file(name, training)


def model_file(name: str, training: int) -> str:
    """Name of a network's file within a set."""
    return f"models/{name}/{training}.keras"


def versions() -> dict[str, str]:
    """Of the packages that decide what a network answers."""
    return {package: metadata.version(package) for package in PACKAGES}


def contents(folder: Path) -> dict[str, Path]:
    """All files of a folder by their name within it, but for `release.json`."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*"))}
    return {name: path for name, path in found.items() if path.is_file() and name != RELEASE}


def open_set(folder: Path, scale: str) -> Released:
    """Read a released set and check it, but for its table.

    Raises:
        UserError: it is missing, incomplete, damaged, of another version or scale, or what it holds
            does not belong together; one line with the first file where that shows.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: fetch it with `dvc pull data.dvc`")
    about = _about(folder, scale)
    _check_files(folder, about["files"])
    return assembled(folder, about, scale)


def assembled(folder: Path, about: Mapping[str, Any], scale: str) -> Released:
    """A set from files that are whole.

    Raises:
        UserError: they do not belong together.
    """
    winners: dict[str, dict[str, float]] = read(folder / SYSTEMATICS, dict[str, dict[str, float]])
    config = params.load(folder / PARAMS, scale)
    released = Released(folder, about, config, read_maps(folder / MAPS), winners)
    _check_maps(released)
    _check_models(released)
    return released


def _about(folder: Path, scale: str) -> dict[str, Any]:
    about: dict[str, Any] = read(folder / RELEASE, About)
    if about["schema"] != SCHEMA:
        raise UserError(f"{folder} is a set of schema {about['schema']}, expected {SCHEMA}")
    if about["scale"] != scale:
        raise UserError(f"{folder} is of the scale {about['scale']}, not {scale}")
    here, there = versions()["spurious"], about["versions"].get("spurious")
    if here != there:
        raise UserError(f"{folder} is of spurious {there}, this is {here}: check out that version")
    return about


def _check_files(folder: Path, expected: Mapping[str, str]) -> None:
    found = contents(folder)
    for name in expected:
        if name not in found:
            raise UserError(f"{folder} is incomplete: {name} is missing; `dvc pull data.dvc`")
    for name, path in found.items():
        if name not in expected:
            raise UserError(f"{folder} has a file that is none of its own: {name}")
        if (now := md5(path)) != expected[name]:
            raise UserError(f"{path} is damaged: its MD5 is {now}, not {expected[name]}")


def _check_maps(released: Released) -> None:
    """Every map must be one of the suite, and the suite that of this clone, if it has one."""
    stored = manifest.read(released.folder / MANIFEST)
    own = Layout(released.config.scale).manifest
    if own.is_file() and own.read_bytes() != stored.path.read_bytes():
        raise UserError(f"{stored.path} is of another suite than {own}")
    data = released.maps
    for pixels, index, axis in zip(data.maps, data.index, data.axis, strict=True):
        if Line.of(pixels, axis).md5 not in {line.md5 for line in stored.of(int(index))}:
            raise UserError(
                f"{released.folder / MAPS}: simulation {index} is not that of {stored.path}"
            )


def _check_models(released: Released) -> None:
    """Every network must say that it is the training whose name its file has."""
    for posterior, number in released.models:
        wanted = {"scale": released.config.scale, "posterior": posterior, "training": number}
        name = model_file(posterior, number)
        found = read_identity(released.folder / name)
        for key, value in wanted.items():
            if found.get(key) != value:
                raise UserError(
                    f"{released.folder / name} is of {key} = {found.get(key)}, not {value}"
                )
