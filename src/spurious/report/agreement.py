"""How many numbers of one result lie within the intervals of another.

Two results repeat the same experiment: with other seeds, on another machine, by another team. If
95 % intervals are right, somewhat less than 95 % of the numbers of one lie in those of the other,
because both scatter: see `spurious.bootstrap`.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from spurious.errors import UserError, shown

KEY = "perturbation"
HEADLINE = "kl_perturbed_clean"
Table = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Outside:
    """A number that lies outside the other result's interval.

    Attributes:
        row: name of the perturbation.
        column: name of the number.
        value: of this result.
        low: lower end of the other's interval.
        high: its upper end.
    """

    row: str
    column: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Column by column, how many rows were compared, and which numbers lie outside.

    Attributes:
        compared: column -> number of rows that have it in both.
        outside: in the order of the table.
    """

    compared: dict[str, int]
    outside: tuple[Outside, ...]

    def inside(self, column: str) -> int:
        """How many rows lie within the other's interval."""
        return self.compared[column] - sum(one.column == column for one in self.outside)

    def lines(self, file: Path) -> list[str]:
        """For a terminal: a count for each column, and the rows of the KL that lie outside."""
        total, out = sum(self.compared.values()), len(self.outside)
        lines = [f"{total - out} of {total} numbers lie in the intervals of {file}:"]
        width = max(map(len, self.compared))
        lines += [f"  {c:{width}s} {self.inside(c):4d} of {n}" for c, n in self.compared.items()]
        lines += [
            f"outside: {one.column} of {one.row} is {one.value:.4g}, there "
            f"[{one.low:.4g}, {one.high:.4g}]"
            for one in self.outside
            if one.column == HEADLINE
        ]
        return lines


def read_table(path: Path) -> dict[str, dict[str, float]]:
    """A table of damage, `attacks.csv`: row -> column -> number.

    Raises:
        UserError: the file is missing, or is not such a table.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        rows = {line.pop(KEY): _numbers(line, path) for line in lines}
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: name an attacks.csv") from error
    except OSError as error:  # such as a folder
        raise UserError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table of damage such as attacks.csv") from error
    if not any(f"{HEADLINE}.low" in row for row in rows.values()):
        raise UserError(f"{path} has no column {HEADLINE}.low: name an attacks.csv")
    return rows


def _numbers(line: Mapping[str | None, str | list[str] | None], path: Path) -> dict[str, float]:
    """The numbers of a row, without empty cells."""
    numbers = {}
    for column, value in line.items():
        if value in ("", None):
            continue
        try:
            if column is None or not math.isfinite(number := float(cast(str, value))):
                raise ValueError
        except ValueError:
            cell = "a row that is too long" if column is None else f"{column} = {shown(value)}"
            raise UserError(
                f"{path} is no table of damage such as attacks.csv: {cell} must be a finite number"
            ) from None
        numbers[column] = number
    return numbers


def agreement(one: Table, other: Table) -> Agreement:
    """Compare each number of `one` with the interval that `other` has for it.

    Rows and columns that only one of them has are left out.

    Raises:
        UserError: they have no row in common.
    """
    compared: dict[str, int] = {}
    outside = []
    for name in [name for name in one if name in other]:
        for column, value in one[name].items():
            low, high = (other[name].get(f"{column}.{end}") for end in ("low", "high"))
            if low is None or high is None:
                continue
            compared[column] = compared.get(column, 0) + 1
            if not low <= value <= high:
                outside.append(Outside(name, column, value, low, high))
    if not compared:
        raise UserError("the two tables have no row in common")
    return Agreement(compared, tuple(outside))
