"""Imports point one way, to what exists: no module imports itself by way of others."""

import ast
import runpy
from functools import cache
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "architecture.py"))


def modules(src):
    """Dotted name -> file, of every module below `src`."""
    named = {}
    for path in src.rglob("*.py"):
        parts = path.relative_to(src).with_suffix("").parts
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imported(name, path):
    """What a module's imports name: at the top, in functions, and for type checkers alone."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def graph(src):
    """Module -> the modules below `src` that it imports.

    `from a.b import c` is an import of the module a.b.c if there is one, else of a.b.
    """
    named = modules(src)

    def target(name):
        return name if name in named else name.rpartition(".")[0]

    return {
        module: {target(one) for one in imported(module, path)} & named.keys() - {module}
        for module, path in named.items()
    }


def circles(edges):
    """Sets of modules that reach each other, each as sorted names."""

    @cache
    def reached(module):
        found, waiting = set(), [module]
        while waiting:
            new = edges[waiting.pop()] - found
            found |= new
            waiting.extend(new)
        return found

    return sorted(
        {
            tuple(sorted(one for one in reached(module) if module in reached(one)))
            for module in edges
            if module in reached(module)
        }
    )


def test_no_module_imports_itself_by_way_of_others():
    edges = graph(SRC)
    assert len(edges) > 150 and "spurious.seeds" in edges["spurious.bootstrap"]
    assert circles(edges) == []


def dangling(src, top):
    """Imports of modules or names below `top` that do not exist, as (module, import)."""
    named = modules(src)
    bound = {module: set(names(ast.parse(path.read_text()))) for module, path in named.items()}
    for module, path in named.items():
        for one in imported(module, path):
            home, _, name = one.rpartition(".")
            if one.split(".")[0] == top and one not in named and name not in bound.get(home, ()):
                yield module, one


def names(tree):
    """What a module's statements bind, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def test_every_import_of_ours_names_what_exists():
    """Type checkers take a missing module for one of a library without types."""
    assert list(dangling(SRC, "spurious")) == []


@pytest.mark.parametrize("line", ["from pack.gone import x", "from pack.a import gone"])
def test_an_import_of_nothing_is_found(tmp_path, line):
    (tmp_path / "pack").mkdir()
    for name, text in {"__init__": "", "a": "x = 1", "b": f"def late():\n    {line}"}.items():
        (tmp_path / "pack" / f"{name}.py").write_text(text + "\n")
    assert list(dangling(tmp_path, "pack")) == [("pack.b", line.split()[1] + "." + line.split()[3])]


@pytest.mark.parametrize(
    "line",
    [
        "from pack import a",
        "from pack.a import name",
        "import pack.a",
        "from . import a",
        "from .a import name",
        "def late():\n    from pack import a",
        "if TYPE_CHECKING:\n    from pack.a import name",
    ],
)
def test_a_circle_is_found_however_it_is_written(tmp_path, line):
    (tmp_path / "pack").mkdir()
    for name, text in {"__init__": "", "a": "from pack import b, c", "b": line, "c": ""}.items():
        (tmp_path / "pack" / f"{name}.py").write_text(text + "\n")
    assert circles(graph(tmp_path)) == [("pack.a", "pack.b")]


def test_the_picture_of_the_rooms_is_that_of_the_imports():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert SCRIPT["filled"](text) == text, "run python scripts/architecture.py"
    assert SCRIPT["filled"](text.replace("    cli --> commands\n", "")) == text
    assert "    stages --> report\n" in text


def test_an_arrow_is_left_out_if_a_longer_way_leads_there_too():
    edges = {"a": {"b", "c"}, "b": {"c"}, "c": {"d"}, "d": {"c"}}
    assert SCRIPT["reduced"](edges) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"c"}}
