"""What several stages read: the maps and their split, and the posteriors that are tested."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from spurious import maps, splitting
from spurious.config import Config, winner
from spurious.inference.posterior import Ensemble, Posterior, Remembered
from spurious.maps import MapSet
from spurious.splitting import Split
from spurious.stages import identity
from spurious.stages.layout import Layout
from spurious.stages.schemas import Row, Search, read

BATCH = 512  # maps whose damage is measured at a time: each batch has a cost of its own


def parts(config: Config, data: MapSet, kind: str) -> Split:
    """The split of the data set, `random` or `held_out`, the same in every stage."""
    fractions = config.training.test_fraction, config.training.validation_fraction
    group = data.index if kind == "random" else splitting.cosmologies(data.labels)
    return splitting.split(group, *fractions, config.seed)


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
    """The split on which a posterior, or each member of an ensemble, was trained."""
    return config.posteriors[config.ensembles.get(name, [name])[0]].split


def networks(config: Config, name: str) -> list[tuple[str, int]]:
    """(entry, number of the training) of all trainings of a posterior, or of an ensemble's."""
    return [
        (member, training)
        for member in config.ensembles.get(name, [name])
        for training in range(1, config.trainings(member) + 1)
    ]


def files(config: Config, name: str) -> list[Path]:
    """Where the trainings of a posterior, or of the members of an ensemble, are stored."""
    layout = Layout(config.scale)
    return [layout.posterior(*network) for network in networks(config, name)]


def posterior(config: Config, name: str) -> Posterior:
    """The first training of a posterior, or the ensemble of all trainings of its members."""
    if name in config.ensembles:
        return Ensemble([identity.load(config, *one) for one in networks(config, name)])
    return identity.load(config, name)


class Posteriors:
    """Trained posteriors by name, loaded when first needed and evaluated once per batch."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loaded: dict[tuple[str, int], Posterior] = {}

    def __call__(self, name: str) -> Posterior:
        """The first training of any posterior; an ensemble shares its members with the others."""
        if (name, 1) not in self._loaded and name in self._config.ensembles:
            members = [self._network(*one) for one in networks(self._config, name)]
            self._loaded[name, 1] = Ensemble(members)
        return self._network(name, 1)

    def trainings(self, name: str) -> list[Posterior]:
        """All trainings of a posterior; an ensemble is one."""
        return [self(name), *(self._network(name, i) for i in self._others(name))]

    def _others(self, name: str) -> range:
        return range(2, self._config.trainings(name) + 1)

    def _network(self, name: str, training: int) -> Posterior:
        if (name, training) not in self._loaded:
            self._loaded[name, training] = Remembered(identity.load(self._config, name, training))
        return self._loaded[name, training]


def check_models(config: Config, names: Iterable[str]) -> None:
    """Refuse files that are not the trainings of these posteriors, before any work begins.

    Raises:
        UserError: one is missing, damaged, or something else.
    """
    for owner in dict.fromkeys(one for name in names for one in networks(config, name)):
        identity.check(config, *owner)


def target(config: Config) -> Posterior:
    """The posterior that attacks and search see, its first training."""
    return posterior(config, config.run.target)


def bystanders(config: Config) -> list[str]:
    """The other posteriors that were not trained on the target's test maps."""
    run, kind = config.run, split_of(config, config.run.target)
    names = [*run.posteriors, *run.ensembles]
    return [name for name in names if name != run.target and split_of(config, name) == kind]


def test_set(config: Config, name: str | None = None) -> MapSet:
    """The maps on which a posterior is tested; by default those of the target."""
    data = maps.read_maps(Layout(config.scale).maps)
    return data.take(parts(config, data, split_of(config, name or config.run.target)).test)


def training_set(config: Config) -> MapSet:
    """The maps on which the target was trained."""
    data = maps.read_maps(Layout(config.scale).maps)
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
