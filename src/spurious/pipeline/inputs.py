"""What several stages read: the maps and their split, the files of posteriors, and results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from spurious.config import Config, winner
from spurious.data import hdf5, splits
from spurious.data.maps import MapSet
from spurious.data.splits import Split
from spurious.pipeline import identity
from spurious.pipeline.layout import Layout
from spurious.pipeline.schemas import Row, Search, read

BATCH = 512  # maps whose damage is measured at a time: each batch has a cost of its own


def parts(config: Config, data: MapSet, kind: str) -> Split:
    """The split of the data set, `random` or `held_out`, the same in every stage."""
    fractions = config.training.test_fraction, config.training.validation_fraction
    group = data.index if kind == "random" else splits.cosmologies(data.labels)
    return splits.split(group, *fractions, config.seed)


def ranges(data: MapSet) -> dict[str, tuple[float, float]]:
    """The prior: each parameter's smallest and largest label."""
    low, high = data.labels.min(axis=0).tolist(), data.labels.max(axis=0).tolist()
    return dict(zip(data.names, zip(low, high, strict=True), strict=True))


def box(data: MapSet) -> dict[str, tuple[float, float]]:
    """The prior's box for an estimator that is zero outside it: each range, slightly wider.

    Equal weights on n equally spaced values stand for a flat prior that reaches half a spacing
    beyond the outermost; for random designs, whose values all differ, this is negligible.
    """
    widened = {}
    for name, values in zip(data.names, data.labels.T, strict=True):
        low, high, count = values.min(), values.max(), len(np.unique(values))
        half = (high - low) / max(count - 1, 1) / 2
        widened[name] = (float(low - half), float(high + half))
    return widened


def split_of(config: Config, name: str) -> str:
    """The split on which a posterior, or each network that it is made of, was trained."""
    return config.split(name)


def batch(data: MapSet) -> int:
    """Maps whose damage is measured at a time: no more pixels than `BATCH` maps of 64 x 64 have."""
    return min(BATCH, max(1, BATCH * 64**2 // data.maps.shape[-1] ** 2))


def networks(config: Config, name: str) -> list[tuple[str, int]]:
    """(entry, number of the training) of all trainings that a posterior is, or is made of."""
    if members := config.members(name):
        # An ensemble has all trainings of its members, what wraps a network the first.
        numbered = [
            [(one, 1)] if name in config.wrapped and not config.members(one)
            else networks(config, one)
            for one in members
        ]  # fmt: skip
        return list(dict.fromkeys(network for part in numbered for network in part))
    return [(name, training) for training in range(1, config.trainings(name) + 1)]


def files(config: Config, name: str) -> list[Path]:
    """Where the trainings that a posterior is, or is made of, are stored."""
    layout = Layout(config.scale)
    return [layout.posterior(*network) for network in networks(config, name)]


def check_models(config: Config, names: Iterable[str]) -> None:
    """Refuse files that are not the trainings of these posteriors, before any work begins.

    Raises:
        UserError: one is missing, damaged, or something else.
    """
    for owner in dict.fromkeys(one for name in names for one in networks(config, name)):
        identity.check(config, *owner)


def bystanders(config: Config) -> list[str]:
    """The other posteriors that were not trained on the target's test maps."""
    run, kind = config.run, split_of(config, config.run.target)
    return [name for name in run.present if name != run.target and split_of(config, name) == kind]


def test_set(config: Config, name: str | None = None) -> MapSet:
    """The maps on which a posterior is tested; by default those of the target."""
    data = hdf5.read_maps(Layout(config.scale).maps)
    return data.take(parts(config, data, split_of(config, name or config.run.target)).test)


def training_set(config: Config) -> MapSet:
    """The maps on which the target was trained."""
    data = hdf5.read_maps(Layout(config.scale).maps)
    return data.take(parts(config, data, split_of(config, config.run.target)).train)


def attack_rows(config: Config) -> dict[str, dict[str, Any]]:
    """The row of damage of each attack that is run, in that order."""
    layout = Layout(config.scale)
    return {name: read(layout.row(group, name), Row) for name, group in config.attacked.items()}


def winner_rows(config: Config) -> dict[str, dict[str, Any]]:
    """The row of damage of the worst systematic of each family that was searched, by its name."""
    layout = Layout(config.scale)
    families = read(layout.result("search.json"), Search)["families"]
    return {winner(name): family["row"] for name, family in families.items() if "row" in family}
