"""Damaged files: maps, models, results and databases, made from sound ones of a finished run."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fuzzing.outcomes import Case, dice

SMALL = "fuzz/maps.h5"  # some of the real maps
ROWS = 22
MODEL = "models/pilot/compact/1.keras"
STORE = "mlruns/optuna.db"
RESULTS = {
    "assess.json": "report",
    "detection.json": "report",
    "audit.json": "report",
    "compare.json": "report",
    "search.json": "rows",
    "defences.json": "report",
    "attacks/paper/bim.json": "rows",
    "posteriors/compact.json": "described",
}  # below results/pilot, and who reads it
HARMLESS = {"a weight 1e+38", "no metadata.json"}  # what may be accepted, with finite answers
TEXT = b"This is a text, and nothing else.\n" * 50

Change = Callable[[h5py.File], None]


def truncated(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """The first part of a file."""
    length = draw.randrange(len(content))
    return content[:length], f"first {length} bytes"


def flipped(content: bytes, draw: random.Random, begin: int, end: int) -> tuple[bytes, str]:
    """One to eight bytes of a part of a file changed."""
    changed, places = bytearray(content), sorted(draw.sample(range(begin, end), draw.randint(1, 8)))
    for place in places:
        changed[place] ^= draw.randint(1, 255)
    return bytes(changed), f"bytes {', '.join(map(str, places))} changed"


def map_cases(seed: int, content: bytes) -> Iterator[Case]:
    """Damaged data sets; `content` is a sound one, `small_maps` of the real one."""
    begin, end = _pixels(content)
    number = 0
    for kind, count in (("truncated", 10), ("header", 24), ("pixels", 12)):
        for number in range(count):
            draw = dice(seed, "maps", kind, number)
            parts = {"header": (0, begin), "pixels": (begin, end)}
            made = flipped(content, draw, *parts[kind]) if kind in parts else None
            broken, what = made or truncated(content, draw)
            yield _maps(f"maps: {kind}", number, broken, what, kind == "truncated")
    for number, (what, change) in enumerate(_map_changes().items()):
        yield _maps("maps: values and structure", number, _changed(content, change), what, True)
    others = {"text": TEXT, "empty": b"", "zip": _zip({"maps": b"x"}), "zeros": bytes(5000)}
    for number, (what, other) in enumerate(others.items()):
        yield _maps("maps: no HDF5", number, other, what, True)


def small_maps(path: Path) -> bytes:
    """Some of the maps of a file, as a file of its own."""
    from spurious.data.hdf5 import read_maps, write_maps

    data = read_maps(path)
    with tempfile.TemporaryDirectory() as folder:
        write_maps(Path(folder) / "maps.h5", data.take(np.arange(min(ROWS, len(data)))))
        return (Path(folder) / "maps.h5").read_bytes()


def _maps(kind: str, number: int, content: bytes, what: str, must_refuse: bool) -> Case:
    return Case(kind, number, "maps", {SMALL: content}, ("maps.h5", SMALL), must_refuse, what)


def _pixels(content: bytes) -> tuple[int, int]:
    with h5py.File(io.BytesIO(content), "r") as file:
        begin = file["maps"].id.get_offset()
        return begin, begin + file["maps"].id.get_storage_size()


def _changed(content: bytes, change: Change) -> bytes:
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


def map_changed(content: bytes, what: str) -> bytes:
    """A data set with one of `_map_changes`."""
    return _changed(content, _map_changes()[what])


def _map_changes() -> dict[str, Change]:
    """What may be wrong in a data set that HDF5 itself can read."""
    return {
        "a pixel -1": _set("maps", (3, 5, 7), -1),
        "a pixel NaN": _set("maps", (3, 5, 7), np.nan),
        "a pixel inf": _set("maps", (0, 0, 0), np.inf),
        "a map constant": _set("maps", 4, 64.0),
        "a map all zero": _set("maps", 4, 0.0),
        "all maps zero": _set("maps", ..., 0.0),
        "a map's logarithm": _logarithm,
        "a label NaN": _set("labels", (2, 1), np.nan),
        "a label inf": _set("labels", (2, 0), np.inf),
        "a label 7": _set("labels", (2, 0), 7.0),
        "a label -0.3": _set("labels", (2, 0), -0.3),
        "a label 1e300": _set("labels", (1, 1), 1e300),
        "axis 9": _set("axis", 0, 9),
        "axis -7": _set("axis", 0, -7),
        **{f"no {name}": _dropped(name) for name in ("maps", "labels", "seeds", "index", "axis")},
        **{
            f"no attribute {name}": _without(name)
            for name in ("schema", "names", "unit", "box_size", "provenance")
        },
        "schema 99": _attribute("schema", 99),
        "schema text": _attribute("schema", "two"),
        "names of one": _attribute("names", '["omega_m"]'),
        "names no list": _attribute("names", "7"),
        "names no JSON": _attribute("names", "omega_m, sigma_8"),
        "names numbers": _attribute("names", "[1, 2]"),
        "names twice": _attribute("names", '["omega_m", "omega_m"]'),
        "box NaN": _attribute("box_size", np.nan),
        "box -128": _attribute("box_size", -128.0),
        "box 0": _attribute("box_size", 0.0),
        "box text": _attribute("box_size", "large"),
        "provenance no JSON": _attribute("provenance", "{"),
        "a row fewer of labels": lambda file: _write(file, "labels", file["labels"][:-1]),
        "a row more of seeds": lambda file: _write(file, "seeds", np.zeros(ROWS + 1, np.uint64)),
        "a row fewer of maps": lambda file: _write(file, "maps", file["maps"][:-1]),
        "maps not square": lambda file: _write(file, "maps", file["maps"][:, :, :-1]),
        "maps flat": lambda file: _write(file, "maps", file["maps"][:, 0]),
        "maps a number": lambda file: _write(file, "maps", np.float32(1)),
        "maps text": lambda file: _write(file, "maps", np.full((ROWS, 64, 64), b"x")),
        "maps complex": lambda file: _write(file, "maps", file["maps"][...] + 1j),
        "maps a group": _group("maps"),
        "no rows": _no_rows,
        "a dangling link": _link("maps", h5py.SoftLink("/nowhere")),
        "a link to itself": _link("maps", h5py.SoftLink("/maps")),
        "a link to another file": _link("maps", h5py.ExternalLink("../secret.h5", "/secret")),
        "a huge shape": _huge,
    }


def _set(name: str, where: Any, value: float) -> Change:
    def change(file: h5py.File) -> None:
        file[name][where] = value

    return change


def _write(file: h5py.File, name: str, values: Any) -> None:
    del file[name]
    file[name] = values


def _dropped(name: str) -> Change:
    return lambda file: file.__delitem__(name)


def _without(name: str) -> Change:
    return lambda file: file.attrs.__delitem__(name)


def _attribute(name: str, value: Any) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


def _link(name: str, link: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


def _group(name: str) -> Change:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_group(name)

    return change


def _logarithm(file: h5py.File) -> None:
    _write(file, "maps", np.log(file["maps"][...] / 64 + 0.01))  # below 0 where below the mean


def _no_rows(file: h5py.File) -> None:
    for name in ("maps", "labels", "seeds", "index", "axis"):
        _write(file, name, file[name][:0])


def _huge(file: h5py.File) -> None:
    """2 TB of maps that no byte of the file holds."""
    del file["maps"]
    file.create_dataset("maps", (2**27, 64, 64), np.float32, chunks=(64, 64, 64))


def model_cases(seed: int, models: Mapping[str, bytes]) -> Iterator[Case]:
    """Damaged models; `models` are sound ones by their paths."""
    content, number = models[MODEL], 0
    for kind, count in (("truncated", 10), ("bytes", 16)):
        for number in range(count):
            draw = dice(seed, "model", kind, number)
            made = truncated(content, draw) if kind == "truncated" else None
            broken, what = made or flipped(content, draw, 0, len(content))
            yield _model(f"model: {kind}", number, broken, what, kind == "truncated")
    wrong = {
        **{f"{path} copied over it": other for path, other in models.items() if path != MODEL},
        **{f"a weight {value}": weighted(content, value) for value in (np.nan, np.inf, 1e38)},
        **{f"no {name}": members_of(content, {name: None}) for name in members(content)},
        **{
            f"config.json {text[:20]}": members_of(content, {"config.json": text.encode()})
            for text in ("{}", "[]", "null", "", "{", '{"class_name": 1}', '"x"', "NaN")
        },
        "config.json no UTF-8": members_of(content, {"config.json": b"\xff\xfe{}"}),
        "weights text": members_of(content, {"model.weights.h5": TEXT}),
        "text": TEXT,
        "empty": b"",
        "an empty zip": _zip({}),
    }
    for number, (what, broken) in enumerate(wrong.items()):
        yield _model("model: content", number, broken, what, what not in HARMLESS)


def _model(kind: str, number: int, content: bytes, what: str, must_refuse: bool) -> Case:
    return Case(kind, number, "posterior", {MODEL: content}, ("1.keras", MODEL), must_refuse, what)


def members(content: bytes) -> dict[str, bytes]:
    """The files in a zip archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def members_of(content: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """A zip archive with some files replaced, added or (None) left out."""
    return _zip({**members(content), **changes})


def _zip(files: Mapping[str, bytes | None]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            if content is not None:
                archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def weighted(content: bytes, value: float) -> bytes:
    """A model in which one weight has another value."""
    buffer = io.BytesIO(members(content)["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        found = datasets(file)
        found[0][(0,) * found[0].ndim] = value
    return members_of(content, {"model.weights.h5": buffer.getvalue()})


def datasets(file: h5py.File) -> list[h5py.Dataset]:
    """All arrays of a file, the largest first."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, one: found.append(one) if isinstance(one, h5py.Dataset) else None)
    return sorted(found, key=lambda one: -one.size)


def result_cases(seed: int, results: Mapping[str, bytes]) -> Iterator[Case]:
    """Damaged results; `results` are sound ones by their paths below results/pilot."""
    for name, content in results.items():
        for number, (what, broken, must) in enumerate(_results(content, dice(seed, name))):
            path = f"results/pilot/{name}"
            named = (path, Path(name).name)
            yield Case(f"results: {name}", number, RESULTS[name], {path: broken}, named, must, what)


def _results(content: bytes, draw: random.Random) -> Iterator[tuple[str, bytes, bool]]:
    for text in ("{}", "[]", "null", "", "5", '"x"', "[[[[", "NaN", "[" * 100_000):
        yield text[:20] or "empty", text.encode(), True
    yield "no UTF-8", b"\xff" + content, True
    broken, what = truncated(content, draw)
    yield what, broken, True
    values: tuple[Any, ...] = (float("nan"), "text", None, [], {})
    for value in values:
        found = json.loads(content)
        above, key = draw.choice(_places(found))
        above[key] = value
        yield f"{key} = {value!r}", json.dumps(found).encode(), value != value


def _places(found: Any) -> list[tuple[Any, Any]]:
    """(collection, key) of every number in a result."""
    places = []
    for key, value in found.items() if isinstance(found, dict) else enumerate(found):
        if isinstance(value, dict | list):
            places += _places(value)
        elif isinstance(value, float):
            places.append((found, key))
    return places


def database_cases(seed: int, optuna: bytes, mlflow: bytes) -> Iterator[Case]:
    """Damaged databases: each case of MLflow's has a folder of its own, as MLflow keeps it open."""
    for name, content, reader in (("optuna", optuna, "study"), ("mlflow", mlflow, "tracking")):
        for number, (what, broken, must) in enumerate(_databases(seed, name, content)):
            path = f"fuzz/{number}/{name}.db"
            what = f"{_study(optuna)}: {what}"
            named = (path, f"{name}.db")
            yield Case(f"database: {name}.db", number, reader, {path: broken}, named, must, what)


def _databases(seed: int, name: str, content: bytes) -> Iterator[tuple[str, bytes, bool]]:
    yield "text", TEXT, True
    yield "zip", _zip({"x": b"x"}), True
    yield "header only", content[:100], True
    for number in range(4):
        broken, what = truncated(content, dice(seed, name, "truncated", number))
        yield what, broken, False
    for number in range(6):
        broken, what = flipped(content, dice(seed, name, number), 0, min(len(content), 50_000))
        yield what, broken, False


def _study(content: bytes) -> str:
    """The name of a study in an Optuna database."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optuna.db"
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as database:
            found = database.execute("SELECT study_name FROM studies ORDER BY study_id").fetchone()
    return str(found[0])
