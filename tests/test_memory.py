"""A process that keeps what it frees: fewer pages are mapped, and its children do the same."""

import os
import subprocess
import sys
from contextlib import suppress

import pytest

from spurious.memory import OPTIONS

FAULTS = """
import resource
from spurious.memory import keep_freed
{call}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = bytearray(b"x") * 40_000_000
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
CHILD = """
import os
from spurious.memory import OPTIONS, keep_freed
keep_freed()
print(*(os.environ[name] for name in OPTIONS))
"""


def libc():
    with suppress(AttributeError, OSError, ValueError):
        return os.confstr("CS_GNU_LIBC_VERSION")
    return None


pytestmark = pytest.mark.skipif(not libc(), reason="glibc's options")


def printed(code, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in OPTIONS}
    command = [sys.executable, "-c", code]
    return subprocess.check_output(command, text=True, env={**clean, **environment}).split()


def test_freed_pages_are_used_again():
    (kept,) = printed(FAULTS.format(call="keep_freed()"))
    (returned,) = printed(FAULTS.format(call=""))
    assert int(kept) < 0.2 * int(returned)


def test_children_keep_theirs_too():
    settings = {name: str(value) for name, (_, value) in OPTIONS.items()}
    assert printed(CHILD) == list(settings.values())
    (kept,) = printed(FAULTS.format(call=""), **settings)
    (returned,) = printed(FAULTS.format(call=""))
    assert int(kept) < 0.2 * int(returned)


def test_what_the_user_set_stays():
    assert printed(CHILD, MALLOC_ARENA_MAX="3")[0] == "3"


def test_the_command_keeps_it():
    code = "import atexit, os, sys; sys.argv = ['spurious', '--version']\n" + (
        "from spurious.__main__ import main\n"
        "atexit.register(lambda: print(os.environ['MALLOC_MMAP_MAX_']))\nmain()"
    )
    assert printed(code)[-1] == "0"
