"""Stage `compare`: the attacks side by side, and what would notice them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spurious import figures, report, tracking
from spurious.bootstrap import bootstrap_weights, mean_interval
from spurious.config import Config
from spurious.damage import disagreement
from spurious.detection import Detector
from spurious.files import replacing, write_json
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet, read_maps
from spurious.stages.inputs import BATCH, Posteriors, attack_rows, files, test_set, training_set
from spurious.stages.layout import Layout
from spurious.stages.output import save_figures
from spurious.stages.table import drawn, told, write_table

FEWEST = 4  # simulations with which detection says anything


def run(config: Config) -> None:
    """Write the tables of damage and of detection, the KL between attacks, and the figures."""
    layout, groups = Layout(config.scale), config.attacked
    test, posterior = test_set(config), Posteriors(config)(config.run.target)
    rows = attack_rows(config)
    attacked = {name: read_maps(layout.attacked(group, name)) for name, group in groups.items()}
    noticed = detection(test, training_set(config), attacked, config.seed)
    first = [name for name, group in groups.items() if group == config.run.attacks[0]]
    pairs = disagreements(test, {name: attacked[name] for name in first}, posterior, config.seed)
    inputs = [
        layout.maps,
        *files(config, config.run.target),
        *(layout.attacked(group, name) for name, group in groups.items()),
    ]
    with tracking.start("compare", config.scale, inputs=inputs) as log:
        log.params({"attacks": ",".join(groups)})
        write_table(layout.result("attacks.csv"), rows)
        write_detection(layout.result("detection.csv"), noticed)
        write_json(layout.result("detection.json"), noticed)
        write_json(layout.result("compare.json"), {"run_id": log.id, "kl_symmetrised": pairs})
        log.metrics({f"kl_symmetrised.{name}": pair["mean"] for name, pair in pairs.items()})
        for name in ("attacks.csv", "detection.csv"):
            log.artifact(layout.result(name))
        save_figures(
            layout,
            log,
            drawn(rows, report.PAPER_KL, first) | {"detection": figures.detection(noticed)},
        )
    others = (f"{name}.kl_perturbed_clean" for name in report.others(rows))
    columns = ["kl_perturbed_clean", *others, "rms_counts", "mean_power_change_contrast"]
    # Only the runs of single perturbations have the tag `attack`.
    query = 'tags.stage = "attack" and tags.attack LIKE "%"'
    tracking.save_view(config.scale, "attacks", query, columns)
    print(told(rows))
    for name, pair in pairs.items():
        print(
            f"symmetrised KL of {name}: {pair['mean']:.3g} [{pair['low']:.3g}, {pair['high']:.3g}]"
        )


def detection(
    test: MapSet, training: MapSet, attacked: Mapping[str, MapSet], seed: int
) -> dict[str, dict[str, Any]]:
    """How well standard statistics tell the maps of each attack from clean ones.

    Attacks on some of the test maps are compared with these; those on fewer simulations than
    `FEWEST` are left out.
    """
    detectors: dict[bytes, Detector] = {}
    rows = {}
    for name, data in tqdm(attacked.items(), desc="detection", unit="attack", delay=2, leave=False):
        clean = same_maps(test, data)
        if len(clean.simulations) < FEWEST:
            continue
        key = clean.index.tobytes()
        if key not in detectors:
            detectors[key] = Detector(training, clean, seed)
        rows[name] = detectors[key].row(data.maps) | {"n_maps": len(clean)}
    return rows


def same_maps(test: MapSet, data: MapSet) -> MapSet:
    """The clean maps of which `data` are the perturbed ones."""
    rows = {key: row for row, key in enumerate(zip(test.index, test.axis, strict=True))}
    return test.take(np.array([rows[key] for key in zip(data.index, data.axis, strict=True)]))


def disagreements(
    test: MapSet, attacked: Mapping[str, MapSet], posterior: Posterior, seed: int
) -> dict[str, dict[str, float]]:
    """Mean symmetrised KL, with its interval, between the posteriors of each pair of attacks.

    Attacks on some of the test maps only are left out.
    """
    weights = bootstrap_weights(len(test), seed, test.index)
    whole = [name for name, data in attacked.items() if len(data) == len(test)]
    return {
        f"{one}_and_{other}": mean_interval(
            disagreement(attacked[one].maps, attacked[other].maps, posterior, BATCH), weights
        )
        for one, other in combinations(whole, 2)
    }


def write_detection(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line a perturbation and statistic."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["perturbation", "statistic", "auroc_known", "auroc_anomaly", "p_value"])
        for name, row in rows.items():
            for statistic, cell in row.items():
                if isinstance(cell, Mapping):
                    known, odd = (
                        cell[key]["mean"] if key in cell else ""
                        for key in ("auroc_known", "auroc_anomaly")
                    )
                    writer.writerow([name, statistic, known, odd, cell["p_value"]])
