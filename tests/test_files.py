"""Files are whole or absent."""

import errno
import hashlib
import math
import os
import subprocess
import sys

import pytest

from spurious.errors import UserError
from spurious.files import md5, read_json, replacing, sweep, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half a fi")
        raise RuntimeError("disk on fire")
    assert read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["table.json"]


def test_a_full_disk_leaves_no_file_under_the_final_name(tmp_path):
    # A process whose files may not grow beyond 4 KiB fails like one on a full disk.
    code = f"""
import resource, signal
from pathlib import Path
import numpy as np
from spurious.maps import MapSet, write_maps
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
n = 10
maps = np.random.default_rng(0).random((n, 16, 16), np.float32)
data = MapSet(maps, np.zeros((n, 2)), np.arange(n), np.arange(n), np.full(n, 2), 1.0)
write_maps(Path({str(tmp_path)!r}) / "maps.h5", data)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert "OSError" in done.stderr or "RuntimeError" in done.stderr
    assert os.listdir(tmp_path) == []


def test_nan_is_refused_in_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": math.nan})
    assert os.listdir(tmp_path) == []


def test_unreadable_json_is_named(tmp_path):
    with pytest.raises(UserError, match=r"x\.json is missing"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


def test_md5_is_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"a\r\nb")
    assert md5(tmp_path / "x") == hashlib.md5(b"a\r\nb").hexdigest()


def test_an_error_of_the_disk_names_the_file(tmp_path):
    with pytest.raises(OSError) as error, replacing(tmp_path / "a.txt") as temporary:
        temporary.touch()
        with open("/dev/full", "w") as file:
            file.write("a")
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "a.txt"))
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "a.txt"):
        (tmp_path / "other").read_text()


def test_what_dead_processes_were_writing_is_removed(tmp_path):
    for name in ("a.npz", "deep/.a.123.part.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.npz"]
    sweep(tmp_path / "missing")
