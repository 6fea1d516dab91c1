"""What a run was made of: commit, parameters, versions, and the hash of each input."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from spurious.files import md5

# What decides the numbers of a run, beside the code at the commit.
PACKAGES = ("spurious", "tensorflow", "keras", "tensorflow-probability", "numpy", "scipy", "camb")
# What a run is made of, in the folder where it runs: not what it writes, which git may keep too.
SOURCES = (
    "src",
    ":(glob)*.py",
    "params.yaml",
    "designs",
    "dvc.yaml",
    "data.dvc",
    "requirements.txt",
)


def provenance(inputs: Sequence[Path], params_file: Path) -> dict[str, str]:
    """Tags that say what a run was made of: commit, execution, versions, hash of each input.

    `git.dirty` says whether code or parameters (`SOURCES`) differ from the commit, new files too.
    """
    commit = _git("rev-parse", "HEAD") or "none"
    tags = {
        "git.commit": commit,
        "git.dirty": str(bool(_git("status", "--porcelain", "--", *SOURCES))).lower(),
        "pipeline": _pipeline(commit, params_file),
        "version.python": platform.python_version(),
    }
    if "DVC_EXP_NAME" in os.environ:
        tags["dvc.experiment"] = os.environ["DVC_EXP_NAME"]
    versions = {f"version.{name}": metadata.version(name) for name in PACKAGES}
    return tags | versions | {f"dvc.{path}": md5(path) for path in inputs}


def _pipeline(commit: str, params_file: Path) -> str:
    """The same for all stages run at one commit with one params.yaml."""
    digest = hashlib.sha256(commit.encode())
    if params_file.is_file():
        digest.update(params_file.read_bytes())
    return digest.hexdigest()[:12]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
