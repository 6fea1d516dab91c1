"""Stage `simulate`: the suite of particle-mesh simulations, as one file of projected maps.

Beside it a manifest with the MD5 of each map, by which `--only` remakes any one of them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from spurious import config as sections
from spurious import figures, tracking
from spurious.config import Config
from spurious.data.hdf5 import read_maps
from spurious.files import replacing
from spurious.pipeline.layout import VERIFY_TABLE, Layout
from spurious.pipeline.outputs import replaced_together
from spurious.simulation import manifest, suite
from spurious.simulation import preview as previews
from spurious.simulation.design import nodes
from spurious.simulation.only import remake
from spurious.simulation.workers import Place, expected_count


def run(config: Config, workers: int | None = None) -> None:
    """Simulate, write `data/<scale>/maps.h5` and its manifest, and drop the shards.

    `workers` local processes do the work; if None, those that `execution.workers` names.
    """
    layout = Layout(config.scale)
    settings = config.simulation
    inputs = [path for path in (VERIFY_TABLE,) if path.is_file()]
    cosmologies = _nodes(config)
    with (
        tracking.start("simulate", config.scale, inputs=inputs) as log,
        replaced_together("simulate", outputs(layout)) as out,
    ):
        new = out.new(layout.maps)
        log.params(settings.model_dump() | {"seed": config.seed})
        summary = suite.run(
            settings,
            config.background,
            cosmologies,
            root_seed=config.seed,
            shard_dir=layout.shards,
            path=new,
            place=_place(config, workers),
        )
        data = read_maps(new)
        made = suite.provenance(settings, config.background, config.seed)
        manifest.write(out.new(layout.manifest), data, made)
        log.metrics(
            {
                "n_maps": len(data),
                "seconds": summary.seconds,
                "maps_per_second": summary.rate,
                "shards_kept": summary.kept,
                "shards_made_again": summary.remade,
                "mean_count": float(data.maps.mean(dtype=np.float64)),
                "std_count": float(data.maps.std()),
                "max_count": float(data.maps.max()),
            }
        )
        log.dataset(data, layout.maps, context="output", stored=new)
    shutil.rmtree(layout.shards, ignore_errors=True)
    print(f"{layout.maps}: {summary}")


def outputs(layout: Layout) -> list[Path]:
    """What the stage writes."""
    return [layout.maps, layout.manifest]


def only(config: Config, index: int) -> None:
    """Simulate number `index` again, compare it with the manifest, and write nothing."""
    stored = manifest.read(Layout(config.scale).manifest)
    asked = _suite(config)
    remade = remake(asked, stored, index)
    cosmology = asked.task(index).cosmology
    print(
        f"{stored.path}, simulation {index} (omega_m = {cosmology.omega_m:g}, sigma_8 = "
        f"{cosmology.sigma_8:g}): {'; '.join(map(str, remade))}"
    )


def preview(config: Config, count: int, workers: int | None = None) -> None:
    """Show up to `count` maps of the suite in `results/<scale>/preview.png`, and nothing else."""
    layout = Layout(config.scale)
    settings = config.simulation
    asked = _suite(config)
    one = previews.preview(asked, count)
    figure = figures.preview(one.maps, one.labels, settings.box_size.value)
    FigureCanvasAgg(figure)
    path = layout.result("preview.png")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
    crew = expected_count(_place(config, workers)) or 1
    seconds = one.estimate(asked.nodes, settings.simulations, crew)
    print(
        f"{path}: {len(one.maps)} maps; all {settings.simulations} simulations would take about "
        f"{_duration(seconds)} with {crew} worker{'s' if crew > 1 else ''}"
    )


def _suite(config: Config) -> suite.Suite:
    shards = Layout(config.scale).shards
    return suite.Suite(config.simulation, config.background, _nodes(config), config.seed, shards)


def _nodes(config: Config) -> np.ndarray:
    return nodes(config.design, config.simulation.simulations, config.seed, config.background)


def _place(config: Config, workers: int | None) -> Place:
    if workers is None:
        return config.execution.workers
    return sections.Local(kind="local", workers=workers)


def _duration(seconds: float) -> str:
    """Such as '40 s', '15 min' or '3.2 h'."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
