"""What `spurious --version` says."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path


def version() -> str:
    """The version; in a clone also what `git describe` says: the last tag and the commit."""
    number, root = metadata.version("spurious"), Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return number
    command = ["git", "describe", "--tags", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return number
    return f"{number} ({done.stdout.strip()})"
