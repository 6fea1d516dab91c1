import fcntl
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import psutil
import pytest

from spurious import config, seeds
from spurious.files import UserError, md5
from spurious.maps import MapSet, write_maps
from spurious.simulation import simulate, suite

NODES = np.array([[0.1, 0.6], [0.1, 0.9], [0.4, 0.7]])
BACKGROUND = config.Background()
ROOT_SEED = 11


def settings(simulations=10, shard_size=4, stages=3):
    return config.Simulation(
        n_cells=16,
        box_size=config.Length(value=32.0, unit="Mpc/h"),
        scale_factors=config.Stages(stages=stages),
        simulations=simulations,
        shard_size=shard_size,
    )


def run(folder, workers=1, root_seed=ROOT_SEED, **changes) -> MapSet:
    return suite.run(
        settings(**changes), BACKGROUND, NODES, root_seed, folder, workers, progress=False
    )


def fingerprint(folder, data):
    write_maps(folder / "all.h5", data)
    return md5(folder / "all.h5")


# Enough work that a kill after the first shard comes well before the last one.
LONG = {"simulations": 200, "shard_size": 10, "stages": 80}


@pytest.fixture(scope="module")
def long_fingerprint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return fingerprint(folder, run(folder, **LONG))


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def shards(folder):
    return sorted(folder.glob("shard-*.h5"))


def test_each_map_is_that_of_its_number(tmp_path):
    data = run(tmp_path)
    assert data.index.tolist() == list(range(10))
    np.testing.assert_array_equal(data.labels, NODES[np.arange(10) % 3])
    assert data.seeds.tolist() == [seeds.integer(ROOT_SEED, "white noise", i) for i in range(10)]
    assert data.box_size == 32.0
    for i in (0, 5, 9):
        omega_m, sigma_8 = NODES[i % 3]
        alone = simulate(omega_m, sigma_8, int(data.seeds[i]), settings(), BACKGROUND)
        np.testing.assert_array_equal(data.maps[i], alone)


def test_provenance_says_all_that_matters_and_no_more(tmp_path):
    made = run(tmp_path).provenance
    assert made["simulation"]["scale_factors"] == {"start": 0.1, "stop": 1.0, "stages": 3}
    assert made["simulation"]["engine"] == "xla"
    assert made["background"] == {"h": 0.6774, "omega_b": 0.0486, "n_s": 0.9667}
    assert made["root_seed"] == ROOT_SEED
    assert set(made["versions"]) == {"spurious", "tensorflow", "camb", "numpy"}
    assert set(made) == {"simulation", "background", "root_seed", "versions"}
    assert not {"simulations", "shard_size"} & set(made["simulation"])


def test_finished_shards_are_kept_and_may_be_added_to(tmp_path, caplog):
    first = run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in shards(tmp_path)}
    again = run(tmp_path)
    np.testing.assert_array_equal(first.maps, again.maps)
    assert {path: path.stat().st_mtime_ns for path in shards(tmp_path)} == before
    more = run(tmp_path, simulations=12)
    np.testing.assert_array_equal(first.maps, more.maps[:10])
    changed = [p.name for p in before if p.stat().st_mtime_ns != before[p]]
    assert changed == ["shard-00002.h5"]


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def overwrite_the_middle(path):
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"spurious" * 4)


def replace_by_text(path):
    path.write_text("no HDF5")


def edit_a_label(path):
    with h5py.File(path, "r+") as file:
        file["labels"][1, 0] = 0.3


def edit_a_map(path):
    with h5py.File(path, "r+") as file:
        file["maps"][0, 3, 4] += 1


@pytest.mark.parametrize(
    "damage", [truncate, overwrite_the_middle, replace_by_text, edit_a_label, edit_a_map]
)
def test_a_damaged_shard_is_named_and_made_again(tmp_path, caplog, damage):
    good = fingerprint(tmp_path, run(tmp_path))
    damage(tmp_path / "shard-00001.h5")
    with caplog.at_level(logging.WARNING):
        again = run(tmp_path)
    assert len(caplog.records) == 1
    assert "shard-00001.h5" in caplog.text
    assert "\n" not in caplog.records[0].getMessage()
    assert fingerprint(tmp_path, again) == good


@pytest.mark.parametrize("change", [{"root_seed": 12}, {"stages": 4}])
def test_shards_of_another_suite_are_not_used(tmp_path, caplog, change):
    run(tmp_path, **change)
    mixed = run(tmp_path)
    assert "other settings, seeds or versions" in caplog.text
    np.testing.assert_array_equal(mixed.maps, run(tmp_path / "fresh").maps)


def test_a_field_that_is_not_finite_is_named(tmp_path, monkeypatch):
    class Broken:
        settings = settings()

        def density(self, cosmology, white_noise):
            return np.full((16, 16, 16), np.nan, np.float32)

    monkeypatch.setattr(suite, "make_engine", lambda _: Broken())
    seed = seeds.integer(ROOT_SEED, "white noise", 0)
    expected = rf"simulation 0: .* omega_m = 0.1, sigma_8 = 0.6, seed = {seed}"
    with pytest.raises(UserError, match=expected):
        run(tmp_path)
    assert shards(tmp_path) == []


def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    with open(tmp_path / ".lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use by another run"):
            run(tmp_path)


def test_a_dead_worker_costs_no_finished_shard(tmp_path, long_fingerprint):
    before = set(multiprocessing.active_children())

    def kill_a_worker():
        wait_for(lambda: shards(tmp_path))
        (set(multiprocessing.active_children()) - before).pop().kill()

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    with pytest.raises(UserError, match=r"a simulation worker died.*run again to go on"):
        run(tmp_path, workers=2, **LONG)
    killer.join()
    assert set(multiprocessing.active_children()) <= before
    finished = shards(tmp_path)
    assert 0 < len(finished) < 20
    times = [path.stat().st_mtime_ns for path in finished]
    assert fingerprint(tmp_path, run(tmp_path, **LONG)) == long_fingerprint
    assert [path.stat().st_mtime_ns for path in finished] == times


# A shell that starts the tests in the background has SIGINT ignored, also in what they start.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_suite import LONG, run
if __name__ == "__main__":
    run(Path(sys.argv[1]), workers=2, **LONG)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_leaves_nothing_behind_and_goes_on(tmp_path, long_fingerprint, how):
    script = tmp_path / "main.py"
    script.write_text(SCRIPT.format(tests=os.path.dirname(__file__)))
    with open(tmp_path / "stderr", "w") as stderr:
        parent = subprocess.Popen([sys.executable, script, tmp_path], stderr=stderr)
        wait_for(lambda: shards(tmp_path))
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert len(workers) >= 2
        parent.send_signal(how)
        parent.wait(20)
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    assert 0 < len(shards(tmp_path)) < 20
    assert fingerprint(tmp_path, run(tmp_path, **LONG)) == long_fingerprint
    assert list(tmp_path.glob(".*.part.h5")) == []
