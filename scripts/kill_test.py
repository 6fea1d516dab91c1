"""Kill a reduced pipeline at random moments and compare it with one that was left alone.

`dvc repro` runs once undisturbed in one clone of this repository. In a second one its whole group
of processes is killed with SIGKILL, again and again, and started again each time as `make repro`
does. The moments are spread over the stages: each is killed once, then the longest again, at a
random fraction of the time that it took undisturbed. In the end the second clone must finish
without help and hold the same results.

    python scripts/kill_test.py --deaths 20 --seed 1
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil
import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
LOOK = 0.05  # seconds between looks at which stage runs
LATEST = 0.75  # of a stage's time: one that goes on, or meets less load, takes less
STAGE = "DVC_STAGE"  # DVC's variable in the environment of a stage
# What two runs of the same pipeline need not share.
IDS = ("run_id",)  # MLflow's number of a run
TIMES = ("seconds", "maps_per_second")
# A start that was killed left a failed trial, so later ones have other numbers.
NUMBERS = ("trial", "refined_from")
EXCLUDED = frozenset((*IDS, *TIMES, *NUMBERS))
# Of that pipeline, one item of each kind, and two trainings and groups side by side.
RUN = {
    "posteriors": ["compact", "power_spectrum", "likelihood"],
    "attacks": ["paper", "strongest", "systematics"],
    "defences": ["power_spectrum"],
}
FOLDERS = ("data", "models", "results")


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after a stage began."""

    stage: str
    after: float
    fraction: float


@dataclass
class Pipeline:
    """A run of `dvc repro` in a clone: which stage is at work, and since when."""

    folder: Path
    log: Path
    seen: dict[str, float] = field(default_factory=dict)  # seconds that each stage took

    def start(self) -> subprocess.Popen[bytes]:
        """Begin as `make repro` does, in a session of its own."""
        environment = _environment(self.folder)
        unlock = [sys.executable, "scripts/unlock.py"]
        subprocess.run(unlock, cwd=self.folder, env=environment, check=True)
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                [BIN / "dvc", "repro"],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stages(self, process: subprocess.Popen[bytes]) -> Iterator[tuple[str, float]]:
        """The stage at work and for how long, look by look, until the pipeline ends."""
        began: dict[str, float] = {}
        while process.poll() is None:
            if stage := _stage(process.pid):
                began.setdefault(stage, time.monotonic())
                self.seen[stage] = time.monotonic() - began[stage]
                yield stage, self.seen[stage]
            time.sleep(LOOK)


def main() -> None:
    """Run both clones, print the moments and what was compared; status 1 where they differ."""
    options = _options()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="kill-test-"))
    folder.mkdir(parents=True, exist_ok=True)
    calm, killed = (clone(folder / name) for name in ("calm", "killed"))
    report("undisturbed")
    seconds = undisturbed(calm)
    moments = draw_moments(seconds, options.deaths, random.Random(options.seed))
    hits = [kill(killed, number, moment) for number, moment in enumerate(moments, start=1)]
    report("to the end")
    finished(killed)
    print(f"\n{'stage':26s} {'of its time':>11s} {'seconds':>8s}  killed in")
    for moment, hit in zip(moments, hits, strict=True):
        print(f"{moment.stage:26s} {moment.fraction:11.0%} {moment.after:8.1f}  {hit}")
    found = [*compared(calm.folder, killed.folder), *left(killed.folder)]
    print(f"\nnot compared: the keys {', '.join(sorted(EXCLUDED))}")
    for what, passed, about in found:
        print(f"{'ok' if passed else 'FAILED':7s} {what:44s} {about}")
    if not all(passed for _, passed, _ in found):
        sys.exit(f"the clones are kept in {folder}")
    if options.folder is None:
        shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--deaths", type=int, default=20, help="how often to kill [20]")
    parser.add_argument("--seed", type=int, default=1, help="of the moments [1]")
    parser.add_argument("--folder", help="of the clones, kept [a temporary one]")
    return parser.parse_args()


def report(what: str) -> None:
    """One line of progress, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


def clone(folder: Path) -> Pipeline:
    """This repository at its commit, with the parameters of tests/test_pipeline.py."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    path = folder / "params.yaml"
    raw = _reduced(yaml.safe_load(path.read_text()))
    raw["run"] |= RUN
    raw["profiles"]["pilot"] |= {"posteriors": {}, "defend": {}}  # DVC asks for them
    raw["execution"] = {"workers": {"kind": "local", "workers": 2}, "processes": 2}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    pull = [str(BIN / "dvc"), "pull", "--quiet", "data.dvc"]
    subprocess.run(pull, cwd=folder, env=_environment(folder), check=True)
    return Pipeline(folder, folder.with_suffix(".log"))


def _reduced(raw: dict[str, Any]) -> dict[str, Any]:
    path = ROOT / "tests" / "test_pipeline.py"
    spec = importlib.util.spec_from_file_location("test_pipeline", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.reduced(raw))


def _environment(folder: Path) -> dict[str, str]:
    own = {"PYTHONPATH": str(folder / "src"), "PATH": f"{BIN}:{os.environ['PATH']}"}
    return {**os.environ, **own}


def undisturbed(pipeline: Pipeline) -> dict[str, float]:
    """Run to the end; the seconds that each stage took."""
    finished(pipeline)
    report(f"took {sum(pipeline.seen.values()):.0f} s in {len(pipeline.seen)} stages")
    return pipeline.seen


def finished(pipeline: Pipeline) -> None:
    """Run to the end, or stop with what the pipeline said last."""
    process, last = pipeline.start(), ""
    for stage, _ in pipeline.stages(process):
        if stage != last:
            report(f"  {stage}")
            last = stage
    if process.returncode:
        sys.exit(f"dvc repro failed, see {pipeline.log}:\n{_tail(pipeline.log)}")


def draw_moments(seconds: dict[str, float], deaths: int, generator: random.Random) -> list[Moment]:
    """Moments in the order of the pipeline: every stage once, then the longest again."""
    longest = sorted(seconds, key=lambda stage: -seconds[stage])
    counts = dict.fromkeys(seconds, 0)
    for number in range(deaths):
        counts[longest[number % len(longest)]] += 1
    moments = []
    for stage, count in counts.items():  # one stage's deaths come at later and later moments
        for fraction in sorted(generator.uniform(0.02, LATEST) for _ in range(count)):
            moments.append(Moment(stage, fraction * seconds[stage], fraction))
    return moments


def kill(pipeline: Pipeline, number: int, moment: Moment) -> str:
    """Start the pipeline, kill it at the moment, make sure that nobody lives; where that was."""
    process, hit = pipeline.start(), "nowhere: the pipeline had ended"
    passed = False
    for stage, since in pipeline.stages(process):
        passed = passed or stage == moment.stage
        # A stage that goes on may take less time than one that begins.
        if passed and (stage != moment.stage or since >= moment.after):
            group = [one for one in psutil.process_iter() if _session(one.pid) == process.pid]
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _, alive = psutil.wait_procs(group, timeout=30)
            if alive:
                sys.exit(f"{alive} outlived the death of {stage}")
            hit = f"{stage}, {len(group)} processes"
            break
    if process.returncode not in (None, 0, -signal.SIGKILL):
        sys.exit(f"dvc repro failed by itself, see {pipeline.log}:\n{_tail(pipeline.log)}")
    report(f"death {number}: {moment.stage} after {moment.after:.1f} s: {hit}")
    return hit


def _stage(dvc: int) -> str:
    """Of the process that DVC runs; empty between stages."""
    with suppress(psutil.Error):
        for process in psutil.Process(dvc).children(recursive=True):
            if "spurious" in " ".join(process.cmdline()):
                return str(process.environ().get(STAGE, ""))
    return ""


def _session(pid: int) -> int:
    with suppress(OSError):
        return os.getsid(pid)
    return -1


Found = tuple[str, bool, str]


def compared(calm: Path, killed: Path) -> Iterator[Found]:
    """What both must share: names of files, bytes, numbers, trials."""
    names = [_files(folder) for folder in (calm, killed)]
    yield "same files in data, models, results", names[0] == names[1], _difference(*names)
    hows = {".json": "number for number"}
    for kind in (".h5", ".keras", ".csv", ".txt", ".png", ".pdf", ".json", ".html", ".md"):
        both = [name for name in names[0] & names[1] if name.endswith(kind)]
        differ = [name for name in both if _content(calm / name) != _content(killed / name)]
        about = f"{len(both)} files" + (f"; other: {', '.join(sorted(differ)[:5])}" * bool(differ))
        yield f"*{kind}, {hows.get(kind, 'bit for bit')}", bool(both) and not differ, about
    trials = [_trials(folder) for folder in (calm, killed)]
    yield "Optuna: ended trials of each start", trials[0] == trials[1], f"{len(trials[0])} trials"


def _content(path: Path) -> Any:
    content = path.read_bytes()
    if path.suffix == ".json":
        return _without_ids(json.loads(content))
    if path.suffix == ".html":  # without the table of runs and their times
        return re.sub(rb"<!-- of this execution.*?<!-- end -->", b"", content, flags=re.DOTALL)
    return content


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_ids(v) for k, v in value.items() if k not in EXCLUDED}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value


def _files(folder: Path) -> set[str]:
    every = (path for top in FOLDERS for path in (folder / top).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in every}


def _difference(one: set[str], other: set[str]) -> str:
    return f"{len(one)} files" + "".join(f"; {name} in one only" for name in sorted(one ^ other))


def _trials(folder: Path) -> list[Any]:
    storage = f"sqlite:///{folder / 'mlruns' / 'optuna.db'}"
    ended = [
        (study.study_name, trial.state.name, trial.user_attrs["start"],
         trial.user_attrs["kind"], trial.params, trial.values)
        for study in optuna.get_all_study_summaries(storage)
        for trial in optuna.load_study(study_name=study.study_name, storage=storage).trials
        if trial.state.name != "FAIL"
    ]  # fmt: skip
    return sorted(ended, key=str)


def left(folder: Path) -> Iterator[Found]:
    """What deaths must not leave behind."""
    here = [p for p in psutil.process_iter() if _lives_in(p, folder)]
    yield "no process is left", not here, ", ".join(str(one) for one in here)
    parts = [
        str(path.relative_to(folder))
        for top in (*FOLDERS, "mlruns")
        for path in (folder / top).rglob(".*")
        if path.name.endswith(".new") or ".part" in path.name
    ]
    yield "no half-written file is left", not parts, ", ".join(parts)
    runs = _rows(folder / "mlruns" / "mlflow.db", "SELECT status, COUNT(*) FROM runs GROUP BY 1")
    yield "no MLflow run is running", "RUNNING" not in runs, str(runs)
    trials = _rows(folder / "mlruns" / "optuna.db", "SELECT state, COUNT(*) FROM trials GROUP BY 1")
    yield "no Optuna trial is running", "RUNNING" not in trials, str(trials)
    again = subprocess.run(
        [BIN / "dvc", "status"],
        cwd=folder,
        env=_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    last = again.stdout.strip().splitlines()[-1:] or again.stderr.strip().splitlines()[-1:]
    yield (
        "dvc has nothing to do, no lock is in the way",
        "up to date" in again.stdout,
        " ".join(last),
    )


def _lives_in(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error):
        return process.pid != os.getpid() and Path(process.cwd()).is_relative_to(folder)
    return False


def _rows(path: Path, query: str) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute(query).fetchall())


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


if __name__ == "__main__":
    main()
