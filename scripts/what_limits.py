"""What limits the target: its errors and calibration with fewer maps, other layers, other heads.

    python scripts/what_limits.py --scale paper

trains the target with one change at a time, each for a third of its epochs, and writes
results/<scale>/what_limits.json, of which `scripts/reference.py` makes a table. Finished trainings
are kept; a killed one goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import trained_once
from spurious.config import Config, Network, Training
from spurious.data.hdf5 import read_maps
from spurious.files import write_json
from spurious.params import load
from spurious.pipeline.inputs import parts, ranges
from spurious.pipeline.layout import Layout
from spurious.posteriors.trained import load as load_posterior
from spurious.processes import side_by_side
from spurious.quality.assessment import assess

ROOT = Path(__file__).resolve().parents[1]
SHORTER = 3  # of the target's epochs, for all that are compared
GAUSSIAN = {"kind": "mixture", "components": 1}
CHANGES: dict[str, dict[str, Any]] = {
    "as the target": {},
    "half the maps, twice the epochs": {"share": 0.5},
    "a quarter of the maps, four times the epochs": {"share": 0.25},
    "half as many filters": {"width": 0.5},
    "no augmentation": {"training": {"augment": False}},
    "a full covariance": {"entry": {"head": {**GAUSSIAN, "covariance": "full"}}},
    "four Gaussians": {"entry": {"head": {**GAUSSIAN, "components": 4, "covariance": "full"}}},
    "a flow": {"entry": {"head": {"kind": "flow", "blocks": 2, "bins": 8}}},
}
"""In what each differs from the first."""
KEPT = ("rmse", "z_rms", "coverage_68", "coverage_95")


def described(config: Config, name: str) -> tuple[Network, Training, float]:
    """The entry of a network, how it is trained, and its share of the training maps."""
    target, change = config.posteriors[config.run.target], CHANGES[name]
    assert isinstance(target, Network)
    changes = dict(change.get("entry", {}))
    if "width" in change:
        kind = getattr(target.preset, "kind", target.preset)
        width = change["width"] * getattr(target.preset, "width", 1.0)
        changes["preset"] = {"kind": kind, "width": width}
    entry = Network.model_validate({**target.model_dump(exclude_unset=True), **changes})
    used, share = target.trained(config.training), change.get("share", 1.0)
    epochs = max(round(used.epochs / SHORTER / share), 1)  # as many steps with fewer maps
    return entry, used.model_copy(update={"epochs": epochs, **change.get("training", {})}), share


def measure(config: Config, name: str) -> dict[str, Any]:
    """Train one network and assess it on the test maps."""
    entry, used, share = described(config, name)
    posterior = load_posterior(trained_once.train(config, "what_limits", entry, used, share=share))
    data = read_maps(Layout(config.scale).maps)
    split = parts(config, data, entry.split)
    found = assess(posterior, data.take(split.test), ranges(data), config.seed).row()
    names = [f"{parameter}_{kind}" for parameter in data.names for kind in KEPT]
    return {
        "n_train": round(share * len(split.train)),
        "epochs": used.epochs,
        "temperature": posterior.head.temperature,
        **{key: found[key] for key in ["nll", *names]},
    }


@click.command()
@click.option("--scale", default="paper", show_default=True, help="Whose maps.")
def main(scale: str) -> None:
    """Measure what limits the target's accuracy and calibration."""
    config = load(ROOT / "params.yaml", scale)
    tasks = [(config, name) for name in CHANGES]
    rows = side_by_side(measure, tasks, desc="networks", unit="network")
    write_json(Layout(scale).result("what_limits.json"), dict(zip(CHANGES, rows, strict=True)))


if __name__ == "__main__":
    main()
