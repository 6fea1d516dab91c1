"""Real stages in a whole project that has one damaged file: one line, and nothing else changed."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fuzzing.damaged import (
    MODEL,
    SMALL,
    STORE,
    TEXT,
    map_changed,
    truncated,
    weighted,
)
from fuzzing.guarded import written
from fuzzing.hostile import FILE, lambda_model
from fuzzing.outcomes import Case, Seen, dice

SECONDS = 120  # for a stage, until it refuses
CHECKED = 20  # broken files of parameters that `spurious check` gets too
MAPS, BIM = "data/pilot/maps.h5", "data/pilot/attacks/paper/bim.h5"
TRACKED = "mlruns/mlflow.db"
OWN = ("attack", "fgsm", "--model", FILE, "--maps", SMALL, "--out", "fuzz/out")


def cases(seed: int, project: Path, small: bytes) -> Iterator[Case]:
    """One for each kind of file that each stage reads."""
    draw = dice(seed, "stages")
    contents = {name: (project / name).read_bytes() for name in (MAPS, BIM, MODEL)}
    other = (project / "models/pilot/contrast/1.keras").read_bytes()
    second = "models/pilot/compact/2.keras"
    made: list[tuple[Sequence[str], dict[str, bytes], str]] = [
        (["assess"], _cut(MAPS, contents, draw), "truncated"),
        (["attack", "paper"], {MAPS: map_changed(contents[MAPS], "a pixel NaN")}, "a pixel NaN"),
        (
            ["train", "power_spectrum"],
            {MAPS: map_changed(contents[MAPS], "a label NaN")},
            "a label",
        ),
        (["audit"], _cut(MODEL, contents, draw), "truncated"),
        (["attack", "controls"], {MODEL: other}, "contrast copied over compact"),
        (["assess"], {second: weighted(contents[MODEL], float("nan"))}, "a weight NaN"),
        (["compare"], _cut(BIM, contents, draw), "truncated"),
        (["compare"], {"results/pilot/attacks/paper/bim.json": b"{}"}, "{}"),
        (["assess"], {"results/pilot/posteriors/compact.json": b"{}"}, "{}"),
        (["report"], {"results/pilot/search.json": b"[]"}, "[]"),
        (["report"], {"results/pilot/audit.json": b'{"checks": {"x": NaN}}'}, "NaN"),
        (["defend"], {"results/pilot/search.json": b"[]"}, "[]"),
        (["search"], {STORE: TEXT}, "text"),
        (["tune", "--trials", "1"], {STORE: TEXT}, "text"),
        (["audit"], {TRACKED: TEXT}, "text"),
        (OWN, {FILE: lambda_model(contents[MODEL]), SMALL: small}, "a Lambda layer"),
        (OWN, {FILE: contents[MODEL], SMALL: map_changed(small, "a map constant")}, "a flat map"),
    ]
    for number, (command, files, what) in enumerate(made):
        named = tuple(word for name in files for word in (name, Path(name).name))
        what = f"{' '.join(command[:2])}: {next(iter(files))}: {what}"
        yield Case("stages", number, "stage", files, named, True, what, tuple(command))


def checks(seed: int, broken: Sequence[Case]) -> Iterator[Case]:
    """Some of the broken files of parameters, for `spurious check` itself."""
    some = dice(seed, "checks").sample(list(broken), min(CHECKED, len(broken)))
    for number, one in enumerate(some):
        what = f"{one.name}: {one.what}"
        yield Case(
            "params: spurious check", number, "stage", one.files, one.named, one.must_refuse, what,
            ("check",),
        )  # fmt: skip


def _cut(name: str, contents: Mapping[str, bytes], draw: random.Random) -> dict[str, bytes]:
    return {name: truncated(contents[name], draw)[0]}


class Stages:
    """Runs stages in a copy of a project, and makes the copy whole again after each.

    Args:
        sound: the project.
        folder: its copy.
    """

    def __init__(self, sound: Path, folder: Path) -> None:
        self._sound, self._folder = sound, folder

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to end."""

    def read(self, case: Case) -> Seen:
        """What the stage says and does."""
        before = _hashes(self._folder)
        with written(self._folder, case.files):
            seen = self._run(case)
        differing = {name for name, _ in before.items() ^ _hashes(self._folder).items()}
        changed = sorted(name for name in differing if not Path(name).name.startswith("."))
        for name in changed:
            self._restored(name)
        return Seen(seen.refusal, seen.error, "", tuple(f"file {name}" for name in changed))

    def _run(self, case: Case) -> Seen:
        environment = {**os.environ, "SPURIOUS_TRACKING": "off"}
        if any(name.startswith("mlruns/mlflow") for name in case.files):
            del environment["SPURIOUS_TRACKING"]
        process = subprocess.Popen(
            [sys.executable, "-m", "spurious.cli", *case.command],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _, told = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Seen(error=f"it went on for {SECONDS} s")
        return _said(told.decode(errors="replace"), process.returncode)

    def _restored(self, name: str) -> None:
        source, copy = self._sound / name, self._folder / name
        if source.is_file():
            shutil.copyfile(source, copy)
        else:
            copy.unlink(missing_ok=True)


def _said(told: str, status: int) -> Seen:
    """What a command's last words mean; lines of progress may stand before them."""
    if status == 0:
        return Seen()
    lines = [line.split("\r")[-1].strip() for line in told.strip().split("\n")]
    said = [line for line in lines if line]
    if "Traceback (most recent call last):" in told or not said:
        return Seen(error=f"status {status}: {(said or ['nothing'])[-1][:200]}")
    if not said[-1].startswith("error: "):
        return Seen(error=f"status {status}: {said[-1][:200]}")
    errors = [line for line in said if line.startswith("error: ")]
    return Seen(refusal="\n".join(errors).removeprefix("error: "))


def _hashes(folder: Path) -> dict[str, str]:
    """MD5 of every file that stages read or write."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
