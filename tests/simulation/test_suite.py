import errno
import fcntl
import logging
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import h5py
import numpy as np
import psutil
import pytest

from spurious import config, seeds
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.files import md5
from spurious.simulation import engine, simulate, suite, workers
from spurious.simulation.tasks import simulate as do_task

NODES = np.array([[0.1, 0.6], [0.1, 0.9], [0.4, 0.7]])
BACKGROUND = config.Background()
ROOT_SEED = 11


def settings(simulations=10, shard_size=4, stages=3, **others):
    return config.Simulation(
        n_cells=16,
        box_size=config.Length(value=32.0, unit="Mpc/h"),
        scale_factors=config.Stages(stages=stages),
        simulations=simulations,
        shard_size=shard_size,
        **others,
    )


def summarise(folder, count=1, root_seed=ROOT_SEED, nodes=NODES, **changes) -> suite.Summary:
    return suite.run(
        settings(**changes),
        BACKGROUND,
        nodes,
        root_seed,
        shard_dir=folder,
        path=folder / "all.h5",
        place=config.Local(kind="local", workers=count),
        progress=False,
    )


def run(folder, count=1, **changes) -> MapSet:
    summarise(folder, count, **changes)
    return read_maps(folder / "all.h5")


def fingerprint(folder, count=1, **changes):
    """MD5 of the data set that a run makes, or completes."""
    summarise(folder, count, **changes)
    return md5(folder / "all.h5")


# Enough work that a kill after the first shard comes well before the last one.
LONG = {"simulations": 200, "shard_size": 10, "stages": 80}


@pytest.fixture(scope="module")
def long_fingerprint(tmp_path_factory):
    return fingerprint(tmp_path_factory.mktemp("uninterrupted"), **LONG)


def wait_for(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def shards(folder):
    return sorted(folder.glob("shard-*.h5"))


def leftovers(folder):
    return list(folder.glob(".*part*"))


@pytest.mark.slow
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


@pytest.mark.slow
def test_lines_of_sight_are_consecutive_rows_and_fields_are_kept(tmp_path):
    summarise(tmp_path, axes=(2, 0, 1), fields=True)
    data = read_maps(tmp_path / "all.h5", fields=True)
    assert data.index.tolist() == [i for i in range(10) for _ in range(3)]
    assert data.axis.tolist() == [2, 0, 1] * 10
    np.testing.assert_array_equal(data.labels, NODES[data.index % 3])
    assert data.fields.shape == (10, 16, 16, 16)
    for i in (0, 4, 9):
        # A map that looks along an axis has the mass of the field's rows along the others.
        field = data.fields[i]
        for row, axis in enumerate((2, 0, 1)):
            np.testing.assert_array_equal(data.maps[3 * i + row], engine.project(field, axis))
        noise = engine.white_noise(int(data.seeds[3 * i]), 16)
        cosmology = engine.cosmology_at(*NODES[i % 3], BACKGROUND)
        again = engine.make_engine(settings()).density(cosmology, noise)
        np.testing.assert_array_equal(field, again)
    np.testing.assert_array_equal(data.maps[::3], run(tmp_path / "plain").maps)


def test_provenance_says_all_that_matters_and_no_more(tmp_path):
    made = run(tmp_path).provenance
    assert made["simulation"]["scale_factors"] == {"start": 0.1, "stop": 1.0, "stages": 3}
    assert made["simulation"]["engine"] == "xla"
    assert made["background"] == {"h": 0.6774, "omega_b": 0.0486, "n_s": 0.9667}
    assert made["root_seed"] == ROOT_SEED
    assert set(made["versions"]) == {"spurious", "tensorflow", "camb", "numpy"}
    assert set(made) == {"simulation", "background", "root_seed", "versions", "ranges"}
    omega_m, sigma_8 = np.transpose(NODES)
    assert made["ranges"] == {
        "omega_m": [omega_m.min(), omega_m.max()],
        "sigma_8": [sigma_8.min(), sigma_8.max()],
    }
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


def test_a_summary_counts_what_was_done(tmp_path):
    first = summarise(tmp_path, axes=(0, 1))
    assert (first.maps, first.simulations, first.made) == (20, 10, 10)
    assert (first.kept, first.remade) == (0, 0)
    assert [(w.worker, w.simulations) for w in first.workers] == [("this process", 10)]
    assert 0 < first.workers[0].seconds < first.seconds
    assert first.rate == pytest.approx(20 / first.seconds)
    truncate(shards(tmp_path)[1])
    again = summarise(tmp_path, axes=(0, 1))
    assert (again.made, again.kept, again.remade) == (4, 2, 1)
    assert "this process: 4 simulations" in str(again)
    assert "shards kept: 2, made again: 1" in str(again)


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


def edit_an_axis(path):
    with h5py.File(path, "r+") as file:
        file["axis"][0] = 1


def edit_a_field(path):
    with h5py.File(path, "r+") as file:
        file["fields"][0, 3, 4, 5] += 1


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        overwrite_the_middle,
        replace_by_text,
        edit_a_label,
        edit_a_map,
        edit_an_axis,
        edit_a_field,
    ],
)
def test_a_damaged_shard_is_named_and_made_again(tmp_path, caplog, damage):
    good = fingerprint(tmp_path, fields=True)
    damage(tmp_path / "shard-00001.h5")
    with caplog.at_level(logging.WARNING):
        assert fingerprint(tmp_path, fields=True) == good
    assert len(caplog.records) == 1
    assert "shard-00001.h5" in caplog.text
    assert "\n" not in caplog.records[0].getMessage()


@pytest.mark.parametrize("change", [{"root_seed": 12}, {"stages": 4}])
def test_shards_of_another_suite_are_not_used(tmp_path, caplog, change):
    run(tmp_path, **change)
    mixed = run(tmp_path)
    assert "other settings, seeds or versions" in caplog.text
    np.testing.assert_array_equal(mixed.maps, run(tmp_path / "fresh").maps)


class Broken:
    """An engine that fails in one cosmology."""

    settings = settings()

    def density(self, cosmology, white_noise):
        value = np.nan if cosmology.sigma_8 == NODES[2, 1] else 1.0
        return value * np.linspace(0.5, 1.5, 16**3, dtype=np.float32).reshape(16, 16, 16)


def test_a_field_that_is_not_finite_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "make_engine", lambda _: Broken())
    seed = seeds.integer(ROOT_SEED, "white noise", 2)
    expected = rf"simulation 2: .* omega_m = 0.4, sigma_8 = 0.7, seed = {seed}"
    with pytest.raises(UserError, match=expected):
        run(tmp_path)
    assert shards(tmp_path) == []  # the first shard holds it, and no other one was begun
    assert not (tmp_path / "all.h5").exists()


def test_what_others_have_finished_is_kept_when_a_field_is_not_finite(tmp_path, monkeypatch):
    class TwoShardsAtOnce:
        """As several workers do."""

        def outcomes(self, tasks):
            tasks = iter(tasks)
            begun = [next(tasks) for _ in range(8)]
            yield from (do_task(Broken(), task, "") for task in (begun[2], *begun[5:]))
            rest = [*begun[:2], *begun[3:5], *tasks]
            yield from (do_task(Broken(), task, "") for task in rest)

    @contextmanager
    def open_two(place, settings, folder):
        yield TwoShardsAtOnce()

    monkeypatch.setattr(suite, "open_workers", open_two)
    nodes = np.repeat(NODES, [0, 2, 1], axis=0)
    nodes = np.concatenate([nodes, np.tile(NODES[:1], (13, 1))])
    with pytest.raises(UserError, match=r"simulation 2: .*seed = \d+; the other shards begun"):
        run(tmp_path, nodes=nodes, simulations=16)
    assert [path.name for path in shards(tmp_path)] == ["shard-00001.h5"]


@contextmanager
def file_size_limited(size):
    """Files of this process cannot grow beyond `size` bytes: how a full disk answers, for real."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_is_named_and_leaves_nothing(tmp_path):
    with file_size_limited(4000), pytest.raises(OSError, match=r"shard-00000.h5") as error:
        run(tmp_path)
    assert error.value.errno == errno.EFBIG
    assert shards(tmp_path) == leftovers(tmp_path) == []
    good = fingerprint(tmp_path)
    size = (tmp_path / "all.h5").stat().st_size
    (tmp_path / "all.h5").unlink()
    with file_size_limited(size - 1), pytest.raises(OSError, match=r"all.h5"):
        run(tmp_path)
    assert not (tmp_path / "all.h5").exists()
    assert fingerprint(tmp_path) == good


def test_a_full_disk_costs_no_finished_shard(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=150k", "none", small], check=False)
    if mount.returncode:
        pytest.skip("mounting a small file system needs more rights")
    try:
        with pytest.raises(OSError, match="No space left") as error:
            run(small, simulations=60)
        assert error.value.errno == errno.ENOSPC
        finished = shards(small)
        assert error.value.filename not in map(str, finished)
        assert 0 < len(finished) < 15
        assert leftovers(small) == []
        times = [path.stat().st_mtime_ns for path in finished]
        subprocess.run(["mount", "-o", "remount,size=1m", small], check=True)
        many = {"simulations": 60}
        assert fingerprint(small, **many) == fingerprint(tmp_path / "large", **many)
        assert [path.stat().st_mtime_ns for path in finished] == times
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    with open(tmp_path / ".lock", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="in use by another run"):
            run(tmp_path)


@pytest.mark.slow
def test_a_dead_worker_costs_no_shard(tmp_path, long_fingerprint, caplog):
    before = set(multiprocessing.active_children())

    def kill_a_worker():
        wait_for(lambda: shards(tmp_path))
        (set(multiprocessing.active_children()) - before).pop().kill()

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    assert fingerprint(tmp_path, count=2, **LONG) == long_fingerprint
    killer.join()
    assert set(multiprocessing.active_children()) <= before
    (warning,) = caplog.messages
    assert re.match(r"worker local-\d \(process \d+\) died \(SIGKILL\) in simulation", warning)


# A shell that starts the tests in the background has SIGINT ignored, also in what they start.
SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_suite import LONG, run
if __name__ == "__main__":
    run(Path(sys.argv[1]), count=2, **LONG)
"""


@pytest.mark.slow
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
    assert fingerprint(tmp_path, **LONG) == long_fingerprint
    assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_neither_workers_nor_ten_kills_change_a_byte(tmp_path):
    # Many shards, each soon made: a kill that comes late finds the run still going.
    several = {"simulations": 160, "shard_size": 4, "axes": (2, 0), "fields": True, "stages": 20}
    expected = fingerprint(tmp_path / "one", **several)
    # Two workers are compared with one above, where one of them dies.
    assert fingerprint(tmp_path / "four", 4, **several) == expected
    folder = tmp_path / "killed"
    # TensorFlow is imported once, in a server that forks and never runs it.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["spurious.simulation.particle_mesh", "camb", __name__])
    generator = np.random.default_rng(4)
    for kill in range(1, 11):
        process = context.Process(target=summarise, args=(folder,), kwargs=several)
        process.start()
        wait_for(lambda: len(shards(folder)) >= kill)  # noqa: B023
        time.sleep(generator.uniform(0, 0.03))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert not (folder / "all.h5").exists()
    assert len(shards(folder)) < 40
    assert fingerprint(folder, **several) == expected
