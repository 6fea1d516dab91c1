"""Remake pictures in docs/figures: run the examples of the pages and keep what they save.

`python scripts/docs_pictures.py [PAGE.md]`, by default for all of `PICTURES`.

A block of Python after the comment `<!-- not run -->` is left out.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- not run -->\s*)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WALK = ("maps", "posteriors", "spectra", "detection")
PICTURES = {
    "simulation.md": ["simulate.png"],
    "walkthrough.md": [f"walkthrough_{name}.png" for name in WALK],
}


def blocks(page: Path) -> list[str]:
    """Python examples of a Markdown page that are meant to be run, in order."""
    return [code for skipped, code in BLOCK.findall(page.read_text()) if not skipped]


def run(page: Path) -> None:
    """Run a page's examples in the current folder, one after the other, as a reader would."""
    names: dict[str, object] = {}
    for number, code in enumerate(blocks(page), start=1):
        exec(compile(code, f"{page.name}, example {number}", "exec"), names)


def main() -> None:
    """Remake the pictures of the pages that are named."""
    matplotlib.use("Agg")
    for name in sys.argv[1:] or PICTURES:
        pictures = PICTURES[name]
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.chdir(folder):
                run(ROOT / "docs" / name)
            for picture in pictures:
                shutil.copy(Path(folder) / picture, ROOT / "docs" / "figures" / picture)
                print(f"wrote docs/figures/{picture}")


if __name__ == "__main__":
    main()
