"""Stage `verify`: the engine against FlowPM's own maps; beyond the tolerance the pipeline stops."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from spurious import tracking
from spurious.config import Config
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.errors import CheckFailed
from spurious.files import replacing, write_json
from spurious.pipeline.layout import VERIFY_METRICS, VERIFY_TABLE, reference_maps
from spurious.pipeline.outputs import replaced_together
from spurious.simulation.verify import verify

OUTPUTS = (VERIFY_TABLE, VERIFY_METRICS)


def run(config: Config) -> None:
    """Remake the reference maps; write the difference of each, and the largest as a metric.

    Raises:
        CheckFailed: a map differs by more than `verify.tolerance`.
    """
    path = reference_maps()
    reference, tolerance = read_maps(path), config.verify.tolerance
    with (
        tracking.start("verify", config.scale, inputs=[path]) as log,
        replaced_together("verify", OUTPUTS) as out,
    ):
        log.params({"engine": config.simulation.engine, "tolerance": tolerance})
        log.dataset(reference, path, context="reference")
        differences = verify(reference, config.simulation.engine)
        worst = float(differences.max())
        metrics = {
            "n_maps": len(reference),
            "max_difference": worst,
            "mean_difference": float(differences.mean()),
            "tolerance": tolerance,
        }
        log.metrics(metrics)
        if not worst <= tolerance:  # also true of NaN
            omega_m, sigma_8 = reference.labels[int(np.argmax(differences))]
            raise CheckFailed(
                f"engine {config.simulation.engine} differs from FlowPM by {worst:.2e} of the RMS "
                f"fluctuation at omega_m = {omega_m}, sigma_8 = {sigma_8}: "
                f"verify.tolerance allows {tolerance:.2e}"
            )
        write_table(out.new(VERIFY_TABLE), reference, differences)
        write_json(out.new(VERIFY_METRICS), {"run_id": log.id, **metrics})
    print(f"largest RMS difference from FlowPM over RMS fluctuation: {worst:.2e}")


def write_table(path: Path, reference: MapSet, differences: np.ndarray) -> None:
    """One row a reference map."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["omega_m", "sigma_8", "seed", "difference"])
        rows = zip(reference.labels.tolist(), reference.seeds, differences, strict=True)
        writer.writerows([*labels, seed, f"{value:.3e}"] for labels, seed, value in rows)
