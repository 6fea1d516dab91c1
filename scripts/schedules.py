"""Compare schedules of a training: how many epochs, which rate, batch and precision are enough.

    python scripts/schedules.py --scale paper

trains the target once with each schedule, on the maps that `spurious simulate` has made, and writes
docs/figures/schedules.png and results/<scale>/schedules.json, of which `scripts/reference.py` makes
a table. Finished trainings are kept; a killed one goes on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import keras
import numpy as np
from matplotlib.figure import Figure

from spurious.config import Network
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.figures.style import SHADES
from spurious.files import read_json, write_json
from spurious.params import load
from spurious.pipeline.inputs import parts
from spurious.pipeline.kept_rows import KeptRows
from spurious.pipeline.layout import Layout
from spurious.posteriors.trained import NetworkPosterior
from spurious.processes import side_by_side
from spurious.training import loop

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "figures" / "schedules.png"
MOMENTUM = 0.999  # of the average of weights
CHOSEN, LONGER = "as in params.yaml", "three times the epochs"
SHORT = {"epochs": 50}
IN_32 = {"batch_size": 32, "learning_rate": 3e-3}
SCHEDULES: dict[str, dict[str, Any]] = {
    LONGER: {"epochs": 450},
    CHOSEN: {},
    "50 epochs": SHORT,
    "150 epochs, batch 32": IN_32,
    "50 epochs, batch 32": SHORT | IN_32,
    "50 epochs, batch 32, rate 0.01": SHORT | IN_32 | {"learning_rate": 1e-2},
    "50 epochs, batch 128": SHORT | {"batch_size": 128, "learning_rate": 6e-3},
    "50 epochs, batch 32, bfloat16": SHORT | IN_32 | {"precision": "mixed_bfloat16"},
}
"""What each differs in from params.yaml. All rise for 5 % of the steps and fall as a cosine."""


class Average(keras.callbacks.Callback):
    """An exponential average of the weights, beside a training that does not know of it."""

    def __init__(self, momentum: float = MOMENTUM) -> None:
        super().__init__()
        self.momentum = momentum
        self.weights: list[np.ndarray] = []
        self.epochs = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """One epoch of this process."""
        self.epochs += 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """One step further."""
        now = self.model.get_weights()
        self.weights = self.weights or now
        pairs = zip(self.weights, now, strict=True)
        self.weights = [self.momentum * old + (1 - self.momentum) * new for old, new in pairs]


def measure(scale: str, name: str) -> dict[str, Any]:
    """Train with one schedule: its curve, and what came out on validation and on test maps."""
    settings = load(ROOT / "params.yaml", scale)
    entry = settings.posteriors[settings.run.target]
    assert isinstance(entry, Network)
    data = read_maps(Layout(scale).maps)
    split = parts(settings, data, settings.split(settings.run.target))
    used = entry.trained(settings.training).model_copy(update=SCHEDULES[name])
    # To the end: a rate that is still high makes a long schedule look finished.
    used = used.model_copy(update={"patience": used.epochs})
    slug = name.replace(" ", "_").replace(",", "")
    folder = Layout(scale).checkpoints(f"schedules-{slug}")
    kept = KeptRows(Layout(scale).checkpoints("schedules"))
    of = f"{used!r} of {settings.seed} and {len(data)} maps"

    def train() -> dict[str, Any]:
        average, began = Average(), time.monotonic()
        model, history = loop.train(
            data, split, entry, used, settings.seed, folder, [average], progress=False
        )
        pace = (time.monotonic() - began) / average.epochs
        row: dict[str, Any] = {"seconds_per_epoch": pace, "history": history}
        row["best"] = quality(model, data.take(split.validation), data.take(split.test))
        model.set_weights(average.weights)
        row["averaged"] = quality(model, data.take(split.validation), data.take(split.test))
        return row

    return kept.get(slug, of, train)


def quality(model: keras.Model, validation: MapSet, test: MapSet) -> dict[str, float]:
    """Mean -log p of both sets, nats a map, and the RMSE of the posterior mean on test maps."""
    posterior = NetworkPosterior(model)
    row = {
        f"{part}_nll": -float(np.mean(posterior(data.maps).log_prob(data.labels.astype("f4"))))
        for part, data in (("validation", validation), ("test", test))
    }
    error = np.asarray(posterior(test.maps).mean()) - test.labels
    return row | dict(zip(test.names, np.sqrt(np.mean(error**2, axis=0)).tolist(), strict=True))


def draw(found: Mapping[str, Any]) -> Figure:
    """Validation loss against the epoch: two lengths of one schedule, and the other schedules."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for colour, (name, row) in zip(SHADES, found.items(), strict=False):
        losses = row["history"]["val_loss"]
        width = 1.8 if name in (CHOSEN, LONGER) else 0.8
        label = f"{name}: {row['best']['validation_nll']:.3f}".replace("-", "−")
        axes.plot(np.arange(1, len(losses) + 1), losses, color=colour, lw=width, label=label)
    last = [row["best"]["validation_nll"] for row in found.values()]
    axes.set(
        xlabel="epoch",
        ylabel="−ln p of validation maps [nat per map]",
        ylim=(min(last) - 0.1, max(last) + 1.2),
    )
    axes.legend(title="at its best epoch", fontsize=8)
    return figure


@click.command()
@click.option("--scale", default="paper", show_default=True, help="Whose maps.")
def main(scale: str) -> None:
    """Compare schedules of the target's training."""
    target = Layout(scale).result("schedules.json")
    found = read_json(target) if target.is_file() else {}
    missing = [name for name in SCHEDULES if name not in found]
    tasks = [(scale, name) for name in missing]
    rows = side_by_side(measure, tasks, desc="schedules", unit="training")
    found |= dict(zip(missing, rows, strict=True))
    found = {name: found[name] for name in SCHEDULES}
    write_json(target, found)
    draw(found).savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
