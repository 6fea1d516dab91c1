"""Stage `train`: all trainings of one posterior, and how accurate and calibrated each is."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spurious import figures, tracking
from spurious.config import Config, Likelihood, Network
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet, Standardiser
from spurious.data.splits import Split
from spurious.defences.build import of_posterior
from spurious.errors import UserError, one_of, shown
from spurious.files import replacing, sweep, write_json
from spurious.pipeline import identity
from spurious.pipeline.figure_files import save_figures
from spurious.pipeline.inputs import box, parts, ranges
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import Outputs, replaced_together
from spurious.posteriors import likelihood
from spurious.posteriors.trained import NetworkPosterior
from spurious.processes import side_by_side
from spurious.quality.assessment import SBC_SAMPLES, Assessment, assess
from spurious.training import loop
from spurious.training.callbacks import History
from spurious.training.defended import maps_shown

LONG = ("nodes", "edges")  # of a row: kept of the first training alone


def run(config: Config, name: str) -> None:
    """Train; write `models/<scale>/<name>/`, metrics and `results/<scale>/posteriors/`.

    The metrics and figures are those of the first training; the metrics of the others follow in a
    list. A killed stage goes on after the last finished epoch of the training that it was at.
    """
    if name not in config.posteriors:
        raise UserError(f"posterior = {shown(name)}: {one_of(name, config.posteriors)}")
    if members := config.members(name):
        raise UserError(f"posterior = {name!r}: is made of {members[0]}, train that")
    layout = Layout(config.scale)
    data = read_maps(layout.maps)
    split = parts(config, data, config.split(name))
    count, tags = config.trainings(name), {"posterior": name}
    with (
        tracking.start("train", config.scale, inputs=[layout.maps], tags=tags) as log,
        replaced_together(f"train-{name}", outputs(layout, name)) as out,
    ):
        sweep(layout.checkpoints(name))
        log.params(described(config, name))
        log.dataset(data, layout.maps, context="training")
        if count == 1:
            rows = [_one(config, name, 1, data, split, log, out)]
        else:
            tasks = [(config, name, number, log, out) for number in range(1, count + 1)]
            processes = config.execution.processes
            rows = list(side_by_side(_apart, tasks, processes, desc=name, unit="training"))
        for number, row in enumerate(rows, start=1):
            print(f"{name}, training {number} of {count}:")
            print("\n".join(format_metrics({k: v for k, v in row.items() if k not in LONG})))
        log.metrics(tracking.numbers(rows[0]))
        others = [{k: v for k, v in row.items() if k not in LONG} for row in rows[1:]]
        metrics = {**rows[0], **({"others": others} if others else {})}
        write_json(out.new(layout.result(f"posteriors/{name}.json")), metrics)
    shutil.rmtree(layout.checkpoints(name), ignore_errors=True)


def outputs(layout: Layout, name: str) -> list[Path]:
    """What the stage writes."""
    results = layout.result("posteriors")
    return [layout.posterior(name).parent, results / f"{name}.json", results / name]


def _apart(
    config: Config, name: str, number: int, log: tracking.Run, out: Outputs
) -> dict[str, Any]:
    """One of several trainings, as a run of its own; perhaps in a process of its own."""
    data = read_maps(Layout(config.scale).maps)
    split = parts(config, data, config.split(name))
    with log.child(f"{name} {number}") as own:
        return _one(config, name, number, data, split, own, out)


def _one(
    config: Config,
    name: str,
    number: int,
    data: MapSet,
    split: Split,
    log: tracking.Run,
    out: Outputs,
) -> dict[str, Any]:
    """One training: its model, its metrics, and of the first one its figures."""
    layout = Layout(config.scale)
    posterior, history = trained(config, name, number, data, split, log)
    posterior.identity = identity.made(config, name, number)
    posterior.save(out.new(layout.posterior(name, number)))
    test = data.take(split.test)
    found = assess(posterior, test, ranges(data), config.seed)
    sizes = {f"n_{part}": len(getattr(split, part)) for part in ("train", "validation", "test")}
    row = {"temperature": posterior.head.temperature, **sizes, **found.row()}
    log.metrics(tracking.numbers(row))
    if number == 1:
        save_figures(out, layout, log, draw_figures(found, test, history), f"posteriors/{name}")
        if history:
            write_history(out.new(layout.result(f"posteriors/{name}/history.csv")), history)
    log.model(posterior.model, test.maps[:2], f"{config.scale}-{name}", current=number == 1)
    return {"run_id": log.id, **row}


def described(config: Config, name: str) -> dict[str, object]:
    """The parameters of the run."""
    settings = config.posteriors[name]
    shared = config.training
    used = settings.trained(shared) if isinstance(settings, Network) else shared
    return {
        **settings.model_dump(exclude={"training"}),
        **used.model_dump(),
        "seed": config.seed,
    }


def trained(
    config: Config, name: str, number: int, data: MapSet, split: Split, log: tracking.Run
) -> tuple[NetworkPosterior, History]:
    """The posterior and its learning curve; an estimator that is fitted at once has none."""
    settings = config.posteriors[name]
    if isinstance(settings, Likelihood):
        train_set = data.take(split.train)
        model = likelihood.fit(
            train_set.maps,
            train_set.labels,
            box(data),
            Standardiser.fit(train_set.maps),
            data.box_size,
            cells=settings.cells,
        )
        return NetworkPosterior(model), {}
    assert isinstance(settings, Network)  # others are made of those when they are used
    used, validation = settings.trained(config.training), data.take(split.validation)
    folder = Layout(config.scale).checkpoints(name)
    defence = of_posterior(name, settings, data.take(split.train), config.seed)
    model, history = loop.train(
        data,
        split,
        settings,
        used,
        config.seed,
        folder,
        log.callbacks(),
        number=number,
        keep_checkpoint=True,
        defence=defence,
    )
    posterior = NetworkPosterior(model)
    if used.recalibrate:
        maps = validation.maps
        if defence is not None:
            maps = maps_shown(defence, posterior, maps, validation.labels, config.seed)
        posterior.recalibrate(maps, validation.labels)
    return posterior, history


def draw_figures(found: Assessment, test: MapSet, history: History) -> dict[str, Figure]:
    """The figures of one posterior."""
    names, t = test.names, found.tarp
    pictures = {
        "predicted": figures.predicted_versus_true(found.means, found.stds, test.labels, names),
        "coverage": figures.coverage(found.pit, names),
        "pit": figures.pit_histogram(found.pit, names),
        "sbc": figures.sbc(found.ranks, SBC_SAMPLES, names),
        "tarp": figures.tarp(t.levels, t.ecp, t.low, t.high),
    }
    if len(names) == 2:
        pictures["error_plane"] = figures.error_plane(found.nodes, names)
    if history:
        pictures["learning_curve"] = figures.learning_curve(history)
    return pictures


def write_history(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """One row an epoch, one column a curve."""
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, row in enumerate(zip(*history.values(), strict=True), start=1):
            writer.writerow([epoch, *row])


def format_metrics(metrics: Mapping[str, object]) -> list[str]:
    """One line a metric, with its interval."""
    lines = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            lines.append(
                f"{name:24s} {value['mean']:9.4f}  [{value['low']:.4f}, {value['high']:.4f}]"
            )
        elif isinstance(value, float) and np.isfinite(value):
            lines.append(f"{name:24s} {value:9.4f}")
    return lines
