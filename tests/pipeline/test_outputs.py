"""A stage's outputs are replaced together, or stay as they were."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spurious.errors import UserError
from spurious.pipeline import outputs
from spurious.pipeline.outputs import replaced_together

ROOT = Path(__file__).parents[2]


def tree(folder):
    """Every file below a folder with its bytes, hidden ones too."""
    found = sorted(path for path in Path(folder).rglob("*") if not path.is_dir())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture
def paths(tmp_path):
    """A table, a figure and a folder, in two folders, as a former run left them."""
    table, figure = tmp_path / "results" / "a.csv", tmp_path / "results" / "a.png"
    models = tmp_path / "models" / "deep"
    for path, text in ((table, "old"), (figure, "old"), (models / "1", "old"), (models / "2", "")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return table, figure, models


def write(out, paths):
    """The table and one of two models, anew; no figure."""
    table, _, models = paths
    out.new(table).write_text("new")
    (out.new(models)).mkdir()
    out.new(models / "1").write_text("new")


NEW = {"results/a.csv": b"new", "models/deep/1": b"new"}


def test_all_are_replaced_and_what_was_not_written_is_removed(tmp_path, paths):
    with replaced_together("a", paths) as out:
        before = tree(tmp_path / "models" / "deep")
        write(out, paths)
        assert out.new(paths[0]).name == "a.csv"
        assert tree(tmp_path / "models" / "deep") == before
    assert tree(tmp_path) == NEW
    assert {path.name for path in tmp_path.rglob(".*")} == set()


def test_a_path_that_is_no_output_is_refused(paths):
    with replaced_together("a", paths) as out, pytest.raises(ValueError, match=r"b\.csv"):
        out.new(paths[0].with_name("b.csv"))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_all_as_it_was(tmp_path, paths, error):
    before = tree(tmp_path)
    with pytest.raises(error), replaced_together("a", paths) as out:
        write(out, paths)
        raise error
    assert tree(tmp_path) == before
    assert list(tmp_path.rglob(".*")) == []


def test_a_block_that_fails_leaves_no_folder_that_was_not_there(tmp_path):
    paths = tmp_path / "results" / "pilot" / "a.csv", tmp_path / "data" / "b"
    with pytest.raises(RuntimeError), replaced_together("a", paths):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_where_a_file_belongs_is_left_alone(tmp_path, paths):
    paths[0].unlink()
    paths[0].mkdir()
    before = tree(tmp_path)
    told = r"a\.csv is a folder where a file belongs: move it away"
    with pytest.raises(UserError, match=told), replaced_together("a", paths) as out:
        write(out, paths)
    assert tree(tmp_path) == before
    assert list(tmp_path.rglob(".*")) == []


def test_a_second_run_of_a_stage_is_refused_and_another_stage_is_not(tmp_path, paths):
    with replaced_together("a", paths) as out:
        write(out, paths)
        with (
            pytest.raises(UserError, match="a is at work in another process"),
            replaced_together("a", paths),
        ):
            pass
        with replaced_together("b", [paths[0].with_name("b.csv")]) as other:
            other.new(paths[0].with_name("b.csv")).write_text("other")
    assert tree(tmp_path) == NEW | {"results/b.csv": b"other"}


DYING = """
import os, signal, sys, time
from pathlib import Path
from spurious.pipeline import outputs
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
folder, steps = Path(sys.argv[1]), int(sys.argv[2])
results = folder / "results"
paths = results / "a.csv", results / "a.png", folder / "models" / "deep"
left = [steps]
for module, name in ((os, "replace"), (outputs, "_remove")):
    def counted(*arguments, real=getattr(module, name)):
        if not left[0]:
            kill()
        left[0] -= 1
        return real(*arguments)
    setattr(module, name, counted)
with outputs.replaced_together("a", paths) as out:
    out.new(paths[0]).write_text("new")
    out.new(paths[2]).mkdir()
    out.new(paths[2] / "1").write_text("new")
    if steps == 99:
        kill()
"""


def dying(folder, steps):
    """A run that is killed after so many renames and removals; 99: before the first."""
    done = subprocess.run([sys.executable, "-c", DYING, folder, str(steps)], check=False)
    return done.returncode


# One rename is that of the journal; then a rename, a removal, and both for the folder.
@pytest.mark.parametrize(("steps", "replaced"), [(99, False), (0, False)] + [
    (steps, True) for steps in range(1, 5)
])  # fmt: skip
def test_a_run_that_is_killed_has_replaced_nothing_or_is_finished_by_the_next(
    tmp_path, paths, steps, replaced
):
    before = tree(tmp_path)
    assert dying(tmp_path, steps) == -signal.SIGKILL
    shown = {name: text for name, text in tree(tmp_path).items() if "/." not in f"/{name}"}
    if not replaced:
        assert shown == before
    with pytest.raises(RuntimeError), replaced_together("a", paths):
        raise RuntimeError  # the next run need not succeed
    assert tree(tmp_path) == (NEW if replaced else before)
    assert list(tmp_path.rglob(".*")) == []


def test_a_run_that_is_not_killed_takes_so_many_steps(tmp_path, paths):
    assert dying(tmp_path, 50) == 0
    assert tree(tmp_path) == NEW


def test_ctrl_c_while_renaming_waits_for_the_last(tmp_path, paths, monkeypatch):
    real, calls = os.replace, []

    def interrupted(*arguments):
        calls.append(arguments)
        real(*arguments)
        if len(calls) == 2:  # the first is the journal's
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), replaced_together("a", paths) as out:
        write(out, paths)
    assert tree(tmp_path) == NEW


def test_what_an_error_stopped_while_renaming_is_finished_by_the_next_run(
    tmp_path, paths, monkeypatch
):
    real, calls = os.replace, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 3:  # after the journal and a file: the folder
            raise OSError
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing)
        with pytest.raises(OSError), replaced_together("a", paths) as out:
            write(out, paths)
    with pytest.raises(RuntimeError), replaced_together("a", paths):
        raise RuntimeError
    assert tree(tmp_path) == NEW


def test_a_lock_that_another_run_took_away_is_not_held(tmp_path, paths, monkeypatch):
    """Between opening the lock and holding it, the run that had it may end and remove it."""
    real = outputs.fcntl.flock

    def late(file, how):
        Path(file.name).unlink()
        real(file, how)

    monkeypatch.setattr(outputs.fcntl, "flock", late)
    with (
        pytest.raises(UserError, match="at work in another process"),
        replaced_together("a", paths),
    ):
        pass


def test_the_lock_goes_with_the_process(tmp_path, paths):
    code = DYING.replace("if steps == 99:\n        kill()", "time.sleep(60)")
    holder = subprocess.Popen([sys.executable, "-c", code, tmp_path, "50"])
    until = time.monotonic() + 30
    while not (tmp_path / "models" / ".a.new" / "deep" / "1").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    with pytest.raises(UserError, match="at work"), replaced_together("a", paths):
        pass
    holder.kill()
    holder.wait()
    with replaced_together("a", paths) as out:
        write(out, paths)
    assert tree(tmp_path) == NEW
