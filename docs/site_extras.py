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
WIDE, HIGH, RIGHT, DOWN = 92, 38, 122, 60  # of a box, and from one to the next, pixels


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
    columns = list(nx.topological_generations(graph))
    tallest = max(map(len, columns))
    place = {
        name: (column * RIGHT, (row + (tallest - len(names)) / 2) * DOWN)
        for column, names in enumerate(columns)
        for row, name in enumerate(names)
    }
    parts = [_arrow(*place[one], *place[other]) for one, other in graph.edges]
    parts += [_box(*place[name], labels.get(name, name)) for name in graph]
    size = f"{(len(columns) - 1) * RIGHT + WIDE + 2} {(tallest - 1) * DOWN + HIGH + 2}"
    opening = f'<svg role="img" aria-label="flowchart" viewBox="-1 -1 {size}">'
    return f'<div class="flowchart">{opening}{"".join(parts)}</svg></div>\n'


def _arrow(x: float, y: float, to_x: float, to_y: float) -> str:
    start, middle, end = x + WIDE, y + HIGH / 2, to_y + HIGH / 2
    bend = f"C{start + 20},{middle} {to_x - 20},{end} {to_x},{end}"
    head = "m-6,-4 l6,4 l-6,4"
    return f'<path d="M{start},{middle} {bend} {head}"/>'


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
