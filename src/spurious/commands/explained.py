"""How a command ends: with one line instead of a traceback, and a status that says why."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

# A disk may be full, its quota used up, or the size of a file limited.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A folder may be read-only or of somebody else, or a file be where a folder belongs.
CLOSED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR,
)  # fmt: skip
FAILED, REFUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143
STATUSES = {
    0: "done",
    FAILED: "a check of the project failed, a disk is full or a file cannot be written; or a bug, "
    "with its traceback",
    REFUSED: "something that you can mend: an option, `params.yaml`, a file that is missing, "
    "damaged or does not fit; the line names it, its value and what is allowed",
    INTERRUPTED: "interrupted by Ctrl-C; run the command again to go on",
    TERMINATED: "terminated by SIGTERM; run the command again to go on",
}
"""Exit status of a command -> why it ended; docs/command_line.md has this table."""


@contextmanager
def installed() -> Iterator[None]:
    """Report a library that is missing in one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = error.name or ""
        if not name or name.split(".")[0] == "spurious":
            raise
        _stop(f"{name} is not installed: `spurious doctor` says what is missing", FAILED)


@contextmanager
def understood() -> Iterator[None]:
    """Report a command, an option or a value that click refuses in one line."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:  # which is the help itself
        raise
    except click.UsageError as error:
        from spurious.errors import UserError

        said = " ".join(error.format_message().split()).replace(". Did you", "; did you")
        said = said[:1].lower() + said[1:].rstrip(".")
        asked = error.ctx.command_path if error.ctx else "spurious"
        end = " See" if said.endswith("?") else "; see"
        _stop(str(UserError(f"{said}{end} `{asked} --help`")), REFUSED)


@contextmanager
def explained() -> Iterator[None]:
    """Report a user's mistake or a full disk in one line, without a traceback."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # notes on CPU features and absent GPUs
    from spurious.errors import CheckFailed, UserError

    try:
        with installed():
            from spurious.processes import end_in_order

            end_in_order()
            yield
    except UserError as error:
        _stop(str(error), REFUSED)
    except CheckFailed as error:
        _stop(str(error), FAILED)
    except OSError as error:
        if error.errno not in (*FULL, *CLOSED):
            raise
        reason, what = os.strerror(error.errno).lower(), error.filename or Path.cwd()
        verb = "written" if error.errno in FULL else "used"
        _stop(f"{what} cannot be {verb}: {reason}", FAILED)
    except KeyboardInterrupt:
        _stop("interrupted; run it again to go on", INTERRUPTED)
    except SystemExit as stop:
        if stop.code != TERMINATED:
            raise
        _stop("terminated; run it again to go on", TERMINATED)


def _stop(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)
