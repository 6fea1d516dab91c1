"""TensorFlow's import without the lines that it writes on every machine.

`TF_CPP_MIN_LOG_LEVEL` does not reach what its libraries write while they are loaded: that oneDNN is
on, that there is no CUDA. Until the import ends, file descriptor 2 is a temporary file; what is not
known as noise is then written out after all. What TensorFlow logs later, such as that XLA compiles,
is left out if it is information; warnings and errors are not.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

LIBRARY = "tensorflow"
LEVEL = "TF_CPP_MIN_LOG_LEVEL"
NOISE = re.compile(
    rb"^(?:WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|I\d{4} \d\d:\d\d:\d+\.\d+ .*"
    rb"|To enable the following instructions: .*)\r?\n?$"
)
"""A line that says nothing: absl's note on itself, and whatever is logged as information."""


def quieten() -> None:
    """Let the first import of TensorFlow in this process be quiet; call it before that."""
    if LIBRARY not in sys.modules and not any(isinstance(one, _Finder) for one in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds TensorFlow once, as the others do, with a loader that is quiet."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != LIBRARY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Does what another loader does, and leaves the module in that one's hands."""

    def __init__(self, other: Loader) -> None:
        self.other = other

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.other.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.other
        if module.__spec__ is not None:
            module.__spec__.loader = self.other
        with quiet(), no_information():
            self.other.exec_module(module)


@contextmanager
def no_information() -> Iterator[None]:
    """Let TensorFlow, which reads it once, log warnings and errors alone, unless a level is set.

    The environment is as before afterwards: other processes decide for themselves.
    """
    if LEVEL in os.environ:
        yield
        return
    os.environ[LEVEL] = "1"
    try:
        yield
    finally:
        os.environ.pop(LEVEL, None)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what is written to standard error, Python's own and that of libraries, if noise."""
    from tempfile import TemporaryFile

    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    try:
        with TemporaryFile() as held:
            sys.stderr.flush()
            os.dup2(held.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(before, 2)
                held.seek(0)
                os.write(2, b"".join(line for line in held if not NOISE.match(line)))
    finally:
        os.close(before)
