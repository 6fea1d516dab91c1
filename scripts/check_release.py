"""Make the table of damage again from a released set, and say which number differs.

    python scripts/check_release.py --scale paper

`make check-paper` fetches the set first. Status 1: a number differs by more than is allowed; 2: the
folder is no whole, undamaged set of this version and scale. Nothing is written.
"""

from __future__ import annotations

from pathlib import Path

import click

from released import contents, table
from spurious.commands.explained import explained
from spurious.errors import CheckFailed

SHOWN = 10  # numbers that differ, before the others are only counted


def check(folder: Path, scale: str) -> None:
    """Check a set and print its table.

    Raises:
        UserError: it is no whole set.
        CheckFailed: a number differs.
    """
    released = contents.open_set(folder, scale)
    there, here = released.about["versions"], contents.versions()
    for package in (package for package in here if here[package] != there.get(package)):
        print(f"note: made with {package} {there.get(package)}, this is {here[package]}")
    found, expected = table.compute(released), released.about["rows"]
    print("\n".join(table.lines(released.about, found)))
    every = table.differences(released.config, expected, found)
    wrong = [one for one in every if one.too_far]
    for one in wrong[:SHOWN]:
        print(f"differs: {one}")
    if wrong:
        raise CheckFailed(f"{len(wrong)} of {len(every)} numbers differ from those of {folder}")
    print(f"{folder}: all {len(every)} numbers of {len(expected)} rows are reproduced")
    print(f"furthest off for what is allowed: {every[0]}")


@click.command()
@click.option("--scale", default="paper", show_default=True, help="Of the set.")
@click.option(
    "--set", "folder", type=click.Path(path_type=Path), help="[default: data/released/SCALE]"
)
def main(scale: str, folder: Path | None) -> None:
    """Make the table of damage of a released set again."""
    with explained():
        check(folder or Path("data/released") / scale, scale)


if __name__ == "__main__":
    main()
