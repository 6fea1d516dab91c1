"""How many numbers of this run lie within the intervals that another commit's results state.

After `make repro` on another machine, or with other trainings:

    python scripts/reproduced.py                          # against the results of HEAD
    python scripts/reproduced.py --scale paper --commit v0.2.0

compares the means in results/<scale>/*.csv with the 95 % intervals of that commit, and the verdicts
of the detectors, and prints what lies outside.
"""

from __future__ import annotations

import argparse
import csv
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KEYS = {
    "attacks": ("perturbation",),
    "posteriors": ("posterior",),
    "detection": ("perturbation", "detector"),
    "defences": ("defence",),
}
"""Table -> the columns that name a row of it."""
ROUNDING = 1e-12

Row = dict[str, str]
Table = dict[tuple[str, ...], Row]


class Number(NamedTuple):
    """A mean of the other run with its interval, and the mean of this one."""

    row: str
    column: str
    mean: float
    low: float
    high: float
    here: float

    @property
    def is_within(self) -> bool:
        """Whether this run's mean lies in the other's interval."""
        return self.low - ROUNDING <= self.here <= self.high + ROUNDING

    def __str__(self) -> str:
        interval = f"{self.mean:.4g} [{self.low:.4g}, {self.high:.4g}]"
        return f"  {self.row}, {self.column}: {interval}, here {self.here:.4g}"


def numbers(there: Table, here: Table) -> Iterator[Number]:
    """Every mean with an interval that both tables have."""
    for key in there.keys() & here.keys():
        old, new = there[key], here[key]
        for column in old:
            ends = f"{column}.low", f"{column}.high"
            if all(old.get(name) for name in (column, *ends)) and new.get(column):
                mean, low, high = (float(old[name]) for name in (column, *ends))
                yield Number(" ".join(key), column, mean, low, high, float(new[column]))


def changed(there: Table, here: Table) -> list[str]:
    """The rows whose verdict is another one, in words."""
    return [
        f"  {' '.join(key)}: {there[key]['verdict']}, here {here[key]['verdict']}"
        for key in sorted(there.keys() & here.keys())
        if there[key].get("verdict") != here[key].get("verdict")
    ]


def table(text: str, keys: tuple[str, ...]) -> Table:
    """The rows of a CSV file by what names them."""
    return {tuple(row[key] for key in keys): row for row in csv.DictReader(io.StringIO(text))}


def main() -> None:
    """Print, for each table, how many numbers agree and which do not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="pilot")
    parser.add_argument("--commit", default="HEAD", help="whose results to compare with")
    given = parser.parse_args()
    for name, keys in KEYS.items():
        path = Path("results", given.scale, f"{name}.csv")
        if not path.is_file():
            sys.exit(f"error: {path} is missing: run the pipeline first, `make repro`")
        shown = ["git", "show", f"{given.commit}:./{path.as_posix()}"]
        found = subprocess.run(shown, capture_output=True, text=True, check=False)
        if found.returncode:
            sys.exit(f"error: --commit = {given.commit!r}: {found.stderr.strip()}")
        there, here = table(found.stdout, keys), table(path.read_text(encoding="utf-8"), keys)
        _say(name, there, here)


def _say(name: str, there: Table, here: Table) -> None:
    compared = sorted(numbers(there, here))
    outside = [number for number in compared if not number.is_within]
    print(f"{name}: {len(compared) - len(outside)} of {len(compared)} means within the intervals")
    print(*outside, sep="\n", end="\n" if outside else "")
    if alone := there.keys() ^ here.keys():
        print(f"  rows that one of both lacks: {', '.join(' '.join(key) for key in sorted(alone))}")
    if any("verdict" in row for row in there.values()):
        others = changed(there, here)
        print(f"{name}: {len(others)} of {len(there.keys() & here.keys())} verdicts changed")
        print(*others, sep="\n", end="\n" if others else "")


if __name__ == "__main__":
    main()
