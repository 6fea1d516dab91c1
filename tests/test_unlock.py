"""What a sudden death leaves of DVC's own files is mended, and what the living hold is kept."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
import zc.lockfile

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "dvc.lock").read_text()


@pytest.fixture(scope="module")
def unlock():
    spec = importlib.util.spec_from_file_location("unlock", ROOT / "scripts" / "unlock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def dvc():
    """A living process that is called dvc."""
    code = "import time; print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, "dvc"], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.communicate()


def test_the_dead_hold_nothing_and_the_living_all(unlock, dvc):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own = os.getpid()  # alive, but no DVC: as if the number had been given again
    one, gone, other = ({"pid": pid, "cmd": "dvc repro"} for pid in (dvc, ended.pid, own))
    text = json.dumps(
        {"write": {"/a": gone, "/b": one}, "read": {"/c": [other, one], "/d": [gone]}}
    )
    kept = {"write": {"/b": one}, "read": {"/c": [one]}}
    assert json.loads(unlock.living(text)) == kept
    assert unlock.living(json.dumps(kept)) == json.dumps(kept)
    assert unlock.living(text[:40]) == "{}"


@pytest.mark.slow
def test_a_lock_file_that_was_cut_off_keeps_the_stages_before(unlock):
    assert unlock.mended(LOCK) == LOCK
    every = yaml.safe_load(LOCK)["stages"]
    for end in range(0, len(LOCK), 997):
        kept = yaml.safe_load(unlock.mended(LOCK[:end])).get("stages") or {}
        whole = [name for name in every if f"\n  {name}:" in LOCK[:end]][:-1]
        assert {name: kept[name] for name in whole} == {name: every[name] for name in whole}


def test_nothing_is_done_while_dvc_is_at_work(unlock, tmp_path, capsys):
    unlock.main(tmp_path)  # no project of DVC
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    rwlock, lock = tmp_path / unlock.RWLOCK, tmp_path / "dvc.lock"
    rwlock.write_text('{"wri')
    lock.write_text(LOCK[:1000])
    held = zc.lockfile.LockFile(str(tmp_path / ".dvc" / "tmp" / "lock"))
    unlock.main(tmp_path)
    assert (rwlock.read_text(), lock.read_text()) == ('{"wri', LOCK[:1000])
    held.close()
    unlock.main(tmp_path)
    assert rwlock.read_text() == "{}"
    assert yaml.safe_load(lock.read_text())["schema"] == "2.0"
    assert "freed" in capsys.readouterr().out
