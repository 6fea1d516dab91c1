"""How long each stage of a scale took when it last ran to its end, by MLflow.

    python scripts/times.py --scale pilot

writes results/<scale>/times.json, of which `scripts/reference.py` makes a table. A stage that was
killed counts from its last start.
"""

from __future__ import annotations

import os

import click

from spurious import tracking
from spurious.commands.explained import explained
from spurious.errors import UserError
from spurious.files import write_json
from spurious.pipeline.layout import Layout


@click.command()
@click.option("--scale", default="pilot", show_default=True, help="Whose stages.")
def main(scale: str) -> None:
    """Write how long each stage took."""
    with explained():
        runs = tracking.last_runs(scale)
        if not runs:
            raise UserError(
                f"scale = {scale!r}: no finished run in the tracking store of this folder"
            )
        stages = {run["name"]: round(run["seconds"], 1) for run in runs}
        found = {"cores": len(os.sched_getaffinity(0)), "seconds": stages}
        write_json(Layout(scale).result("times.json"), found)


if __name__ == "__main__":
    main()
