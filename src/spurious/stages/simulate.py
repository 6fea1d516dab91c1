"""Stage `simulate`: the suite of particle-mesh simulations, as one file of projected maps."""

from __future__ import annotations

import shutil
import time

from spurious import tracking
from spurious.config import Config
from spurious.cosmology import nodes
from spurious.maps import write_maps
from spurious.simulation import suite
from spurious.stages.layout import VERIFY_TABLE, Layout


def run(config: Config, workers: int) -> None:
    """Simulate, write `data/<scale>/maps.h5`, and drop the shards it was made of."""
    layout = Layout(config.scale)
    settings = config.simulation
    inputs = [path for path in (VERIFY_TABLE,) if path.is_file()]
    with tracking.start("simulate", config.scale, inputs=inputs) as log:
        log.params(settings.model_dump() | {"seed": config.seed})
        began = time.perf_counter()
        data = suite.run(
            settings,
            config.background,
            nodes(config.grid),
            root_seed=config.seed,
            shard_dir=layout.shards,
            workers=workers,
        )
        write_maps(layout.maps, data)
        shutil.rmtree(layout.shards, ignore_errors=True)
        seconds = time.perf_counter() - began
        log.metrics(
            {
                "n_maps": len(data),
                "seconds": seconds,
                "mean_count": float(data.maps.mean()),
                "std_count": float(data.maps.std()),
                "max_count": float(data.maps.max()),
            }
        )
        log.dataset(data, layout.maps, context="output")
    print(f"{layout.maps}: {len(data)} maps in {seconds:.0f} s")
