"""The table of damage of a released set: made from its networks and maps alone, and compared."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from released.contents import Released, Table
from spurious.config import Config, Perturbation, winner
from spurious.damage import measure, pooled_row, posterior_change
from spurious.data.maps import MapSet
from spurious.description.section import parts
from spurious.perturbations import build as builder
from spurious.perturbations.effect import Effect
from spurious.perturbations.entry import OnPosterior, follows_target, needs_training
from spurious.perturbations.initial_conditions import InitialConditions
from spurious.pipeline.inputs import BATCH, networks
from spurious.posteriors.posterior import Posterior
from spurious.posteriors.trained import Remembered, load
from spurious.processes import side_by_side
from spurious.search.families import build_family

COLUMNS = (
    "kl_perturbed_clean", "kl_clean_perturbed", "kl_symmetrised", "rms_counts", "abs_mean_change",
    "power_change_cosmic_contrast", "mean_power_change_raw", "mean_power_change_contrast",
)  # fmt: skip
"""Means that are compared, beside the shifts of the parameters and the KL of the other networks."""

ROUNDING = {"follows a gradient": 0.05, "fixed": 1e-3}
"""How far a number may be off, relative to the released one: where a perturbation follows a
network's gradient, the sign of a gradient near zero turns the last bits of a sum into a pixel."""
SMALLEST = 1e-6  # what is smaller than this is compared with this: P(k) that is kept is noise


@dataclass(frozen=True)
class Difference:
    """A number as it was released and as it is found now."""

    row: str
    column: str
    released: float
    found: float
    allowed: float

    @property
    def off(self) -> float:
        """How far they are apart, relative to the released one; nan if one of them is missing."""
        return abs(self.found - self.released) / max(abs(self.released), SMALLEST)

    @property
    def too_far(self) -> bool:
        """Whether that is more than is allowed."""
        return not self.off <= self.allowed

    def __str__(self) -> str:
        return (
            f"{self.column} of {self.row} is {self.found:.6g}, released as {self.released:.6g}: "
            f"off by {self.off:.1e}, allowed {self.allowed:.0e}"
        )


class Scene:
    """The networks of a set, each loaded when it is first needed."""

    def __init__(self, released: Released) -> None:
        self._released = released
        self.config: Config = released.config
        self._loaded: dict[tuple[str, int], Posterior] = {}
        self.memory: defaultdict[int, dict[bytes, np.ndarray]] = defaultdict(dict)

    def posterior(self, name: str, training: int = 1) -> Posterior:
        """A training of a posterior."""
        if (name, training) not in self._loaded:
            read = load(self._released.model(name, training))
            self._loaded[name, training] = Remembered(read)
        return self._loaded[name, training]

    @cached_property
    def targets(self) -> list[Posterior]:
        """All trainings of the target."""
        return [self.posterior(*one) for one in networks(self.config, self.config.run.target)]

    @cached_property
    def others(self) -> list[str]:
        """The other networks of the set."""
        found = {name for name, _ in self._released.models}
        return sorted(found - {self.config.run.target})


def names(config: Config) -> list[str]:
    """The attacks of the run that need neither training maps, simulations nor ensembles."""
    return [name for name in config.attacked if _repeatable(config, config.entries[name])]


def _repeatable(config: Config, settings: Perturbation) -> bool:
    on = {one for part in parts(settings) if (one := getattr(part, "on", None))}
    simulates = issubclass(settings.CLASS, InitialConditions)
    return not (needs_training(settings) or simulates or on - set(config.run.posteriors))


def compute(released: Released) -> Table:
    """The damage of each attack, and of each worst systematic, on the released maps.

    Attacks that follow the target's gradient are made on each of its trainings; all numbers are
    means over trainings and maps. Rows are made side by side in processes of one thread, so that
    they do not depend on the number of cores.
    """
    rows = [*names(released.config), *map(winner, released.winners)]
    tasks = [(released, name) for name in rows]
    processes = released.config.execution.processes
    made = side_by_side(_row_of, tasks, processes, desc="damage", unit="row")
    return dict(zip(rows, made, strict=True))


def _row_of(released: Released, name: str) -> dict[str, float]:
    """One row, in a process that may make several."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # every attack is a graph of its own
    if released.folder not in _scenes:
        _scenes.clear()
        _scenes[released.folder] = Scene(released)
    scene = _scenes[released.folder]
    return _row(scene, released.maps, _perturbed(scene, released, name))


# Of the set that this process works on: its rows share it.
_scenes: dict[Path, Scene] = {}


def _perturbed(scene: Scene, released: Released, name: str) -> list[MapSet]:
    """The perturbed maps for each training of the target."""
    clean, count = released.maps, len(scene.targets)
    if (settings := scene.config.entries.get(name)) is None:
        return [builder.apply(_worst(released, name), clean)] * count
    if follows_target(settings):
        return [_apply(scene, settings, clean, number) for number in range(count)]
    return [_apply(scene, settings, clean, 0)] * count


def _worst(released: Released, name: str) -> Effect:
    """The worst systematic of the family whose row has this name."""
    (found,) = (family for family in released.winners if winner(family) == name)
    config, box_size = released.config, released.maps.box_size
    family = build_family(found, config.search.families[found], box_size, config.seed)
    return family.effect(family.point(released.winners[found]))


def _apply(scene: Scene, settings: Perturbation, clean: MapSet, number: int) -> MapSet:
    perturbation = builder.build(
        settings,
        scene.targets[number],
        clean,
        scene.config.seed,
        others=scene.posterior,
        memory=scene.memory[number],
    )
    return builder.apply(perturbation, clean)


def _row(scene: Scene, clean: MapSet, perturbed: Sequence[MapSet]) -> dict[str, float]:
    pairs = list(zip(perturbed, scene.targets, strict=True))
    damages = [measure(clean.maps, one.maps, on, clean.box_size, BATCH) for one, on in pairs]
    groups = [clean.index] * len(damages)
    row = pooled_row(damages, scene.config.seed, groups)
    columns = [*COLUMNS, *(key for key in row if key.startswith("abs_shift_"))]
    numbers = {column: float(row[column]["mean"]) for column in columns}
    for end in ("low", "high"):
        numbers[f"kl_perturbed_clean.{end}"] = float(row["kl_perturbed_clean"][end])
    for name in scene.others:
        changes = [
            posterior_change(clean.maps, one.maps, scene.posterior(name), BATCH)
            for one in perturbed
        ]
        mean = np.mean([change.kl_perturbed_clean.mean() for change in changes])
        numbers[f"kl_perturbed_clean.{name}"] = float(mean)
    return numbers


def differences(config: Config, released: Table, found: Table) -> list[Difference]:
    """Every number of both tables, the furthest off first for what it is allowed."""
    every = []
    for row in dict.fromkeys([*released, *found]):
        allowed, one, other = rounding(config, row), released.get(row, {}), found.get(row, {})
        for column in dict.fromkeys([*one, *other]):
            pair = one.get(column, np.nan), other.get(column, np.nan)
            every.append(Difference(row, column, *pair, allowed))
    return sorted(every, key=lambda one: -np.nan_to_num(one.off / one.allowed, nan=np.inf))


def rounding(config: Config, row: str) -> float:
    """What a row's numbers may be off, relative."""
    settings = config.entries.get(row)
    return ROUNDING[
        "fixed" if settings is None or not _gradient(settings) else "follows a gradient"
    ]


def _gradient(settings: Any) -> bool:
    return any(isinstance(part, OnPosterior) for part in parts(settings))


def lines(released: Mapping[str, Any], found: Table) -> list[str]:
    """The table for a terminal: the KL of the run, as released, and as found now."""
    width = max(map(len, found))
    head = f"{'':{width}s} {'all test maps':>24s} {'released maps':>14s} {'here':>10s}"
    text = [head]
    for name, row in found.items():
        kl, run = row["kl_perturbed_clean"], released["run"].get(name, {})
        whole = f"{run['mean']:.3g} [{run['low']:.3g}, {run['high']:.3g}]" if run else ""
        then = released["rows"].get(name, {}).get("kl_perturbed_clean", np.nan)
        text.append(f"{name:{width}s} {whole:>24s} {then:14.4g} {kl:10.4g}")
    return text
