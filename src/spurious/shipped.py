"""Files that come with the package: parameters and FlowPM's reference maps.

They lie at the top of the repository, where DVC keeps them. A wheel has copies of them beside this
module (`setup.py`), so that all commands work outside the repository too.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
REPOSITORY = Path(__file__).parents[2]


def params() -> Path:
    """The params.yaml that ships, with comments."""
    return _packed("params.yaml", REPOSITORY / "params.yaml")


def reference() -> Path:
    """The maps that FlowPM itself made; in a repository, those that DVC fetched there."""
    return _packed("flowpm.h5", REPOSITORY / "data" / "reference" / "flowpm.h5")


def _packed(name: str, otherwise: Path) -> Path:
    copy = PACKAGE / name
    return copy if copy.is_file() else otherwise
