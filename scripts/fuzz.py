"""Broken and hostile inputs by the thousand: is each refused in one line, with nothing done?

`make fuzz` runs it; docs/security.md says what it tries. The same seed makes the same inputs. It
needs a finished pilot, whose files it copies, damages and reads; the project itself stays as it is.

    python scripts/fuzz.py --seed 7
    python scripts/fuzz.py --seed 7 --only 'params: tag/3' --keep broken

The second line reads one input again, and keeps its files in the folder `broken`.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from fuzzing import broken_params, damaged, hostile, stages
from fuzzing.guarded import OUTSIDE, SECRET, SECRET_H5, WORDS, Worker
from fuzzing.outcomes import FAILED, Case, Result, Table, judged, select_cases
from spurious.progress import Bar

NEEDED = ("params.yaml", "data/pilot", "models/pilot", "results/pilot", "results/verify.json")
DATABASES = (damaged.STORE, stages.TRACKED)
# What a worker may take for an input, above what it had.
PARAMS: dict[str, Any] = {"seconds": 5, "megabytes": 300}
FILES: dict[str, Any] = {"seconds": 60, "megabytes": 1500, "strict": False}
MODELS: dict[str, Any] = {"seconds": 30, "megabytes": 1000}


def main() -> None:
    """Try everything, print counts and failures; status 1 if anything failed."""
    asked = _arguments()
    begun = time.monotonic()
    missing = [name for name in (*NEEDED, *DATABASES) if not (asked.project / name).exists()]
    if missing:
        sys.exit(f"error: {asked.project / missing[0]} is missing: `make repro` first")
    print(f"seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:
        table = _tried(asked, Path(folder))
    print(table)
    for result in table.failures:
        print(_describe(result, asked.seed))
    print(f"seed {asked.seed}: {len(table.failures)} failed, {time.monotonic() - begun:.0f} s")
    sys.exit(1 if table.failures else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--only", help="a row of the table, or one case of it: ROW/NUMBER")
    parser.add_argument("--keep", type=Path, help="folder for the files of what fails or is asked")
    parser.add_argument("--project", type=Path, default=Path(), help="with a finished pilot")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    return parser.parse_args()


def _tried(asked: argparse.Namespace, root: Path) -> Table:
    """Everything, in copies of the project below `root`."""
    lanes, table = list(_lanes(asked, root)), Table()
    total = sum(len(lane.cases) for lane in lanes)
    with Bar(total, "fuzz", unit="input") as bar, ThreadPoolExecutor(asked.jobs) as pool:
        for results in pool.map(lambda lane: _lane(lane, bar, asked), lanes):
            for result in results:
                table.add(result)
    return table


class Lane(NamedTuple):
    """Cases that are read one after another, in the same folder."""

    reader: Worker | stages.Stages
    cases: list[Case]


def _lane(lane: Lane, bar: Bar, asked: argparse.Namespace) -> list[Result]:
    results = []
    with lane.reader as reader:
        for case in lane.cases:
            results.append(judged(case, reader.read(case)))
            if asked.keep and (asked.only or results[-1].verdict == FAILED):
                _keep(case, asked.keep)
            bar.update()
    return results


def _keep(case: Case, folder: Path) -> None:
    for name, content in case.files.items():
        path = folder / re.sub(r"\W+", "_", case.name) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _lanes(asked: argparse.Namespace, root: Path) -> Iterator[Lane]:
    """All cases that were asked for, by who reads them."""
    project, seed = asked.project, asked.seed
    text = (project / "params.yaml").read_text()
    small, models = damaged.small_maps(project / stages.MAPS), _models(project)
    results = {name: (project / "results/pilot" / name).read_bytes() for name in damaged.RESULTS}
    optuna, mlflow = ((project / name).read_bytes() for name in DATABASES)
    params = list(broken_params.cases(seed, text)) if _wanted(asked, "params") else []
    whole = [*stages.cases(seed, project, small), *stages.checks(seed, params)]
    if some := select_cases(whole, asked.only):
        folder = _copied(project, root / "stages", True)
        yield Lane(stages.Stages(project, folder), some)
    files = [
        *damaged.map_cases(seed, small),
        *damaged.model_cases(seed, models),
        *damaged.result_cases(seed, results),
        *damaged.database_cases(seed, optuna, mlflow),
    ]
    model = models[damaged.MODEL]
    models_of_others = hostile.cases(model, root / "hostile") if _wanted(asked, "hostile") else ()
    for name, cases, limits, (reader, sound) in (
        ("params", params, PARAMS, ("params", {"params.yaml": text.encode()})),
        ("files", files, FILES, ("report", {})),
        ("hostile", models_of_others, MODELS, ("hostile", {hostile.FILE: model})),
    ):
        if some := select_cases(cases, asked.only):
            folder = _copied(project, root / name, name != "params")
            first = Case("sound", 0, reader, sound, ())
            yield Lane(Worker(folder, **limits, first=first), some)


def _wanted(asked: argparse.Namespace, kind: str) -> bool:
    return asked.only is None or str(asked.only).startswith(kind)


def _models(project: Path) -> dict[str, bytes]:
    found = sorted((project / "models/pilot").glob("*/*.keras"))
    return {str(path.relative_to(project)): path.read_bytes() for path in found}


def _copied(project: Path, root: Path, whole: bool) -> Path:
    """A folder to read in: the project if wanted, and beside it what nobody may read or change."""
    folder = root / "project"
    folder.mkdir(parents=True)
    (root / OUTSIDE).mkdir()
    (root / SECRET).write_bytes(WORDS)
    with h5py.File(root / SECRET_H5, "w") as file:
        file["secret"] = np.frombuffer(WORDS[:2048], np.float32)
    for name in (*NEEDED, *DATABASES) if whole else ():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (project / name).is_dir() else shutil.copyfile
        copy(project / name, path)
    return folder


def _describe(result: Result, seed: int) -> str:
    """One failure, and how to see it again."""
    case = result.case
    again = f"python scripts/fuzz.py --seed {seed} --only {shlex.quote(case.name)} --keep broken"
    return f"FAILED {case.name}: {case.what[:150]!r}\n    {result.why[:300]!r}\n    {again}"


if __name__ == "__main__":
    main()
