"""The machine on which a report is made."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

import psutil


def machine() -> dict[str, str]:
    """Processor, cores, memory and system, by name."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """Its name where Linux knows it, else the architecture."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
