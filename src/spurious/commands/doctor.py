"""`spurious doctor`: what is installed and stored here, a line each, and what to do about it.

TensorFlow is not imported: the versions are those of the installed packages, and a graphics card is
one that its driver shows.
"""

from __future__ import annotations

import configparser
import platform
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import click
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from spurious.errors import UserError
from spurious.pipeline.layout import STUDY, reference_maps

State = Literal["ok", "note", "broken"]
COLOURS = {"ok": "green", "note": "yellow", "broken": "red"}
# Those whose versions decide numbers; the others are counted.
NAMED = ("tensorflow", "keras", "tensorflow-probability", "tf-keras", "flowpm", "camb")
EXTRAS = {
    "cluster": "simulations on other machines",
    "workers": "a search on a database server",
}
GIB = 2**30
DISK = 1.0  # GiB: the pilot leaves 0.3
MEMORY = 4.0  # GiB: two processes of TensorFlow, their graphs and maps
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MLFLOW = Path("mlruns/mlflow.db")
DATA = Path("data.dvc")


class Finding(NamedTuple):
    """One line: what was looked at, what was found, and what to do if it is not well."""

    state: State
    subject: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        """The line, without its state."""
        return f"{self.subject}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")


def examine() -> int:
    """Print a line for each finding; return the exit status, 1 if something needed is broken."""
    findings = [finding for check in CHECKS for finding in _found(check)]
    for one in findings:
        click.echo(f"{click.style(one.state.ljust(6), fg=COLOURS[one.state])}  {one}")
    return int(any(one.state == "broken" for one in findings))


def _found(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds, unless it needs a library that is missing, which `libraries` says."""
    with suppress(ModuleNotFoundError):
        yield from check()


def python() -> Iterator[Finding]:
    """The interpreter."""
    allowed = metadata.metadata("spurious")["Requires-Python"] or ""
    version = platform.python_version()
    if version in SpecifierSet(allowed, prereleases=True):
        yield Finding("ok", "Python", version)
    else:
        yield Finding("broken", "Python", f"{version}, needs {allowed}", "install another")


def libraries() -> Iterator[Finding]:
    """What spurious needs: installed, in a version that it allows."""
    others = 0
    for need in map(Requirement, metadata.requires("spurious") or ()):
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        finding = library(need)
        if need.name in NAMED or finding.state != "ok":
            yield finding
        else:
            others += 1
    yield Finding("ok", "other libraries", f"{others} installed")


def library(need: Requirement) -> Finding:
    """One library."""
    remedy = f"pip install '{need.name}{need.specifier}'"
    try:
        version = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        return Finding("broken", need.name, "not installed", remedy)
    if not need.specifier.contains(version, prereleases=True):
        return Finding("broken", need.name, f"{version}, needs {need.specifier}", remedy)
    return Finding("ok", need.name, version)


def locked() -> Iterator[Finding]:
    """Whether what decides numbers has the versions of requirements.txt, if there is one here."""
    path = Path("requirements.txt")
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==", 1) for line in lines if line[:1].isalpha() and "==" in line)
    for name in NAMED:
        with_version = pins.get(name, "").partition(" ")[0]
        installed = _version(name)
        if with_version and installed and with_version != installed:
            found = f"{installed}, requirements.txt has {with_version}"
            yield Finding("note", name, found, "numbers may differ; `make` installs it in .venv")


def extras() -> Iterator[Finding]:
    """What is installed only when asked for."""
    for extra, use in EXTRAS.items():
        missing = [
            need.name
            for need in map(Requirement, metadata.requires("spurious") or ())
            if need.marker is not None
            and need.marker.evaluate({"extra": extra})
            and not need.marker.evaluate({"extra": ""})
            and _version(need.name) is None
        ]
        if missing:
            remedy = f"only for {use}: pip install 'spurious[{extra}]'"
            yield Finding("note", f"extra {extra}", f"{', '.join(missing)} not installed", remedy)
        else:
            yield Finding("ok", f"extra {extra}", f"installed, for {use}")


def parameters() -> Iterator[Finding]:
    """Whether there is a params.yaml here; `spurious check` reads it."""
    if Path("params.yaml").is_file():
        yield Finding("ok", "params.yaml", "here; `spurious check` validates it")
    else:
        yield Finding("note", "params.yaml", "none here", "`spurious init` writes one")


def reference() -> Iterator[Finding]:
    """FlowPM's maps, without which the stage `verify` stops."""
    from spurious.data.hdf5 import read_maps

    try:
        path = reference_maps()
    except UserError:
        yield Finding(
            "note", "reference maps", "not fetched yet", "`make repro`, or dvc pull data.dvc"
        )
        return
    try:
        yield Finding("ok", "reference maps", f"{path}, {len(read_maps(path))} maps")
    except UserError as error:
        yield Finding("broken", "reference maps", str(error), "dvc checkout --force data.dvc")


def dvc_remote() -> Iterator[Finding]:
    """Where DVC fetches the reference maps from, and pushes to, if this is a project of DVC."""
    if not Path("dvc.yaml").is_file():
        yield Finding("note", "DVC", "no dvc.yaml here", "run the stages by `spurious STAGE`")
        return
    settings = configparser.ConfigParser()
    settings.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    default = settings.get("core", "remote", fallback="")
    name = _named_remote() or default
    url, to = _url(settings, name), _url(settings, default)
    if not name or not url:
        yield Finding("broken", "DVC remote", "none is set", "dvc remote add --default NAME URL")
    elif "://" in url:
        yield Finding("ok", "DVC remote", f"{name}, {url} (not tried)")
    elif (folder := Path(".dvc", url)).is_dir():
        yield Finding("ok", "DVC remote", f"{name}, {folder}")
    else:
        yield Finding("broken", "DVC remote", f"{name}: {folder} is missing", "git checkout .dvc")
    if to and default != name:  # a folder is made by the first push
        place = f"{to} (not tried)" if "://" in to else Path(".dvc", to)
        yield Finding("ok", "DVC remote", f"{default}, {place}, takes what `dvc push` sends")


def _url(settings: configparser.ConfigParser, remote: str) -> str:
    """Where a remote is; empty if it is none."""
    return next((one.get("url", "") for key, one in settings.items() if f'"{remote}"' in key), "")


def _named_remote() -> str:
    """The remote that data.dvc names for the reference maps, if it names one."""
    with suppress(OSError, ValueError):  # by its text: PyYAML may be what is missing
        if found := re.search(r"^ +remote: (\S+)$", DATA.read_text(encoding="utf-8"), re.MULTILINE):
            return found[1]
    return ""


def databases() -> Iterator[Finding]:
    """MLflow's runs and Optuna's studies."""
    for subject, path in (("MLflow runs", MLFLOW), ("Optuna studies", STUDY)):
        if not path.is_file():
            yield Finding("ok", subject, f"none yet; {path} is made when needed")
        elif problem := _problem(path):
            remedy = "move it away: a new one is made, old entries are lost"
            yield Finding("broken", subject, f"{path}: {problem}", remedy)
        else:
            yield Finding("ok", subject, str(path))


def _problem(path: Path) -> str:
    """What is wrong with a SQLite file of MLflow or Optuna; empty if nothing."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
            tables = database.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        return str(error)
    if answer != "ok":
        return " ".join(answer.split())
    return "" if ("alembic_version",) in tables else "has no tables of its kind"


def disk() -> Iterator[Finding]:
    """Space for results."""
    free = shutil.disk_usage(Path.cwd()).free / GIB
    found = f"{free:.1f} GiB free in {Path.cwd()}"
    if free < DISK:
        yield Finding("broken", "disk", found, f"a pilot needs {DISK:g} GiB: free some")
    else:
        yield Finding("ok", "disk", found)


def memory() -> Iterator[Finding]:
    """Memory of the machine."""
    import psutil

    total = psutil.virtual_memory().total / GIB
    if total < MEMORY:
        remedy = "set execution: {workers: {kind: local, workers: 1}, processes: 1}"
        yield Finding("note", "memory", f"{total:.1f} GiB, {MEMORY:g} are better", remedy)
    else:
        yield Finding("ok", "memory", f"{total:.1f} GiB")


def graphics() -> Iterator[Finding]:
    """A graphics card; none is needed."""
    if not Path("/proc/driver/nvidia/version").exists() and not shutil.which("nvidia-smi"):
        yield Finding("ok", "GPU", "none; everything runs on the CPU")
    elif any(_version(name) for name in ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")):
        yield Finding("ok", "GPU", "there is one, and TensorFlow has CUDA")
    else:
        remedy = "pip install 'tensorflow[and-cuda]'"
        yield Finding("note", "GPU", "there is one, but TensorFlow came without CUDA", remedy)


def browser() -> Iterator[Finding]:
    """Chromium, which only looks at pages in tests."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    yield Finding("ok", "Chromium", found or "none; only tests of pages use it")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python, libraries, locked, extras, parameters, reference, dvc_remote, databases, disk,
    memory, graphics, browser,
)  # fmt: skip
"""All checks, in the order of their lines."""
