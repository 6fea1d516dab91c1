"""Stage `compare`: the attacks side by side, and which detectors notice them."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Container, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from spurious import figures, tracking
from spurious.bootstrap import Hierarchy
from spurious.config import Config, winner
from spurious.damage import disagreement
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.data.splits import places
from spurious.detection import Detector, verdict
from spurious.detection.detector import FEWEST
from spurious.detection.verdicts import detectors
from spurious.errors import UserError
from spurious.files import absent, md5, replacing, write_json
from spurious.perturbations.entry import follows_target
from spurious.pipeline import code, comparable
from spurious.pipeline.experiment import Experiment
from spurious.pipeline.figure_files import figure_files, save_figures
from spurious.pipeline.inputs import (
    attack_rows,
    batch,
    files,
    test_set,
    training_set,
    winner_rows,
)
from spurious.pipeline.kept_rows import KeptRows
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import replaced_together
from spurious.pipeline.schemas import read
from spurious.posteriors.posterior import Posterior
from spurious.processes import side_by_side
from spurious.report import findings
from spurious.report.agreement import agreement, read_table
from spurious.report.damage_table import draw_damage, format_table, write_table
from spurious.report.front_picture import Fronts, draw_fronts, strongest


def run(config: Config) -> None:
    """Write the tables of damage and of detection, the KL between attacks, and the figures."""
    layout, groups = Layout(config.scale), config.attacked
    experiment = Experiment(config)
    test = experiment.test  # first: it says in one line that the maps are missing
    rows, winners = attack_rows(config), winner_rows(config)
    rows |= winners
    fronts = read(layout.result("search.json"), Fronts)
    paths = perturbed_maps(config, winners)
    beside = strongest(config, test, paths, rows, fronts["front"])
    inputs = [
        layout.maps,
        *files(config, config.run.target),
        *(layout.attacked(group, name) for name, group in groups.items()),
    ]
    with (
        tracking.start("compare", config.scale, inputs=inputs) as log,
        replaced_together("compare", outputs(layout)) as out,
    ):
        log.params({"attacks": ",".join(groups)})
        kept = KeptRows(layout.checkpoints("compare"))
        kept.sweep()
        noticed = detection(config, paths, kept)
        first = [name for name, group in groups.items() if group == config.run.attacks[0]]
        pairs = disagreements(
            {name: every_training(config, name) for name in first},
            experiment.targets,
            config.seed,
            test,
        )
        write_table(out.new(layout.result("attacks.csv")), rows)
        write_detection(out.new(layout.result("detection.csv")), noticed)
        write_json(out.new(layout.result("detection.json")), noticed)
        compared = {"run_id": log.id, "pairs": pairs}
        write_json(out.new(layout.result("compare.json")), compared)
        log.metrics(
            {
                f"kl_symmetrised.{pair['first']}.{pair['second']}": pair["kl_symmetrised"]["mean"]
                for pair in pairs
            }
        )
        for name in ("attacks.csv", "detection.csv"):
            log.artifact(out.new(layout.result(name)))
        save_figures(
            out,
            layout,
            log,
            draw_damage(rows, findings.PAPER_KL if test.simulated else {}, first)
            | {"detection": figures.detection(noticed, config.detection)}
            | draw_fronts(fronts, beside),
        )
    kept.clear()
    tracking.show_attacks(config.scale, seen(rows, noticed))
    print(format_table(rows))
    for pair in pairs:
        kl = pair["kl_symmetrised"]
        print(
            f"symmetrised KL of {pair['first']} and {pair['second']}: "
            f"{kl['mean']:.3g} [{kl['low']:.3g}, {kl['high']:.3g}]"
        )


def outputs(layout: Layout) -> list[Path]:
    """What the stage writes."""
    tables = ("attacks.csv", "detection.csv", "detection.json", "compare.json")
    drawn = figure_files(layout, "spectra", "damage", "detection", "pareto")
    return [*map(layout.result, tables), *drawn]


def seen(
    rows: Mapping[str, Mapping[str, Any]], noticed: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, float | str]]:
    """For each run of a perturbation, by its id, what detection says of it."""
    return {
        row["run_id"]: comparable.noticed(noticed.get(name, {}).get("judgement"))
        for name, row in rows.items()
        if "run_id" in row
    }


def against(config: Config, file: Path) -> None:
    """Print how many numbers of the table of damage lie in the intervals of another one.

    Args:
        config: names the scale, whose `attacks.csv` is compared.
        file: another `attacks.csv`.

    Raises:
        UserError: one of the files is missing, is no table of damage, or they share no row.
    """
    path = Layout(config.scale).result("attacks.csv")
    for one in (path, file):
        if not one.exists():
            raise UserError(absent(one))
    print("\n".join(agreement(read_table(path), read_table(file)).lines(file)))


def every_training(config: Config, name: str) -> list[MapSet]:
    """An attack's maps for each training of the target; one set if the target does not matter."""
    layout, group = Layout(config.scale), config.attacked[name]
    count = config.trainings(config.run.target) if follows_target(config.entries[name]) else 1
    return [read_maps(layout.attacked(group, name, number)) for number in range(1, count + 1)]


def perturbed_maps(config: Config, winners: Container[str]) -> dict[str, Path]:
    """Where the maps of each attack are, and of each family's worst systematic that was found."""
    layout = Layout(config.scale)
    paths = {name: layout.attacked(group, name) for name, group in config.attacked.items()}
    families = {winner(family): family for family in config.search.families}
    found = {name: families[name] for name in families if name in winners}
    return paths | {name: layout.attacked("search", family) for name, family in found.items()}


def detection(
    config: Config, paths: Mapping[str, Path], kept: KeptRows
) -> dict[str, dict[str, Any]]:
    """How well detectors distinguish each perturbation's maps from clean ones, and the verdict.

    Attacks on some of the test maps are compared with these; those on fewer simulations than
    `FEWEST` are left out.

    Args:
        config: the configuration.
        paths: of the maps of each perturbation.
        kept: rows that a killed stage had finished.
    """
    about = [config.model_dump_json(exclude={"execution"}), md5(Layout(config.scale).maps)]
    key, of = uuid4().hex, "\n".join([*about, code.fingerprint("compare")])
    tasks = [(key, config, name, path, of, kept) for name, path in paths.items()]
    processes = config.execution.processes
    rows = side_by_side(_noticed, tasks, processes, desc="detection", unit="perturbation")
    return {name: row["row"] for name, row in zip(paths, rows, strict=True) if row["row"]}


def _noticed(
    key: str, config: Config, name: str, path: Path, of: str, kept: KeptRows
) -> dict[str, Any]:
    """The row of one perturbation, in a process that may make several; None of too few maps."""
    if key not in _judges:
        _judges.clear()
        _judges[key] = Judge(training_set(config), test_set(config), config)
    data = read_maps(path)
    depends = hashlib.sha256(f"{of}\n{md5(path)}".encode()).hexdigest()
    return kept.get(name, depends, lambda: {"row": _judges[key].row(data)})


class Judge:
    """The detectors, taught by the target's training maps, for all or some of the test maps."""

    def __init__(self, training: MapSet, test: MapSet, config: Config) -> None:
        self.test, self.settings = test, config.detection
        self.every = Detector(training, test, config.seed, self.settings)
        self.known = {test.index.tobytes(): self.every}

    def row(self, data: MapSet) -> dict[str, Any] | None:
        """What the detectors say of perturbed maps; None if there are too few."""
        clean = same_maps(self.test, data)
        if len(clean.simulations) < FEWEST:
            return None
        key = clean.index.tobytes()
        if key not in self.known:
            self.known[key] = self.every.judging(clean)
        row = self.known[key].row(data.maps)
        judgement = {**verdict(row, self.settings), "detectors": detectors(row)}
        return {**row, "judgement": judgement}


# Of the stage's run that this process works for: its perturbations share it.
_judges: dict[str, Judge] = {}


def same_maps(test: MapSet, data: MapSet) -> MapSet:
    """The clean maps that belong to the perturbed ones in `data`."""
    return test.take(places(test, data))


def disagreements(
    attacked: Mapping[str, Sequence[MapSet]],
    targets: Sequence[Posterior],
    seed: int,
    test: MapSet,
) -> list[dict[str, Any]]:
    """Mean symmetrised KL, with its interval, between the posteriors of each pair of attacks.

    Args:
        attacked: for each attack, its maps for each training of the target, or one set for all.
        targets: all trainings of the target.
        seed: draws the resamples.
        test: all test maps.

    Returns:
        For each pair that shares maps: `first`, `second`, and under `kl_symmetrised` the interval.
    """
    found = []
    for one, other in combinations(attacked, 2):
        pairs = [
            shared(
                attacked[one][min(i, len(attacked[one]) - 1)],
                attacked[other][min(i, len(attacked[other]) - 1)],
                test,
            )
            for i in range(len(targets))
        ]
        if min(len(first) for first, _ in pairs) == 0:
            continue
        values = [
            disagreement(first.maps, second.maps, target, batch(first))
            for (first, second), target in zip(pairs, targets, strict=True)
        ]
        resamples = Hierarchy([first.index for first, _ in pairs], seed)
        interval = resamples.mean_interval(values, positive=True)
        found.append({"first": one, "second": other, "kl_symmetrised": interval})
    return found


def shared(one: MapSet, other: MapSet, test: MapSet) -> tuple[MapSet, MapSet]:
    """The maps that two sets have in common, both of them test maps, perturbed or not."""
    _, *rows = np.intersect1d(
        places(test, one), places(test, other), assume_unique=True, return_indices=True
    )
    return one.take(rows[0]), other.take(rows[1])


def write_detection(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line per perturbation and detector."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        header = ["auroc", "auroc.low", "auroc.high", "kind", "auroc_known", "auroc_anomaly"]
        writer.writerow(["perturbation", "detector", *header, "p_value", "n_maps", "verdict"])
        for name, row in rows.items():
            for detector in row["judgement"]["detectors"]:
                cell = row[detector]
                auroc = cell.get("auroc", {})
                pair = (cell.get(key, {}).get("mean", "") for key in header[-2:])
                found = (auroc.get(key, "") for key in ("mean", "low", "high", "kind"))
                last = (cell["p_value"], row["n_maps"], row["judgement"]["verdict"])
                writer.writerow([name, detector, *found, *pair, *last])
