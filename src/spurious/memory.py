"""Keep the memory that TensorFlow frees, for its next tensor.

The C library returns a freed block of some megabytes to the system at once, and a training step
frees what the next one asks for again: each page is then mapped and cleared anew. That can take
half of the processor's time, above all on virtual machines; `benchmarks/memory.py` measures it.
Results do not depend on it.
"""

from __future__ import annotations

import ctypes
import os

# Name in glibc's malloc.h and in the environment -> number and value, see mallopt(3). Blocks come
# from one heap that never shrinks; threads' own heaps, and mappings, are given back when empty.
OPTIONS = {
    "MALLOC_ARENA_MAX": (-8, 1),
    "MALLOC_MMAP_MAX_": (-4, 0),
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
}


def keep_freed() -> None:
    """Let this process, and those that it starts, keep what they free; does so with glibc alone.

    Call it before there are threads. What the environment sets already stays as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return
    for name, (number, value) in OPTIONS.items():
        if name not in os.environ:
            os.environ[name] = str(value)
            mallopt(number, value)
