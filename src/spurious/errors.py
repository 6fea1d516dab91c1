"""The exceptions that end a stage with one line instead of a traceback, and how it shows values."""

from __future__ import annotations

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
