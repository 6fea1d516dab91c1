"""Several worker processes on one study: in a file, on a PostgreSQL server, and behind a proxy."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from click.testing import CliRunner

from spurious import params
from spurious.cli import main
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet, Standardiser
from spurious.search.claims import ENDED, RETRIES, Claims
from spurious.studies import open_study

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
STARTS = 16
HEARTBEAT = (1, 3)


def binaries():
    """PostgreSQL's programs: Debian keeps them out of the path."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    return Path(found).parent if found else (folders or [None])[-1]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def server():
    """URL of a database on a private PostgreSQL server, which lives in a folder of its own."""
    programs = binaries()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    owner = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="spurious-pg-"))
    (folder / "password").write_text("s3cret\n")
    if owner:
        for path in (folder, folder / "password"):
            shutil.chown(path, **owner)
    port = free_port()

    def program(name, *arguments):
        subprocess.run(
            [programs / name, *arguments], check=True, cwd=folder, capture_output=True, **owner
        )

    data = ("-D", folder / "data")
    settings = f"-k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
    program(
        "initdb", *data, "-A", "scram-sha-256", "-U", "spurious", "--no-sync",
        f"--pwfile={folder / 'password'}",
    )  # fmt: skip
    try:
        program(
            "pg_ctl", "-D", folder / "data", "-o", settings, "-l", folder / "log", "-w", "start"
        )
        yield f"postgresql://spurious:s3cret@127.0.0.1:{port}/postgres"
        program("pg_ctl", *data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


PROXY = """
import sys, warnings
warnings.simplefilter("ignore")
from optuna.storages import get_storage, run_grpc_proxy_server
run_grpc_proxy_server(get_storage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def proxy(server):
    """URL of Optuna's gRPC proxy before that server."""
    port = free_port()
    url = server.replace("postgresql:", "postgresql+psycopg:")
    process = subprocess.Popen([sys.executable, "-c", PROXY, url, str(port)])
    yield f"grpc://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture(
    params=["file", *(pytest.param(name, marks=pytest.mark.slow) for name in ("server", "proxy"))]
)
def storage(request, tmp_path):
    return (
        str(tmp_path / "study.db")
        if request.param == "file"
        else request.getfixturevalue(request.param)
    )


def start(script, *arguments):
    path = os.pathsep.join([str(HERE), str(HERE.parent), *sys.path])  # the package tested here
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, env=environment)


def ended(workers):
    for worker in workers:
        assert worker.wait(timeout=120) == 0


def appears(path, seconds=120):
    """Wait until a worker has made this file."""
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} did not appear"
        time.sleep(0.02)


CLAIMING = """
import sys, time
from pathlib import Path
import optuna
from spurious import processes
from spurious.search import claims
from spurious.studies import Heartbeat, open_study

storage, name, starts, folder, stalls, machine = sys.argv[1:]
folder = Path(folder)
if machine:
    processes._machine = lambda: machine
optuna.logging.set_verbosity(optuna.logging.WARNING)
heartbeat = Heartbeat(1, 3)
own = claims.Claims(
    open_study(storage, name, heartbeat=heartbeat), int(starts), lambda start: {}, heartbeat
)
(folder / f"ready {time.monotonic_ns()}").touch()
while not (folder / "go").exists():
    time.sleep(0.001)
while (trial := own.next()) is not None:
    with own.alive(trial):
        x = trial.suggest_float("x", 0, 1)
        if stalls:
            (folder / "stalled").write_text(f"{trial.number} {claims.start_of(trial)} {x}")
            time.sleep(600)
        own._study.tell(trial, x)
"""


def claiming(storage, name, folder, workers, stalls="", machine=""):
    return [start(CLAIMING, storage, name, STARTS, folder, stalls, machine) for _ in range(workers)]


def all_ready(folder, workers):
    until = time.monotonic() + 120
    while len(list(folder.glob("ready *"))) < workers:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_every_start_is_run_once_however_many_claim_at_the_same_moment(storage, tmp_path):
    workers = claiming(storage, "claims", tmp_path, 4)
    all_ready(tmp_path, 4)
    (tmp_path / "go").touch()
    ended(workers)
    study = open_study(storage, "claims")
    finished = Counter(t.user_attrs["start"] for t in study.trials if t.state in ENDED)
    assert finished == dict.fromkeys(range(STARTS), 1)
    assert {t.state.name for t in study.trials} <= {"COMPLETE", "FAIL"}
    assert all("dropped" in t.user_attrs for t in study.trials if t.state not in ENDED)
    assert len({t.system_attrs["worker"] for t in study.trials}) == 4
    # What is asked for again is there already.
    ended(claiming(storage, "claims", tmp_path, 1))
    assert len(open_study(storage, "claims").trials) == len(study.trials)
    optuna.delete_study(study_name="claims", storage=study._storage)


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["", "elsewhere"])
def test_the_start_of_a_killed_worker_is_retried_with_the_same_parameters(
    storage, tmp_path, machine
):
    """Its process is gone, or, on another machine, its heartbeat."""
    (doomed,) = claiming(storage, "killed", tmp_path, 1, stalls="yes", machine=machine)
    (tmp_path / "go").touch()
    appears(tmp_path / "stalled")
    (other,) = claiming(storage, "killed", tmp_path, 1)
    doomed.send_signal(signal.SIGKILL)
    doomed.wait()
    ended([other])
    number, first, x = (tmp_path / "stalled").read_text().split()
    study = open_study(storage, "killed")
    trials = study.trials
    assert trials[int(number)].state.name == "FAIL"
    (retried,) = [t for t in trials if t.system_attrs.get("failed_trial") == int(number)]
    assert retried.params == {"x": float(x)}
    assert retried.user_attrs["start"] == int(first)
    finished = Counter(t.user_attrs["start"] for t in trials if t.state in ENDED)
    assert finished == dict.fromkeys(range(STARTS), 1)
    optuna.delete_study(study_name="killed", storage=study._storage)


def test_a_start_that_ends_its_worker_again_and_again_is_given_up(tmp_path):
    """Who asks for work again has ended what it had claimed before."""
    claims = Claims(open_study(tmp_path / "s.db", "deadly"), 2, lambda start: {"x": float(start)})
    claimed = [claims.next() for _ in range(2 * (RETRIES + 1))]
    assert [t.user_attrs["start"] for t in claimed] == [0] * (RETRIES + 1) + [1] * (RETRIES + 1)
    assert {t.suggest_float("x", 0, 1) for t in claimed[-1:]} == {1.0}
    assert claims.next() is None
    assert claims.settled == 2


WORKER = """
import sys, time
from pathlib import Path
import numpy as np
import conftest
import test_study as t
from spurious.search import study as search
from spurious.search.families import build_families
from spurious.search.objective import Objective
from spurious.studies import Heartbeat

storage, folder, stalls = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
evaluate, left = Objective.__call__, [4]

def stalling(self, point):
    left[0] -= 1
    if left[0] == 0:
        (folder / "stalled").touch()
        time.sleep(600)
    return evaluate(self, point)

if stalls == "yes":
    Objective.__call__ = stalling
wanted = t.settings(6)
(family,) = build_families(wanted, t.BOX).values()
maps, posterior = conftest.density_maps(12, 16), t.posterior(conftest)
objective = search.build_objective(wanted, family, maps, posterior, t.BOX)
objective(np.full(3, 0.5))
objective.fences(np.full(3, 0.5))
(folder / f"ready {time.monotonic_ns()}").touch()
while not (folder / "go").exists():
    time.sleep(0.01)
search.run(wanted, objective, storage, 7, "one", heartbeat=Heartbeat(1, 3), progress=False)
"""


@pytest.mark.slow
def test_real_searches_share_a_server_and_one_is_killed_in_mid_climb(server, tmp_path):
    workers = [start(WORKER, server, tmp_path, stalls) for stalls in ("yes", "no")]
    all_ready(tmp_path, 2)
    (tmp_path / "go").touch()
    appears(tmp_path / "stalled")
    workers[0].send_signal(signal.SIGKILL)
    workers[0].wait()
    ended(workers[1:])
    (name,) = [n for n in names(server) if n.startswith("logistic-")]
    study = open_study(server, name)
    trials = study.trials
    assert {t.state.name for t in trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    for kind in ("proposal", "refined"):
        found = Counter(
            t.user_attrs["start"]
            for t in trials
            if t.state in ENDED and t.user_attrs["kind"] == kind
        )
        assert found == dict.fromkeys(range(6), 1)
    (dead,) = [t for t in trials if t.state.name == "FAIL" and "kl" in t.user_attrs]
    (retried,) = [t for t in trials if t.system_attrs.get("failed_trial") == dead.number]
    assert retried.params == dead.params
    assert retried.state in ENDED
    assert study.best_trial.user_attrs["excess"] <= 0


def names(server):
    return optuna.get_all_study_names(server.replace("postgresql:", "postgresql+psycopg:"))


def commands():
    """What docs/searching.md says that a worker is started with."""
    page = (ROOT / "docs" / "searching.md").read_text()
    section = page.split("## Several workers", 1)[1].split("\n## ", 1)[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("spurious ")]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with a small params.yaml, maps and a network, as the current folder."""
    from spurious.networks.compact import Compact
    from spurious.networks.head_layer import HEAD, HeadLayer
    from spurious.pipeline import identity
    from spurious.pipeline.inputs import networks
    from spurious.pipeline.layout import Layout
    from spurious.posteriors.trained import NetworkPosterior

    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["search"] |= {
        "maps": 8,
        "refine_steps": 2,
        "fences": {"power": 0.2, "mean_shift": 0.2},
        "families": {"logistic": {"kind": "logistic"}},
        "front": {},
    }
    raw["profiles"]["pilot"]["search"] = {"starts": 3}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPURIOUS_STORAGE", raising=False)
    draw = np.random.default_rng(0)
    data = MapSet(
        maps=draw.gamma(4.0, 16.0, (40, 16, 16)).astype(np.float32),
        labels=draw.uniform((0.1, 0.6), (0.5, 1.0), (40, 2)),
        seeds=np.arange(40, dtype=np.uint64),
        index=np.arange(40),
        axis=np.zeros(40, np.int8),
        box_size=128.0,
    )
    write_maps(tmp_path / "data" / "pilot" / "maps.h5", data)
    config = params.load(tmp_path / "params.yaml")
    head = HeadLayer({"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}, name=HEAD)
    network = Compact().model(n=16, head=head, standardiser=Standardiser(64.0, 32.0), seed=1)
    for owner in networks(config, config.run.target):
        known = NetworkPosterior(network, identity=identity.made(config, *owner))
        known.save(Layout(config.scale).posterior(*owner))
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_page_work_on_one_study(workplace, monkeypatch):
    """The first one finds all starts free, the next ones nothing left to do."""
    assert commands() == [["spurious", "search", "--worker"]] * 2
    for _, *arguments in commands():
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        (name,) = optuna.get_all_study_names("sqlite:///mlruns/optuna.db")
        found = optuna.load_study(study_name=name, storage="sqlite:///mlruns/optuna.db").trials
        assert [t.user_attrs["start"] for t in found] == [0, 0, 1, 1, 2, 2]
    assert not (workplace / "results").exists()
    # Another place, and another code of the search: another study.
    monkeypatch.setenv("SPURIOUS_STORAGE", "elsewhere.db")
    monkeypatch.setattr("spurious.pipeline.code.fingerprint", lambda stage: f"edited {stage}")
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    (other,) = optuna.get_all_study_names("sqlite:///elsewhere.db")
    assert other.startswith("pilot-logistic-")
    assert other != name
