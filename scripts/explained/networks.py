"""The networks whose answers are compared: how long they train, what they see, how they are built.

The first is the pipeline's target. All others train for a third of its epochs, and so does one that
is like the target in all else: what they are compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trained_once
from spurious.config import Config, Network, Training
from spurious.lazy import keras
from spurious.networks.compact import ACTIVATION, FILTERS, Compact
from spurious.networks.preset import Layers, scaled
from spurious.pipeline import identity
from spurious.posteriors.trained import NetworkPosterior, load
from spurious.processes import side_by_side

TARGET, TRAININGS, SHORTER = "target", 3, 3


@dataclass(frozen=True, kw_only=True)
class ZeroPadded(Compact):
    """The target's layers with zeros beyond the edge instead of the other side of the box."""

    def features(self, images: Any, layers: Layers) -> Any:
        """See `PixelPreset`."""
        x = images
        for number, filters in enumerate(FILTERS):
            if number > 0:
                x = keras.layers.AveragePooling2D(2, name=f"pool_{number}")(x)
            options = {"activation": ACTIVATION, "padding": "same"}
            name = f"convolution_{number}"
            x = layers.convolution(x, scaled(filters, self.width), 3, name, **options)
        x = keras.layers.GlobalAveragePooling2D(name="average")(x)
        return layers.dense(x, 128, "hidden", activation=ACTIVATION)


CHANGES: dict[str, dict[str, Any]] = {
    "shorter training": {},
    "zero padding": {"preset": {"kind": f"{__name__}.ZeroPadded"}},
    "resnet": {"preset": {"kind": "resnet"}},
    "sees the contrast of each map": {"input": "contrast"},
    "sees the logarithm": {"input": "log"},
}
"""In what a network's entry differs from the target's."""


def described(config: Config, name: str) -> tuple[Network, Training]:
    """The entry and the settings of the training of one of `CHANGES`, as wide as the target."""
    target = config.posteriors[config.run.target]
    assert isinstance(target, Network)
    changes = CHANGES[name]
    if "preset" in changes and (width := getattr(target.preset, "width", None)) is not None:
        changes = {"preset": {**changes["preset"], "width": width}}
    entry = Network.model_validate({**target.model_dump(exclude_unset=True), **changes})
    used = target.trained(config.training)
    return entry, used.model_copy(update={"epochs": max(used.epochs // SHORTER, 1)})


def slug(name: str) -> str:
    """A network's name as one of a file."""
    return name.replace(" ", "_")


def trained(
    config: Config, trainings: int = TRAININGS, names: Sequence[str] = tuple(CHANGES)
) -> dict[str, list[NetworkPosterior]]:
    """The target and the networks of these names, each with its trainings.

    Those that are not there yet are trained.
    """
    tasks = [(config, name, number) for name in names for number in range(1, trainings + 1)]
    paths = list(side_by_side(_train, tasks, desc="networks to compare", unit="training"))
    target, count = config.run.target, config.trainings(config.run.target)
    found = {TARGET: [identity.load(config, target, number) for number in range(1, count + 1)]}
    for (_, name, _), path in zip(tasks, paths, strict=True):
        found.setdefault(name, []).append(load(path))
    return found


def _train(config: Config, name: str, number: int) -> Path:
    """The file of a training, made unless it is there."""
    return trained_once.train(config, "explained", *described(config, name), number)
