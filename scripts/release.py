"""Make the released set of a scale from a finished run of it.

    python scripts/release.py --scale paper

writes data/released/paper: networks, some of the test maps, the worst systematics, the MD5 of every
map of the run, and the table of damage that `make check-paper` makes again. Then, to put it into
the remote that ships with the repository, add the folder to `outs` of data.dvc and

    dvc commit data.dvc && dvc push --remote bundled data.dvc
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from released import contents, table
from released.contents import LARGEST, MANIFEST, MAPS, PARAMS, RELEASE, SYSTEMATICS
from spurious.commands.explained import explained
from spurious.commands.options import PARAMS as PARAMS_OPTION
from spurious.config import Config
from spurious.data.hdf5 import write_maps
from spurious.data.splits import evenly_spaced
from spurious.errors import UserError
from spurious.files import md5, write_json
from spurious.params import load
from spurious.pipeline import identity
from spurious.pipeline.inputs import networks, test_set
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import replaced_together
from spurious.pipeline.schemas import Result, read
from spurious.report.agreement import read_table
from spurious.simulation import manifest

COUNT = 64  # test maps


class Winner(Result):
    """Of a family of `search.json`: its worst systematic, if any was found."""

    parameters: dict[str, float] | None = None


class Winners(Result):
    """What is needed of `search.json`."""

    families: dict[str, Winner]


def make(config: Config, source: Path, out: Path, count: int = COUNT) -> None:
    """Write a released set, whole or not at all, in place of a former one.

    Args:
        config: of the run, which must be finished.
        source: the params.yaml that it was read from.
        out: folder of the set.
        count: test maps in it.

    Raises:
        UserError: the run is not finished or not of this params.yaml, or the set is too large.
    """
    with replaced_together("release", [out]) as outputs:
        new = outputs.new(out)
        run = _collect(config, source, new, count)
        files = {name: md5(path) for name, path in contents.contents(new).items()}
        about: dict[str, Any] = {
            "schema": contents.SCHEMA,
            "scale": config.scale,
            "versions": contents.versions(),
            "files": files,
            "run": run,
        }
        about["rows"] = table.compute(contents.assembled(new, about, config.scale))
        write_json(new / RELEASE, about)
        size = sum(path.stat().st_size for path in new.rglob("*") if path.is_file())
        if size > LARGEST:
            raise UserError(
                f"the set would have {size / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f}: fewer --maps"
            )
    print("\n".join(table.lines(about, about["rows"])))
    print(f"{out}: {len(files) + 1} files, {size / 1e6:.1f} MB")


def _collect(config: Config, source: Path, new: Path, count: int) -> dict[str, dict[str, float]]:
    """Copy what the run made; return its own KL of each row, with intervals."""
    layout = Layout(config.scale)
    test = test_set(config)
    if count > len(test):
        raise UserError(f"--maps {count}: must be at most the {len(test)} test maps")
    found = read(layout.result("search.json"), Winners)["families"]
    rows = read_table(layout.result("attacks.csv"))
    manifest.read(layout.manifest)
    write_maps(new / MAPS, test.take(evenly_spaced(len(test), count)))
    shutil.copyfile(source, new / PARAMS)
    shutil.copyfile(layout.manifest, new / MANIFEST)
    winners = {name: one["parameters"] for name, one in found.items() if one.get("parameters")}
    write_json(new / SYSTEMATICS, winners)
    for name in config.run.posteriors:
        for one in networks(config, name):
            target = new / contents.model_file(*one)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(identity.check(config, *one), target)
    ends = {"mean": "", "low": ".low", "high": ".high"}
    return {
        name: {end: row[f"kl_perturbed_clean{suffix}"] for end, suffix in ends.items()}
        for name, row in rows.items()
    }


@click.command()
@PARAMS_OPTION
@click.option("--scale", default="paper", show_default=True, help="Which of its profiles.")
@click.option("--maps", "count", type=click.IntRange(min=1), default=COUNT, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="[default: data/released/SCALE]")
def main(params: Path, scale: str, count: int, out: Path | None) -> None:
    """Make the released set of a scale."""
    with explained():
        config = load(params, scale)
        make(config, params, out or Path("data/released") / scale, count)


if __name__ == "__main__":
    main()
