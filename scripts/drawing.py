"""Draw the pipeline in docs/pipeline.md from what `dvc dag` says.

Items of a matrix are drawn as one stage, and what follows from other arrows is left out. The
drawing stands between `<!-- drawing: stages -->` and `<!-- end -->`. A test compares.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import networkx as nx
import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "pipeline.md"
PLACE = re.compile(r"(<!-- drawing: stages -->\n)(.*?)(<!-- end -->)", re.DOTALL)
NODE = re.compile(r'^\s*(node\d+)\["(.+)"\]$', re.MULTILINE)
EDGE = re.compile(r"^\s*(node\d+)-->(node\d+)$", re.MULTILINE)


def mermaid_of_dvc() -> str:
    """Every item of every stage, as DVC draws it."""
    dvc = Path(sys.executable).with_name("dvc")
    command = [str(dvc), "dag", "--mermaid"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def stages(mermaid: str) -> nx.DiGraph:
    """The stages that DVC drew, each with those that need it, without the arrows that follow."""
    names = {node: name.split("@")[0] for node, name in NODE.findall(mermaid)}
    graph = nx.DiGraph()
    graph.add_nodes_from(sorted(set(names.values())))
    pairs = {(names[one], names[other]) for one, other in EDGE.findall(mermaid)}
    graph.add_edges_from(sorted((one, other) for one, other in pairs if one != other))
    return nx.transitive_reduction(graph)


def drawn(graph: nx.DiGraph, settings: dict[str, Any]) -> str:
    """The stages as Mermaid; those that run several times say for each of what.

    Args:
        graph: stages and what needs them.
        settings: the section `stages` of dvc.yaml.
    """
    order = list(nx.lexicographical_topological_sort(graph))
    lines = ["```mermaid", "flowchart LR"]
    lines += [f'    {_key(name)}["{_label(name, settings.get(name, {}))}"]' for name in order]
    pairs = sorted(graph.edges, key=lambda pair: [order.index(name) for name in pair])
    lines += [f"    {_key(one)} --> {_key(other)}" for one, other in pairs]
    return "\n".join([*lines, "```"]) + "\n"


def _key(name: str) -> str:
    return name.replace(".", "_")


def _label(name: str, settings: dict[str, Any]) -> str:
    each = [key for key in settings.get("matrix", {}) if key != "scale"]
    return f"{name}<br/>of each {each[0]}" if each else name


def filled(page: str, mermaid: str) -> str:
    """A page with its drawing made anew."""
    settings = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    drawing = drawn(stages(mermaid), settings)
    return PLACE.sub(lambda found: f"{found[1]}{drawing}{found[3]}", page)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, mermaid_of_dvc()), encoding="utf-8")
