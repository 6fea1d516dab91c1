"""The exceptions that end a stage with one line instead of a traceback, and how it shows values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SHOWN = 60  # characters of a value that a message repeats


class UserError(Exception):
    """Something the user can mend; the command line prints it as one line, without a traceback.

    A message may repeat what is in a file: what would end the line, or steer a terminal, is written
    as Python writes it in a string.
    """

    def __init__(self, message: object) -> None:
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(message)))


class CheckFailed(Exception):
    """The project's own check failed: what comes after it must not be believed."""


def shown(value: Any) -> str:
    """A value as a message repeats it: on one line, and only its beginning if it is long."""
    return cut(repr(value), SHOWN)


def cut(text: str, longest: int) -> str:
    """The beginning of a text, marked as such if it is longer."""
    return text if len(text) <= longest else f"{text[:longest]}..."


def one_of(given: Any, allowed: Iterable[str], where: str = "") -> str:
    """`must be one of a, b, c`, and the one that was perhaps meant.

    Args:
        given: the name that is refused.
        allowed: the names that exist.
        where: what they are the names of.

    >>> one_of("bmi", ["fgsm", "bim"])
    "must be one of fgsm, bim; did you mean 'bim'?"
    """
    allowed = list(allowed)
    of = f"{where}: " if where else ""
    return f"must be one of {of}{', '.join(allowed)}{nearest(given, allowed)}"


def nearest(given: Any, allowed: Iterable[str]) -> str:
    """`; did you mean 'b'?` if a name that exists resembles the one given, else nothing."""
    from difflib import get_close_matches  # not needed where nothing is wrong

    close = get_close_matches(cut(str(given), SHOWN), list(allowed), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
