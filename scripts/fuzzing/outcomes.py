"""One broken input, what was seen when it was read, and whether that is allowed."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST = 1000  # characters of a refusal: more is no line that anybody reads
REFUSED, ACCEPTED, FAILED = "refused", "accepted", "FAILED"


@dataclass(frozen=True)
class Case:
    """One broken input.

    Attributes:
        kind: its row of the table.
        number: of the case within its kind.
        reader: who reads it, a name of `fuzzing.readers`.
        files: what is written before, path -> bytes, below the folder where it is read.
        named: words of which a refusal must have one, such as the file or the key.
        must_refuse: whether no value that is read can be right.
        what: what was broken, for the list of failures.
        command: for the reader `stage`: the arguments of `spurious`.
    """

    kind: str
    number: int
    reader: str
    files: Mapping[str, bytes]
    named: tuple[str, ...]
    must_refuse: bool = True
    what: str = ""
    command: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What `--only` takes."""
        return f"{self.kind}/{self.number}"


@dataclass(frozen=True)
class Seen:
    """What happened when a case was read.

    Attributes:
        refusal: the line of a UserError.
        error: any other exception, or how the process died.
        problem: why the value that was read is none; "" if it is one.
        deeds: files written, processes started, secrets opened.
    """

    refusal: str | None = None
    error: str = ""
    problem: str = ""
    deeds: tuple[str, ...] = ()


class Result(NamedTuple):
    """What became of a case."""

    case: Case
    verdict: str
    why: str


@dataclass
class Table:
    """Counts of every kind, in the order in which they came."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one result."""
        self.rows.setdefault(result.case.kind, Counter())[result.verdict] += 1
        if result.verdict == FAILED:
            self.failures.append(result)

    def __str__(self) -> str:
        rows = {**self.rows, "all": sum(self.rows.values(), Counter[str]())}
        width = max(map(len, rows))
        columns = ("tried", "refused in one line", "accepted, harmless", "FAILED")
        lines = [" " * width + "".join(f"{column:>21s}" for column in columns)]
        for kind, count in rows.items():
            numbers = (count.total(), count[REFUSED], count[ACCEPTED], count[FAILED])
            lines.append(f"{kind:{width}s}" + "".join(f"{number:21d}" for number in numbers))
        return "\n".join(lines)


def judged(case: Case, seen: Seen) -> Result:
    """Whether what was seen is allowed."""
    why = _failure(case, seen)
    if why:
        return Result(case, FAILED, why)
    if seen.refusal is None:
        return Result(case, ACCEPTED, "")
    return Result(case, REFUSED, seen.refusal)


def _failure(case: Case, seen: Seen) -> str:
    """Why it is not; "" if it is."""
    if seen.deeds:
        return f"it did something: {', '.join(seen.deeds)}"
    if seen.error:
        return seen.error
    if seen.refusal is None:
        return seen.problem or ("it was accepted" if case.must_refuse else "")
    if len(seen.refusal) > LONGEST:
        return f"the refusal has {len(seen.refusal)} characters: {seen.refusal[:100]}..."
    if not seen.refusal.isprintable():
        return f"the refusal is no plain line: {seen.refusal[:200]!r}"
    if not any(_has_word(seen.refusal, word) for word in case.named):
        return f"the refusal names none of {', '.join(case.named[:5])}: {seen.refusal}"
    return ""


def _has_word(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def dice(seed: int, *what: str | int) -> random.Random:
    """Draws that depend on the seed and on what they are for, and on nothing else."""
    return random.Random(":".join(map(str, (seed, *what))))


def select_cases(cases: Iterable[Case], only: str | None) -> list[Case]:
    """The cases whose kind or name was asked for; by default all."""
    return [case for case in cases if only is None or only in (case.kind, case.name)]
