"""The outputs of a stage: all of them are replaced together, or none is.

A stage writes beside its former results, into folders called `.<stage>.new`, and only when all is
written are the former results replaced. What holds:

- Whatever stops a stage before that (an exception, a full disk, Ctrl-C, SIGTERM, SIGKILL) leaves
  the former results as they were, bit for bit.
- To replace is to rename files that are whole and on disk, once a journal of the renames is there,
  too. A stage killed between two renames has some new and some former results until its next
  start, which first does the remaining renames.
- What the stage did not write this time is removed, so no result of other settings stays behind.
- A stage that ends otherwise than by SIGKILL leaves nothing beside its results; what SIGKILL leaves
  is removed at the next start of that stage.
- A stage has its outputs for itself: a second run of it ends at once with one line.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from spurious.errors import UserError
from spurious.files import read_json, write_json

Moves = list[tuple[str | None, str]]


@dataclass(frozen=True)
class Outputs:
    """Where a stage writes until its results replace the former ones; may go to other processes.

    Attributes:
        stage: tells it from all that write into the same folders.
        paths: the results, files and whole folders.
    """

    stage: str
    paths: tuple[Path, ...]

    def new(self, path: Path) -> Path:
        """Where to write what will be `path`; its own name is the same there.

        Raises:
            ValueError: it is none of the results and lies in none of their folders.
        """
        for result in self.paths:
            if path == result or result in path.parents:
                return self._beside(result) / path.relative_to(result.parent)
        raise ValueError(f"{path} is no output of {self.stage}")

    @property
    def scratch(self) -> Path:
        """A folder that goes away with the stage."""
        return self._beside(self.paths[0])

    @property
    def _journal(self) -> Path:
        return self.scratch / ".journal.json"

    def _beside(self, result: Path) -> Path:
        return result.parent / f".{self.stage}.new"

    def _begin(self) -> None:
        """Finish what a killed run of the stage was replacing, or drop what it had written."""
        if self._journal.exists():
            self._replace()
        for folder in self._folders():
            for left in folder.iterdir():
                if left.name != LOCK:
                    _remove(left)

    def _commit(self) -> None:
        moves: Moves = []
        for result in self.paths:
            new = self.new(result)
            _check_kind(new, result)
            moves.append((str(new) if new.exists() else None, str(result)))
        write_json(self._journal, moves)
        try:
            self._replace()
        except (KeyboardInterrupt, SystemExit):  # a moment too late
            self._replace()
            raise

    def _replace(self) -> None:
        """Rename all that the journal names; done twice, it is as done once."""
        if not self._journal.exists():
            return
        for new, result in read_json(self._journal):
            if new is None:
                _remove(Path(result))
            elif os.path.lexists(new):
                if Path(new).is_dir():  # a folder cannot be renamed over one that has files
                    _remove(Path(result))
                os.replace(new, result)
        self._journal.unlink()

    def _end(self) -> None:
        if not self._journal.exists():  # else the next start has to finish
            for folder in reversed(self._folders()):
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        """The folders beside the results; the first has lock and journal."""
        return list(dict.fromkeys(self._beside(result) for result in self.paths))


LOCK = ".lock"


@contextmanager
def replaced_together(stage: str, paths: Iterable[Path]) -> Iterator[Outputs]:
    """The outputs of a stage, which replace the former ones if the block succeeds.

    Args:
        stage: its name, with what tells it from others that write into the same folders.
        paths: all its results, files and whole folders; those not written are removed.

    Raises:
        UserError: another run of the stage is at work; there is a folder in place of a file, or a
            file in place of a folder.
    """
    outputs = Outputs(stage, tuple(paths))
    folders = outputs._folders()
    missing = {above for folder in folders for above in folder.parents if not above.exists()}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(outputs.scratch / LOCK, stage):
        try:
            outputs._begin()
            yield outputs
            outputs._commit()
        finally:
            outputs._end()
            for folder in sorted(missing, reverse=True):  # the inner ones first
                with suppress(OSError):  # not empty: the results are there
                    folder.rmdir()


@contextmanager
def _alone(lock: Path, stage: str) -> Iterator[None]:
    """Hold a stage for this process; the system frees it however the process ends."""
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = not os.path.exists(lock) or not os.path.samestat(
                os.fstat(file.fileno()), os.stat(lock)
            )  # another run ended at this moment, and removed what was locked
        except BlockingIOError:
            taken = True
        if taken:
            raise UserError(f"{stage} is at work in another process: wait until it ends")
        yield


def _check_kind(new: Path, result: Path) -> None:
    """Refuse to replace a folder by a file, or a file by a folder."""
    if new.exists() and os.path.lexists(result) and new.is_dir() != result.is_dir():
        kinds = ("file", "folder") if new.is_dir() else ("folder", "file")
        raise UserError(f"{result} is a {kinds[0]} where a {kinds[1]} belongs: move it away")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
