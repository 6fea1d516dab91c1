"""Progress bars are shown on a terminal and nowhere else."""

import ast
import io
from pathlib import Path

import pytest

from spurious.progress import tqdm

SRC = Path(__file__).parents[1] / "src"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("file", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_only_a_terminal_has_a_bar(file, shown):
    stream = file()
    assert list(tqdm(range(3), desc="work", file=stream)) == [0, 1, 2]
    assert ("work: 100%" in stream.getvalue()) == shown
    assert bool(stream.getvalue()) == shown


def test_a_terminal_can_be_spared_too():
    stream = Terminal()
    assert list(tqdm(range(3), file=stream, disable=True)) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_a_bar_that_is_not_shown_is_used_like_one_that_is():
    with tqdm(total=3, file=io.StringIO()) as bar:
        bar.update()
        bar.set_postfix_str("2 left")
        bar.n = 3
        bar.refresh()


def test_all_bars_are_of_this_one_kind():
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "tqdm":
                raise AssertionError(f"{path} has bars of its own")
