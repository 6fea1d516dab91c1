"""The published numbers: tables of all results, put into docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.result import Claim, table

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def write(page: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace what stands between the page's markers."""
    old = page.read_text()
    new, count = re.subn(
        f"{BEGIN}.*{END}",
        lambda _: f"{BEGIN}\n\n{text(results)}\n\n{END}",
        old,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{page} must hold {BEGIN} and {END} once")
    page.write_text(new)


def text(results: Mapping[str, Mapping[str, Any]]) -> str:
    """All claims in one table, then each benchmark's own table and notes, as Markdown."""
    claims = [
        {**claim_of(claim).row(), "benchmark": f"`{name}`"}
        for name, result in results.items()
        for claim in result["claims"]
    ]
    parts = [table(claims), *_machines(results)]
    for name, result in results.items():
        rows = [{k: v for k, v in row.items() if k != "n"} for row in result["rows"]]
        parts += [f"### {result['title']} (`{name}`)", table(rows), "\n".join(result["notes"])]
    return "\n\n".join(part for part in parts if part)


def claim_of(values: Mapping[str, Any]) -> Claim:
    """A claim from its JSON."""
    return Claim(**{key: value for key, value in values.items() if key != "met"})


def _machines(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One sentence for each machine; the benchmarks need not have run on the same."""
    names: dict[str, list[str]] = {}
    for name, result in results.items():
        m = result["machine"]
        versions = ", ".join(f"{package} {v}" for package, v in m["versions"].items())
        where = (
            f"{m['processor']}, {m['cores']} cores, {m['memory_gb']:g} GB, {m['system']}, "
            f"Python {m['python']}, {versions}; load {m['load_before']:g} at the start"
        )
        names.setdefault(where, []).append(f"`{name}`")
    if len(names) == 1:
        return [f"Measured on: {where}." for where in names]
    return [f"{', '.join(which)} measured on: {where}." for where, which in names.items()]
