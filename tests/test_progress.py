"""Bars on a terminal, plain lines from time to time elsewhere, nothing in CI."""

import ast
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spurious import progress
from spurious.progress import Bar, track

SRC = Path(__file__).parents[1] / "src"
CLEAR = "\x1b[?25h"  # shows the cursor again


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A line every few milliseconds, wherever these tests run."""
    monkeypatch.setattr(progress, "EVERY", 0.02)
    monkeypatch.delenv("CI", raising=False)


def slow(steps):
    for _ in steps:
        time.sleep(0.1)


def test_a_pipe_has_plain_lines_that_say_how_far_and_how_long(capsys):
    slow(track(range(3), "work", unit="batch"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 0 of 3 batches, 0 s gone"
    assert "work: 2 of 3 batches, 0 s gone, 0 s left" in lines
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_work_within_work_comes_last(capsys):
    with Bar(5, "outer", initial=3, unit="family") as bar:
        bar.note = "0.2 nat"
        slow(track(range(2), "inner"))
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "outer: 3 of 5 families, 0 s gone, 0.2 nat; inner: 0 of 2, 0 s gone"


def test_short_work_is_not_shown(capsys):
    with Bar(1, "outer"):
        slow(track(range(2), "short", delay=60))
    said = capsys.readouterr().err
    assert "outer" in said and "short" not in said


def test_no_line_is_empty(capsys):
    slow(track(range(2), "short", delay=60))
    assert capsys.readouterr().err == ""


def test_a_line_that_is_due_comes_soon(monkeypatch, capsys):
    """Much work of a few seconds each is not without any."""
    monkeypatch.setattr(progress, "EVERY", 0.5)
    monkeypatch.setattr(progress, "SOON", 0.05)
    monkeypatch.setattr(progress._display, "_said", time.monotonic())
    for number in range(8):
        slow(track(range(1), f"work {number}"))
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 2 and lines[0].startswith("work ")


@pytest.mark.parametrize(
    "quiet",
    [
        lambda patch: patch.setenv("CI", "true"),
        lambda patch: patch.setattr(progress._display, "silent", True),
    ],
    ids=["CI", "a process of a pool"],
)
def test_nothing_is_shown(quiet, monkeypatch, capsys):
    quiet(monkeypatch)
    slow(track(range(2), "work"))
    assert capsys.readouterr().err == ""


def test_a_bar_that_is_disabled_is_used_like_any(capsys):
    slow(track(range(2), "work", disable=True))
    with Bar(2, "work", disable=True) as bar:
        bar.update()
    assert bar.n == 1 and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "3 s"), (89, "89 s"), (130, "2 min"), (7200, "2.0 h")]
)
def test_durations_are_words(seconds, words):
    assert progress._duration(seconds) == words


def test_what_is_left_counts_only_the_steps_of_this_call(monkeypatch):
    bar = Bar(10, "work", initial=6)
    monkeypatch.setattr(progress.time, "monotonic", lambda: bar.began + 60)
    bar.update(2)
    assert str(bar) == "8 of 10, 60 s gone, 60 s left"


TERMINAL = """
import sys, time
from spurious.progress import track
for i in track(range(5), "work", unit="epoch"):
    time.sleep(0.3)
    print("printed", i)
    if len(sys.argv) > 1 and i == 3:
        raise ValueError("broken")
"""


def on_a_terminal(*arguments, stdout=None):
    """What appears on a terminal, to which standard error leads, and perhaps standard output."""
    master, slave = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    command = [sys.executable, "-c", TERMINAL, *arguments]
    process = subprocess.Popen(
        command, stderr=slave, stdout=stdout or slave, env=environment | {"TERM": "xterm"}
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(master)
    process.wait()
    return seen.decode()


def test_a_terminal_has_a_bar_below_what_is_printed():
    seen = on_a_terminal()
    assert "work" in seen and "4 of 5 epochs" in seen and "━" in seen
    assert [f"printed {i}" in seen for i in range(5)] == [True] * 5
    assert seen.rindex(CLEAR) > seen.rindex("4 of 5 epochs")


def test_what_is_printed_into_a_file_is_not_on_the_terminal(tmp_path):
    with (tmp_path / "out").open("w") as file:
        assert "printed" not in on_a_terminal(stdout=file)
    assert (tmp_path / "out").read_text().split() == " ".join(
        f"printed {i}" for i in range(5)
    ).split()


def test_an_error_leaves_the_terminal_in_order():
    seen = on_a_terminal("fail")
    assert "ValueError: broken" in seen and seen.count(CLEAR) == 1


def test_all_bars_are_of_this_one_kind():
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [
                getattr(node, "module", None),
                *(one.name for one in getattr(node, "names", [])),
            ]
            if isinstance(node, ast.Import | ast.ImportFrom) and path.name != "progress.py":
                tops = {str(name).split(".")[0] for name in names}
                assert not tops & {"tqdm", "rich"}, f"{path} has bars of its own"
