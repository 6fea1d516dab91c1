"""Remake docs/figures: run the examples of every page there and keep the pictures they save.

A block of Python after the comment `<!-- not run -->` is left out.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from pathlib import Path

import matplotlib

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- not run -->\s*)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PICTURES = {"simulation.md": ["simulate.png"]}


def blocks(page: Path) -> list[str]:
    """Python examples of a Markdown page that are meant to be run, in order."""
    return [code for skipped, code in BLOCK.findall(page.read_text()) if not skipped]


def run(page: Path) -> None:
    """Run a page's examples in the current folder, one after the other, as a reader would."""
    names: dict[str, object] = {}
    for number, code in enumerate(blocks(page), start=1):
        exec(compile(code, f"{page.name}, example {number}", "exec"), names)


def main() -> None:
    """Remake every picture."""
    matplotlib.use("Agg")
    for name, pictures in PICTURES.items():
        with tempfile.TemporaryDirectory() as folder:
            with contextlib.chdir(folder):
                run(ROOT / "docs" / name)
            for picture in pictures:
                shutil.copy(Path(folder) / picture, ROOT / "docs" / "figures" / picture)
                print(f"wrote docs/figures/{picture}")


if __name__ == "__main__":
    main()
