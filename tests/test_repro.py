"""Stages side by side, by DVC itself on a small project of its own."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parents[1] / "scripts" / "repro.py"
MODULE = runpy.run_path(str(SCRIPT), run_name="repro")
DOT = """strict digraph {
"data.dvc";
"a";
"b";
"c";
"d";
"data.dvc" -> "a";
"a" -> "b";
"a" -> "c";
"b" -> "d";
"c" -> "d";
}
"""
# Each stage writes when it began and ended, and takes a second.
PIPELINE = """stages:
  a: {cmd: date +%s%N > a && sleep 1, outs: [a]}
  b: {cmd: date +%s%N > b && sleep 1 && date +%s%N >> b, deps: [a], outs: [b]}
  c: {cmd: date +%s%N > c && sleep 1 && date +%s%N >> c, deps: [a], outs: [c]}
  d: {cmd: cat b c > d, deps: [b, c], outs: [d]}
"""


def test_a_graph_is_what_dvc_draws_without_files():
    graph = MODULE["read_graph"](DOT)
    assert graph == {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}}
    assert MODULE["weights"](graph) == {"a": 3, "b": 1, "c": 1, "d": 0}


@pytest.fixture
def project(tmp_path):
    dvc = Path(sys.executable).with_name("dvc")
    for command in (["git", "init", "-q"], [dvc, "init", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    return tmp_path


def repro(project, *arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def moments(project, name):
    return [int(line) for line in (project / name).read_text().split()]


@pytest.mark.slow
def test_independent_stages_run_at_once_and_each_after_what_it_needs(project):
    done = repro(project)
    assert done.returncode == 0, done.stderr
    (a,), b, c = (moments(project, name) for name in "abc")
    assert a < min(b + c)
    assert max(b[0], c[0]) < min(b[1], c[1])
    assert moments(project, "d") == b + c
    assert "4 of 4 stages" in done.stdout
    again = repro(project)
    assert (again.returncode, again.stdout) == (0, "Data and pipelines are up to date.\n")


@pytest.mark.slow
def test_one_at_a_time_none_overlap(project):
    assert repro(project, "--at-once", "1").returncode == 0
    b, c = moments(project, "b"), moments(project, "c")
    assert b[1] < c[0] or c[1] < b[0]


@pytest.mark.slow
def test_after_a_failure_nothing_begins_and_the_next_call_goes_on(project):
    pipeline = PIPELINE.replace("cat b c > d", "cat b c > d && date > e").replace(
        "date +%s%N > c && sleep 1", "test -e mended && date +%s%N > c && sleep 1"
    )
    (project / "dvc.yaml").write_text(pipeline)
    done = repro(project)
    assert done.returncode != 0 and "failed to reproduce 'c'" in done.stdout
    assert (project / "b").exists() and not (project / "d").exists()
    (project / "mended").touch()
    again = repro(project)
    assert again.returncode == 0 and "Stage 'a' didn't change, skipping" in again.stdout
    assert (project / "d").exists()


@pytest.mark.slow
def test_an_interrupt_ends_the_stages_too(project):
    (project / "dvc.yaml").write_text(PIPELINE.replace("sleep 1, outs: [a]", "sleep 60, outs: [a]"))
    command = [sys.executable, SCRIPT]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell in the background, which may run the tests, ignores the signal.
    options |= {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, cwd=project, start_new_session=True, **options) as process:
        deadline = time.monotonic() + 60
        while not (project / "a").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said == "interrupted: the same command goes on from here\n"


def test_a_wrong_number_is_one_line(tmp_path):
    done = repro(tmp_path, "--at-once", "none")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("'none' must be a whole number of at least 1")


def test_scales_are_written_where_they_stand_and_nothing_else(tmp_path):
    set_scales = MODULE["set_scales"]
    params = tmp_path / "params.yaml"
    text = (SCRIPT.parents[1] / "params.yaml").read_text()
    params.write_text(text)
    set_scales(params, ["pilot", "paper"])
    now = params.read_text()
    assert yaml.safe_load(now)["run"]["scales"] == ["pilot", "paper"]
    changed = [
        one for one in zip(text.splitlines(), now.splitlines(), strict=True) if len({*one}) > 1
    ]
    assert len(changed) == 1 and changed[0][0].partition("#")[2] == changed[0][1].partition("#")[2]
    params.write_text("search: {scales: [pilot]}\n")
    with pytest.raises(SystemExit, match="no line"):
        set_scales(params, ["paper"])
    assert params.read_text() == "search: {scales: [pilot]}\n"
