"""Draw which room of the package imports which, from the imports themselves, in CONTRIBUTING.md.

The picture is Mermaid and stands between `<!-- architecture -->` and `<!-- end -->`. An arrow leads
from a room to one that it imports, unless a longer way leads there too. A test compares.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from importlib.util import resolve_name
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "spurious"
PAGE = ROOT / "CONTRIBUTING.md"
PLACE = re.compile(r"(<!-- architecture -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# What nearly every room imports: in a picture it would be only lines.
EVERYWHERE = ("errors", "files", "seeds", "lazy", "kinds", "description", "config", "bootstrap")

Graph = dict[str, set[str]]


def rooms() -> Graph:
    """Folder or single module -> those that it imports when it runs."""
    found: Graph = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if (room := parts[0]) == "__init__":
            continue
        found[room] |= {one for one in _imported(path) if one != room}
    here = set(found) - set(EVERYWHERE)
    return {room: found[room] & here for room in here}


def _imported(path: Path) -> set[str]:
    """Rooms that a module imports, at the top or in a function."""
    package = ".".join(("spurious", *path.relative_to(SOURCE).parent.parts))
    tree, names = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    inside = [name.split(".") for name in names if name.startswith("spurious.")]
    return {name[1] for name in inside}


def reduced(graph: Graph) -> Graph:
    """The same without arrows to what a longer way leads to; rooms in a circle keep theirs."""
    ways = {room: _reached(graph, room) for room in graph}
    return {
        room: {
            one
            for one in below
            if not any(
                one in ways[other] and other not in ways[one] for other in below - {one}
            )
        }
        for room, below in graph.items()
    }  # fmt: skip


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            waiting += graph[one]
    return found


def drawing() -> str:
    """The picture, in a block of Mermaid."""
    graph = reduced(rooms())
    lines = [f"    {a} --> {b}" for a in sorted(graph) for b in sorted(graph[a])]
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```", ""])


def filled(page: str) -> str:
    """A page with its picture made anew."""
    return PLACE.sub(lambda found: f"{found[1]}{drawing()}{found[3]}", page)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    if (made := filled(text)) != text:
        PAGE.write_text(made, encoding="utf-8")
        print(f"{PAGE.name}: picture made anew")
