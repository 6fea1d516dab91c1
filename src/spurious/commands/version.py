"""What `spurious --version` says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import spurious


def version() -> str:
    """The version; in a clone also what `git describe` says: the last tag and the commit."""
    root = Path(spurious.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return spurious.__version__
    command = ["git", "describe", "--tags", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return spurious.__version__
    return f"{spurious.__version__} ({done.stdout.strip()})"
