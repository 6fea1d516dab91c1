"""What a benchmark found: claims with their verdicts, a table, the machine; as text and JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil

from benchmarks.measure import cores

PACKAGES = ("spurious", "tensorflow", "flowpm", "jaxpm", "jax", "numpy", "scipy", "camb")


@dataclass(frozen=True)
class Claim:
    """A number that is wanted, and the number found.

    Attributes:
        text: what is claimed.
        wanted: the bound.
        measured: what was found, in the same unit.
        unit: of both.
        sense: whether `measured` must be at least or at most `wanted`.
    """

    text: str
    wanted: float
    measured: float
    unit: str = "×"
    sense: Literal["at least", "at most"] = "at least"

    @property
    def met(self) -> bool:
        """Whether the bound is kept."""
        if self.sense == "at least":
            return self.measured >= self.wanted
        return self.measured <= self.wanted

    def row(self) -> dict[str, str]:
        """As a row of a table."""
        sign = "≥" if self.sense == "at least" else "≤"
        return {
            "claim": self.text,
            "wanted": f"{sign} {self.wanted:g} {self.unit}".strip(),
            "measured": f"{cell(self.measured)} {self.unit}".strip(),
            "met": "yes" if self.met else "NO",
        }


@dataclass(frozen=True)
class Result:
    """All that one benchmark found.

    Attributes:
        title: what was measured.
        claims: may be empty.
        rows: the table, a dictionary a row; rows may lack columns.
        notes: sentences that a reader of the table needs.
    """

    title: str
    claims: Sequence[Claim]
    rows: Sequence[dict[str, Any]]
    notes: Sequence[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As it is written to a file."""
        return {
            "title": self.title,
            "claims": [asdict(claim) | {"met": claim.met} for claim in self.claims],
            "rows": list(self.rows),
            "notes": list(self.notes),
            "machine": machine(),
        }

    def __str__(self) -> str:
        parts = [self.title, "=" * len(self.title), "", table(self.rows)]
        if self.claims:
            parts += ["", table([claim.row() for claim in self.claims])]
        return "\n".join([*parts, "", *self.notes])


def machine() -> dict[str, Any]:
    """Processor, memory, load and versions."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": round(LOAD, 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table, which also reads well as plain text; numbers to three digits."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    body = [[cell(row.get(column, "")) for column in columns] for row in rows]
    width = [max(map(len, texts)) for texts in zip(columns, *body, strict=True)]
    lines = [columns, ["-" * w for w in width], *body]
    return "\n".join(
        "| " + " | ".join(text.ljust(w) for text, w in zip(line, width, strict=True)) + " |"
        for line in lines
    )


def cell(value: Any) -> str:
    """A table's cell: numbers to three digits, without exponents where that is readable."""
    if not isinstance(value, float):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


LOAD = os.getloadavg()[0]  # before any benchmark ran: 0 on a quiet machine
