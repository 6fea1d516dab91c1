"""What the site needs beside Sphinx: equations and drawings that need no script and no network."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import networkx as nx
from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

log = logging.getLogger(__name__)

BOX = re.compile(r'^\s*(\w+)\["(.+)"\]$', re.MULTILINE)
ARROW = re.compile(r"^\s*(\w+) --> (\w+)$", re.MULTILINE)
WIDE, HIGH, RIGHT, DOWN = 104, 38, 140, 56  # of a box, and from one to the next, pixels


def inline(writer: Any, node: Any) -> None:
    """Write an equation within a line, as MathML."""
    writer.body.append(_mathml(node, as_block=False))
    raise nodes.SkipNode


def block(writer: Any, node: Any) -> None:
    """Write an equation on lines of its own, as MathML."""
    writer.body.append(f'<div class="math">{_mathml(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def _mathml(node: Any, as_block: bool) -> str:
    try:
        return str(latex2mathml.tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        log.warning("equation %r: %s", node.astext(), error, location=node)
        return ""


class Mermaid(SphinxDirective):
    """A flowchart of boxes and arrows, left to right, as GitHub draws it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The flowchart as SVG, in the colour of the text."""
        source = "\n".join(self.content)
        return [nodes.raw("", _svg(source), format="html")]


def _svg(source: str) -> str:
    labels, graph = dict(BOX.findall(source)), nx.DiGraph(ARROW.findall(source))
    ways, layered = _layered(graph)
    place = _places(layered)
    parts = [_arrow([place[one] for one in way]) for way in ways]
    parts += [_box(*place[name], labels.get(name, name)) for name in graph]
    right, bottom = (max(values) for values in zip(*place.values(), strict=True))
    opening = f'<svg role="img" aria-label="flowchart" viewBox="-1 -1 {right + WIDE + 2} '
    return f'<div class="flowchart">{opening}{bottom + HIGH + 2}">{"".join(parts)}</svg></div>\n'


def _layered(graph: nx.DiGraph) -> tuple[list[list[Any]], nx.DiGraph]:
    """The way of each arrow from column to column, and the graph of all ways.

    An arrow that passes a column gets a place of its own there, so that it runs behind no box.
    """
    columns = enumerate(nx.topological_generations(graph))
    column = {name: number for number, names in columns for name in names}
    ways = [
        [one, *((one, other, k) for k in range(column[one] + 1, column[other])), other]
        for one, other in graph.edges
    ]
    layered = nx.DiGraph()
    for way in ways:
        nx.add_path(layered, way)
    return ways, layered


def _places(layered: nx.DiGraph) -> dict[Any, tuple[float, float]]:
    """Left and upper edge of everything: each column in the order of what leads to it."""
    columns = list(nx.topological_generations(layered))
    tallest = max(map(len, columns))
    place: dict[Any, tuple[float, float]] = {}

    def height(name: Any) -> float:
        found = [place[one][1] for one in layered.predecessors(name)]
        return sum(found) / max(len(found), 1)

    for column, names in enumerate(columns):
        for row, name in enumerate(sorted(names, key=height)):
            place[name] = column * RIGHT, (row + (tallest - len(names)) / 2) * DOWN
    return place


def _arrow(way: list[tuple[float, float]]) -> str:
    (x, y), *others = way
    path = f"M{x + WIDE},{y + HIGH / 2}"
    x, y = x + WIDE, y + HIGH / 2
    for number, (left, top) in enumerate(others, start=1):
        to_y = top + HIGH / 2
        path += f" C{x + 20},{y} {left - 20},{to_y} {left},{to_y}"
        x, y = left + WIDE, to_y
        path += f" H{x}" if number < len(others) else " m-6,-4 l6,4 l-6,4"
    return f'<path d="{path}"/>'


def _box(x: float, y: float, label: str) -> str:
    lines = label.split("<br/>")
    first = y + HIGH / 2 + 4 - 7 * (len(lines) - 1)
    text = "".join(
        f'<text x="{x + WIDE / 2}" y="{first + 14 * i}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="4"/>{text}'


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config["html_math_renderer"] = "mathml"
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
