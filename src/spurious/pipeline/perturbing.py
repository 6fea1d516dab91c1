"""The test maps as a perturbation changes them, on every training of the target."""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from spurious import config as cfg
from spurious.config import Config
from spurious.data.maps import MapSet
from spurious.data.splits import evenly_spaced
from spurious.description.section import parts
from spurious.files import md5
from spurious.perturbations import build as builder
from spurious.perturbations.entry import Entry, follows_target, needs_training, some_maps
from spurious.perturbations.initial_conditions import InitialConditions
from spurious.pipeline import code
from spurious.pipeline.experiment import Experiment
from spurious.pipeline.kept_maps import KeptMaps, Made
from spurious.pipeline.layout import Layout


class Scene(Experiment):
    """What all attacks of one process share."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        # For each training: what several entries build on is made once.
        self.memory: defaultdict[int, dict[bytes, np.ndarray]] = defaultdict(dict)


def perturb(scene: Scene, settings: cfg.Perturbation, name: str, kept: KeptMaps) -> list[Made]:
    """Perturb the test maps, or those of them that the entry selects.

    Returns:
        One for each training of the target; the same object for all if the target does not matter.
    """
    trainings = range(1, len(scene.targets) + 1)
    if not follows_target(settings):  # a moment's work
        return [_made(scene, settings, 1)] * len(trainings)
    return [
        kept.get(
            f"{name}.{number}",
            _clean(scene, settings, number),
            partial(_made, scene, settings, number),
        )
        for number in trainings
    ]


def distinct(made: Sequence[Made]) -> Sequence[Made]:
    """One if all trainings share it, else all."""
    return made[:1] if all(one is made[0] for one in made) else made


def _clean(scene: Scene, settings: cfg.Perturbation, number: int) -> MapSet:
    """The maps that are perturbed on one training; those after the first have a share of them."""
    test = some_maps(settings, scene.test)
    if number > 1:
        test = test.take(evenly_spaced(len(test), scene.config.damage.count(len(test))))
    return test


def _made(scene: Scene, settings: cfg.Perturbation, number: int) -> Made:
    """One perturbation on one training."""
    config, target = scene.config, scene.targets[number - 1]
    test = _clean(scene, settings, number)
    if issubclass(settings.CLASS, InitialConditions):
        adversary = builder.build_initial_conditions(
            settings, target, config.simulation, config.background, config.seed, scene.posterior
        )
        universes = adversary.perturb(test.seeds, test.labels, test.axis)
        return Made(test, replace(test, maps=universes.maps), builder.parameters(adversary), {})
    training = scene.training if needs_training(settings) else None
    perturbation = builder.build(
        settings, target, test, config.seed, training, scene.posterior, scene.memory[number]
    )
    perturbed = builder.apply(perturbation, test)
    return Made(test, perturbed, builder.parameters(perturbation), builder.extras(perturbation))


def depends_on(config: Config, entries: Iterable[cfg.Perturbation]) -> str:
    """What identifies maps that were perturbed: parameters, maps, networks and code.

    Args:
        config: has all parameters.
        entries: the perturbations, whose classes may lie in modules of the user's own.
    """
    layout = Layout(config.scale)
    networks = layout.posterior(config.run.target).parents[1].rglob("*.keras")
    classes = {one.CLASS for e in entries for one in parts(e) if isinstance(one, Entry)}
    files_of = {sys.modules[one.__module__].__file__ for one in classes if not _is_ours(one)}
    kept = [
        config.model_dump_json(exclude={"execution"}),
        *map(md5, [layout.maps, *sorted(networks)]),
        code.fingerprint("attack", sorted(Path(path) for path in files_of if path)),
    ]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _is_ours(one: type) -> bool:
    return one.__module__.partition(".")[0] == "spurious"
