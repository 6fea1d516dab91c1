"""Stage `train`: the network, and how good and how honest it is on the test maps."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from spurious import figures, tracking
from spurious.config import Config
from spurious.files import replacing, write_json
from spurious.inference import calibration, training
from spurious.inference.posterior import NetworkPosterior, predict
from spurious.maps import read_maps
from spurious.stages.inputs import parts
from spurious.stages.layout import Layout
from spurious.stages.output import save_figures


def run(config: Config) -> None:
    """Train, write `models/<scale>/network.keras`, its learning curve, test metrics and figures."""
    layout = Layout(config.scale)
    data = read_maps(layout.maps)
    split = parts(config, data)
    with tracking.start("train", config.scale, inputs=[layout.maps]) as log:
        log.params(config.training.model_dump() | {"seed": config.seed})
        log.dataset(data, layout.maps, context="training")
        model, history = training.train(
            data, split, config.training, config.seed, layout.checkpoints, log.callbacks()
        )
        posterior = NetworkPosterior(model)
        posterior.save(layout.network)
        write_history(layout.result("history.csv"), history)

        test = data.take(split.test)
        predicted = predict(posterior, test.maps)
        metrics = calibration.metrics(predicted, test.labels, data.names)
        sizes = {f"n_{part}": len(getattr(split, part)) for part in ("train", "validation", "test")}
        log.metrics(metrics | sizes)
        write_json(layout.result("train.json"), {"run_id": log.id, **sizes, **metrics})
        pit = calibration.pit(predicted, test.labels)
        means, stds = predicted.mean().numpy(), predicted.stddev().numpy()
        save_figures(
            layout,
            log,
            {
                "learning_curve": figures.learning_curve(history),
                "predicted": figures.predicted_versus_true(means, stds, test.labels, data.names),
                "coverage": figures.coverage(pit, data.names),
            },
        )
        log.model(model, test.maps[:2])
    print("\n".join(f"{name:24s} {value:.4f}" for name, value in metrics.items()))


def write_history(path: Path, history: Mapping[str, Sequence[float]]) -> None:
    """One row an epoch, one column a curve."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *history])
        for epoch, row in enumerate(zip(*history.values(), strict=True), start=1):
            writer.writerow([epoch, *row])
