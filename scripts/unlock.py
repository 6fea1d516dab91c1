"""Mend what a sudden death leaves of DVC's own files; `make repro` does it first.

DVC gives its locks back when its process dies, but it rewrites two files in place, and it takes
any process that has the number of a dead one for that one. So here

- `.dvc/tmp/rwlock` keeps what living processes of DVC hold, and goes if it cannot be read;
- `dvc.lock` loses its last stage if it was cut off within it: that stage runs again.

While another DVC is at work, nothing is done.

    python scripts/unlock.py [FOLDER]
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml
import zc.lockfile
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

RWLOCK = Path(".dvc/tmp/rwlock")


def main(project: Path) -> None:
    """Mend both files of a project and say what was done."""
    path = project / RWLOCK
    with _held(path.with_name("lock")) as repository, _held(path.with_name("rwlock.lock")) as own:
        if not (repository and own):
            return
        if path.exists() and (kept := living(path.read_text())) != path.read_text():
            path.write_text(kept)
            print(f"{path}: freed what dead processes held")
        lock = project / "dvc.lock"
        if lock.exists() and (whole := mended(lock.read_text())) != lock.read_text():
            temporary = lock.with_name(".dvc.lock.part")
            temporary.write_text(whole)
            os.replace(temporary, lock)
            print(f"{lock}: was cut off; the stage at its end runs again")


def living(text: str) -> str:
    """The rwlock without what processes hold that have died."""
    try:
        held = json.loads(text)
        write = {path: one for path, one in held.get("write", {}).items() if _lives(one)}
        read = {path: list(filter(_lives, many)) for path, many in held.get("read", {}).items()}
        kept: dict[str, Any] = {
            "write": write,
            "read": {p: many for p, many in read.items() if many},
        }
        alike = kept["write"] == held.get("write", {}) and kept["read"] == held.get("read", {})
    except (ValueError, AttributeError, TypeError, KeyError):
        return "{}"
    return text if alike else json.dumps(kept)


def mended(text: str) -> str:
    """A dvc.lock without the stages from that on which cannot be read."""
    lines = text.splitlines(keepends=True)
    ends = [i for i, line in enumerate(lines) if line[:2] == "  " and line[2:3] not in " \n-"]
    for end in (len(lines), *reversed(ends)):
        shorter = "".join(lines[:end])
        try:
            COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(shorter))
            return shorter
        except (yaml.YAMLError, Invalid, TypeError, AttributeError):
            continue
    return "schema: '2.0'\n"


def _lives(holder: dict[str, Any]) -> bool:
    """Whether it is a process of DVC; a dead one's number may be another program's by now."""
    try:
        words = psutil.Process(int(holder["pid"])).cmdline()
    except psutil.Error:
        return False
    return any(Path(word).name.startswith("dvc") for word in words)


@contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Hold one of DVC's locks; False if another process does, or there is none to hold."""
    if not lock.parent.is_dir():
        yield False
        return
    try:
        held = zc.lockfile.LockFile(str(lock))
    except zc.lockfile.LockError:
        yield False
        return
    try:
        yield True
    finally:
        held.close()


if __name__ == "__main__":
    main(Path(*sys.argv[1:2]))
