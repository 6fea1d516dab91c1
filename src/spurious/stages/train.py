"""Stage `train`: one posterior, and how good and how honest it is on its test maps."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from spurious import figures, tracking
from spurious.config import Config, Network
from spurious.errors import UserError
from spurious.files import replacing, write_json
from spurious.inference import likelihood, training
from spurious.inference.assessment import SBC_SAMPLES, Assessment, assess
from spurious.inference.callbacks import History
from spurious.inference.posterior import NetworkPosterior
from spurious.maps import MapSet, Standardiser, read_maps
from spurious.splitting import Split
from spurious.stages.inputs import box, parts, ranges
from spurious.stages.layout import Layout
from spurious.stages.output import save_figures


def run(config: Config, name: str) -> None:
    """Train; write `models/<scale>/<name>.keras`, metrics and `results/<scale>/posteriors/`."""
    if name not in config.posteriors:
        raise UserError(f"posterior = {name!r}: must be one of {', '.join(config.posteriors)}")
    layout, settings = Layout(config.scale), config.posteriors[name]
    data = read_maps(layout.maps)
    split = parts(config, data, settings.split)
    tags = {"posterior": name}
    with tracking.start("train", config.scale, inputs=[layout.maps], tags=tags) as log:
        log.params(described(config, name))
        log.dataset(data, layout.maps, context="training")
        posterior, history = trained(config, name, data, split, log)
        posterior.save(layout.posterior(name))
        test = data.take(split.test)
        found = assess(posterior, test, ranges(data), config.seed)
        sizes = {f"n_{part}": len(getattr(split, part)) for part in ("train", "validation", "test")}
        row = {"temperature": posterior.head.temperature, **sizes, **found.row()}
        write_json(layout.result(f"posteriors/{name}.json"), {"run_id": log.id, **row})
        log.metrics(tracking.numbers(row))
        save_figures(layout, log, drawn(found, test, history), f"posteriors/{name}")
        if history:
            write_history(layout.result(f"posteriors/{name}/history.csv"), history)
        log.model(posterior.model, test.maps[:2], f"{config.scale}-{name}")
    print("\n".join(told(found.metrics)))


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
    config: Config, name: str, data: MapSet, split: Split, log: tracking.Run
) -> tuple[NetworkPosterior, History]:
    """The posterior and its learning curve; an estimator that is fitted at once has none."""
    settings = config.posteriors[name]
    if not isinstance(settings, Network):
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
    used = settings.trained(config.training)
    folder = Layout(config.scale).checkpoints(name)
    model, history = training.train(
        data, split, settings, used, config.seed, folder, log.callbacks()
    )
    posterior = NetworkPosterior(model)
    if used.recalibrate:
        validation = data.take(split.validation)
        posterior.recalibrate(validation.maps, validation.labels)
    return posterior, history


def drawn(found: Assessment, test: MapSet, history: History) -> dict[str, Figure]:
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
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, row in enumerate(zip(*history.values(), strict=True), start=1):
            writer.writerow([epoch, *row])


def told(metrics: Mapping[str, object]) -> list[str]:
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
