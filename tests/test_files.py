"""Files are whole or absent."""

import errno
import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spurious.errors import UserError
from spurious.files import absent, inside, md5, read_json, replacing, sweep, write_json
from spurious.own_model import Own
from spurious.pipeline.layout import Layout

ROOT = Path(__file__).parents[1]


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
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet
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
    for text in ("{", "[" * 100_000, '{"a": NaN}', "[-Infinity]"):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match=r"x\.json is not valid JSON"):
            read_json(tmp_path / "x.json")


@pytest.mark.parametrize("name", yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
def test_a_missing_file_of_the_pipeline_names_the_command_that_makes_it(name):
    """Of every output of dvc.yaml, and of what is in those that are folders."""
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]
    item = {"scale": "pilot", "posterior": "resnet", "group": "paper"}
    command = {"train": "train resnet", "attack": "attack paper"}.get(name, name)
    outs = [next(iter(out)) for key in ("outs", "metrics", "plots") for out in stage.get(key, ())]
    for out in outs if name != "code" else ():
        for key, value in item.items():
            out = out.replace(f"${{item.{key}}}", value)
        path = out if Path(out).suffix else f"{out}/1.h5"
        assert absent(path) == f"{path} is missing: make it with `spurious {command}`"


def test_any_other_missing_file_is_answered_by_one_beside_it(tmp_path):
    for name in ("two.keras", "maps.h5", ".twi.keras.part"):
        (tmp_path / name).touch()
    path = tmp_path / "tow.keras"
    assert absent(path) == f"{path} is missing; did you mean 'two.keras'?"
    assert absent(tmp_path / "other.csv") == f"{tmp_path / 'other.csv'} is missing"
    assert absent(tmp_path / "none" / "two.keras").endswith("none/two.keras is missing")
    assert absent("data/reference/flowpm.h5").endswith("fetch it with `dvc pull data.dvc`")
    assert absent("a\0b").endswith("is missing")


def test_md5_is_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"a\r\nb")
    assert md5(tmp_path / "x") == hashlib.md5(b"a\r\nb").hexdigest()


@pytest.mark.parametrize("name", ["a", "a.json", "a/b/c.h5", "-x", "...", "a..b"])
def test_what_lies_below_a_folder_is_its_plain_path(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name
    assert inside(tmp_path / "not" / "there", name) == tmp_path / "not" / "there" / name


@pytest.mark.parametrize(
    "name", ["..", "../x", "../../x", "a/../../x", "a/..", "/", "/tmp/x", "", ".", "a\0b", "//x"]
)
@pytest.mark.parametrize("below", ["", "not/there"])
def test_what_would_leave_a_folder_is_one_line(tmp_path, name, below):
    with pytest.raises(UserError, match="would lie outside of") as caught:
        inside(tmp_path / below, name)
    assert str(caught.value).isprintable()


def test_a_relative_folder_is_as_safe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(inside(Path("data"), "pilot")) == "data/pilot"
    with pytest.raises(UserError, match=r"'data/\.\./x' would lie outside of data"):
        inside(Path("data"), "../x")


def test_links_lead_nowhere_else_but_from_the_folder_and_the_file_itself(tmp_path):
    """A scale on another disk, a file in DVC's cache; but no folder between them."""
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "scale").symlink_to(disk)
    assert inside(tmp_path / "scale", "a/b") == tmp_path / "scale" / "a" / "b"
    (disk / "maps.h5").symlink_to(tmp_path / "cached")
    assert inside(tmp_path / "scale", "maps.h5") == tmp_path / "scale" / "maps.h5"
    (tmp_path / "elsewhere").mkdir()
    (disk / "attacks").symlink_to(tmp_path / "elsewhere")
    (disk / "loop").symlink_to(disk / "loop")
    (disk / "within").symlink_to(disk / "real")
    assert inside(tmp_path / "scale", "within/x") == tmp_path / "scale" / "within" / "x"
    with pytest.raises(UserError, match="would lie outside of"):
        inside(tmp_path / "scale", "attacks/x.h5")


OUT = ["..", "../../x", "/tmp/x", "a/../../../x"]


@pytest.mark.parametrize("name", OUT)
def test_no_path_of_the_layout_leaves_its_folder(tmp_path, monkeypatch, name):
    """Whoever made the name, and whatever rule it went round."""
    monkeypatch.chdir(tmp_path)
    bad, good = Layout(name), Layout("pilot")
    for path in (
        lambda: bad.maps,
        lambda: bad.shards,
        lambda: bad.report,
        lambda: bad.result("a.json"),
        lambda: bad.posterior("compact"),
        lambda: bad.attacked("paper", "bim"),
        lambda: bad.checkpoints("compact"),
        lambda: good.result(name),
        lambda: good.posterior(name),
        lambda: good.checkpoints(name),
        lambda: good.attacked("../" + name, "bim"),
        lambda: good.attacked("paper", f"../{name}"),
        lambda: Own("model", Path("own")).result(name),
    ):
        with pytest.raises(UserError, match="would lie outside of"):
            path()
    for made in (good.attacked("/tmp/x", "bim"), good.attacked("paper", "/tmp/x")):
        assert made.resolve().is_relative_to(tmp_path / "data" / "pilot")


def test_the_layout_is_as_before():
    layout = Layout("pilot")
    assert str(layout.maps) == "data/pilot/maps.h5"
    assert str(layout.shards) == "data/shards/pilot"
    assert str(layout.checkpoints("compact")) == "data/checkpoints/pilot/compact"
    assert str(layout.posterior("compact", 2)) == "models/pilot/compact/2.keras"
    assert str(layout.attacked("paper", "bim")) == "data/pilot/attacks/paper/bim.h5"
    assert str(layout.attacked("paper", "bim", 2)) == "data/pilot/attacks/paper/bim.2.h5"
    assert str(layout.result("search/logistic.png")) == "results/pilot/search/logistic.png"
    assert str(layout.report) == "results/pilot/report.html"


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
