"""Explain the paper's 1.05, 0.98 and 0.67 nat: which reading of its formulas comes nearest.

    python scripts/explain.py --scale paper

after `dvc repro` has trained the target of that scale. It trains the other networks (those that
are there are used), makes the paper's attack and systematic in every unit, and writes
results/<scale>/explained.json, of which `scripts/reference.py` makes the tables of
docs/explained.md. A killed run goes on after the last finished network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from explained import networks
from explained.readings import Unit, units
from explained.table import BETAS, Trainings, rows
from spurious.commands.explained import explained as errors_in_one_line
from spurious.commands.options import PARAMS
from spurious.config import Config
from spurious.data.splits import evenly_spaced
from spurious.files import write_json
from spurious.params import load
from spurious.pipeline.inputs import test_set, training_set
from spurious.pipeline.kept_rows import KeptRows
from spurious.pipeline.layout import Layout


def explain(config: Config, count: int, trainings: int, names: Sequence[str]) -> dict[str, Any]:
    """The rows of the target and of the networks of these names, on `count` of the test maps."""
    layout = Layout(config.scale)
    test = test_set(config)
    test = test.take(evenly_spaced(len(test), min(count, len(test))))
    readable = units(training_set(config).maps)
    kept = KeptRows(layout.checkpoints("explained"))
    found: list[dict[str, Any]] = []
    for name, posteriors in networks.trained(config, trainings, names).items():
        of = repr([one.identity for one in posteriors]) + f" {count}"
        made = partial(_rows, name, Trainings(posteriors, test, config.seed), readable)
        found += kept.get(networks.slug(name), of, made)["rows"]
    write_json(layout.result("explained.json"), {"rows": found})
    kept.clear()
    return {"rows": found}


def _rows(name: str, trainings: Trainings, readable: Mapping[str, Unit]) -> dict[str, Any]:
    return {"rows": rows(name, trainings, readable)}


@click.command()
@PARAMS
@click.option("--scale", default="paper", show_default=True, help="Whose maps and target.")
@click.option("--maps", "count", type=click.IntRange(min=128), default=512, show_default=True)
@click.option(
    "--trainings", type=click.IntRange(min=2), default=networks.TRAININGS, show_default=True
)
@click.option(
    "--network",
    "names",
    multiple=True,
    type=click.Choice(list(networks.CHANGES)),
    default=list(networks.CHANGES),
    help="Beside the target; may be given several times.  [default: all]",
)
def main(params: Path, scale: str, count: int, trainings: int, names: tuple[str, ...]) -> None:
    """Compare readings of the paper with its numbers."""
    with errors_in_one_line():
        found = explain(load(params, scale), count, trainings, names)
    row, beta = min(
        ((row, beta) for row in found["rows"] for beta in BETAS),
        key=lambda one: one[0][one[1]]["distance"],
    )
    factor = math.exp(row[beta]["distance"])
    print(
        f"nearest, within a factor of {factor:.2f}: {row['network']}, attack {row['attack']} "
        f"({row['clip']}), systematic in {row['systematic']}, beta {beta}"
    )


if __name__ == "__main__":
    main()
