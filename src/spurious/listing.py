"""`spurious list`: which kinds params.yaml may name, and the fields of one."""

from __future__ import annotations

from collections.abc import Iterable

from spurious.description import tables
from spurious.description.lookup import class_of
from spurious.errors import UserError
from spurious.kinds import GROUPS


def kinds() -> str:
    """Every kind of every group, a line each."""
    parts = []
    for group, names in GROUPS.items():
        lines = [(name, tables.summary(class_of(group, name))) for name in names]
        parts.append(f"{group}s\n{_indented(_aligned(lines))}")
    return "\n\n".join(parts)


def kind(name: str) -> str:
    """The fields of one kind, or of a class of one's own by its import path, and its family.

    Raises:
        UserError: there is no such kind.
    """
    try:
        found = tables.find(name).items()
        return "\n\n".join(_described(f"{group} {name}", one) for group, one in found)
    except ValueError as error:
        raise UserError(f"kind = {name}: {error}") from error


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


def _aligned(body: Iterable[Iterable[str]]) -> str:
    """Columns for a terminal."""
    lines = [list(cells) for cells in body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = [zip(cells, widths, strict=True) for cells in lines]
    return "\n".join("  ".join(c.ljust(w) for c, w in cells).rstrip() for cells in padded)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
