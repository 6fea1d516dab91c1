"""`spurious list`: which kinds and fences params.yaml may name, and what one of them is."""

from __future__ import annotations

from collections.abc import Iterable

from spurious.description import tables
from spurious.description.lookup import class_of
from spurious.errors import UserError, nearest
from spurious.kinds import GROUPS
from spurious.search.fences import FENCES, Fence


def kinds() -> str:
    """Every kind of every group, and every fence, a line each."""
    parts = []
    for group, names in GROUPS.items():
        lines = [(name, tables.summary(class_of(group, name))) for name in names]
        parts.append(f"{group}s\n{_indented(_aligned(lines))}")
    limited = [(name, fence.meaning) for name, fence in FENCES.items()]
    parts.append(f"fences\n{_indented(_aligned(limited))}")
    return "\n\n".join(parts)


def kind(name: str) -> str:
    """The fields of one kind, or of a class of one's own by its import path, or a fence.

    Raises:
        UserError: there is no such kind.
    """
    try:
        if name in FENCES:
            return _fence(FENCES[name])
        found = tables.find(name).items()
        return "\n\n".join(_described(f"{group} {name}", one) for group, one in found)
    except ValueError as error:
        raise UserError(f"kind = {name}: {error}{nearest(name, FENCES)}") from error


def _described(title: str, one: type) -> str:
    rows, ranges = tables.rows(one), tables.ranges(one)
    parts = [f"{title}: {tables.summary(one)}"]
    if rows:
        head = ("field", "allowed", "unit", "default", "what it is")
        parts.append(_indented(_aligned([head, *rows])))
    if ranges:
        head = ("parameter", "in search.families", "unit", "searched in its", "why")
        parts.append(_indented(_aligned([head, *ranges])))
    return "\n\n".join(parts)


def _fence(fence: Fence) -> str:
    lines = [
        ("height", fence.height),
        ("limit", str(fence.within)),
        ("blind to", fence.blind),
        ("float32 knows it to", f"{fence.tolerance:g}"),
    ]
    return f"fence {fence.name}: {fence.meaning}\n\n{_indented(_aligned(lines))}"


def _aligned(body: Iterable[Iterable[str]]) -> str:
    """Columns for a terminal."""
    lines = [list(cells) for cells in body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [zip(cells, widths, strict=True) for cells in lines]
    return "\n".join("  ".join(c.ljust(w) for c, w in cells).rstrip() for cells in padded)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
