"""Stage `compare`: the attacks side by side, and how far apart their posteriors are."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from spurious import figures, report, tracking
from spurious.config import Config
from spurious.damage import bootstrap_weights, disagreement, mean_interval
from spurious.files import replacing, write_json
from spurious.maps import read_maps
from spurious.stages.attack import scalars
from spurious.stages.inputs import attack_rows, network, test_set
from spurious.stages.layout import Layout
from spurious.stages.output import save_figures


def run(config: Config) -> None:
    """Write `results/<scale>/attacks.csv`, the KL of every pair of attacks, and two figures."""
    layout, names = Layout(config.scale), config.run.attacks
    test, posterior = test_set(config), network(config)
    rows = attack_rows(config)
    attacked = {name: read_maps(layout.attacked(name)) for name in names}
    weights = bootstrap_weights(len(test), config.seed)
    pairs = {
        f"{first}_and_{second}": mean_interval(
            disagreement(attacked[first].maps, attacked[second].maps, posterior), weights
        )
        for first, second in combinations(names, 2)
    }
    inputs = [layout.maps, layout.network, *(layout.attacked(name) for name in names)]
    with tracking.start("compare", config.scale, inputs=inputs) as log:
        log.params({"attacks": ",".join(names)})
        write_table(layout.result("attacks.csv"), rows)
        write_json(layout.result("compare.json"), {"run_id": log.id, "kl_symmetrised": pairs})
        log.metrics({f"kl_symmetrised.{name}": pair["mean"] for name, pair in pairs.items()})
        log.artifact(layout.result("attacks.csv"))
        save_figures(layout, log, drawn(rows))
    print(told(rows))
    for name, pair in pairs.items():
        print(
            f"symmetrised KL of {name}: {pair['mean']:.3g} [{pair['low']:.3g}, {pair['high']:.3g}]"
        )


def drawn(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of this stage."""
    spectrum = next(iter(rows.values()))["spectrum"]
    changes = {
        name: {kind: row["spectrum"][kind]["mean_change"] for kind in ("raw", "contrast")}
        for name, row in rows.items()
    }
    return {
        "spectra": figures.spectrum_changes(
            changes, np.array(spectrum["k"]), np.array(spectrum["cosmic_variance"])
        ),
        "damage": figures.damage_bars(rows, report.PAPER_KL),
    }


def write_table(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line a perturbation: each number `x` and the ends of its interval, `x.low`, `x.high`."""
    lines = [{"perturbation": name, **scalars(row)} for name, row in rows.items()]
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def told(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table for a terminal: means only, largest changes of the mean power in percent."""
    columns = {
        "KL(p||c)": ("kl_perturbed_clean", 1),
        "KL(c||p)": ("kl_clean_perturbed", 1),
        "sym. KL": ("kl_symmetrised", 1),
        "|shift| Om": ("abs_shift_omega_m", 1),
        "|shift| s8": ("abs_shift_sigma_8", 1),
        "RMS": ("rms_counts", 1),
        "dP/P raw %": ("mean_power_change_raw", 100),
        "contrast %": ("mean_power_change_contrast", 100),
    }
    lines = [f"{'':20s}" + "".join(f"{title:>12s}" for title in columns)]
    for name, row in rows.items():
        cells = (f"{unit * row[key]['mean']:12.3g}" for key, unit in columns.values())
        lines.append(f"{name:20s}" + "".join(cells))
    return "\n".join(lines)
