"""Stage `attack`: groups of perturbations of the test maps, and the damage of each."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spurious import config as cfg
from spurious import entries, tracking
from spurious.config import Config
from spurious.config.attacks import InitialConditions, Universal
from spurious.config.quantities import parts
from spurious.damage import Damage, measure, posterior_change
from spurious.errors import UserError
from spurious.files import read_json, write_json
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet, write_maps
from spurious.stages import examples
from spurious.stages.inputs import BATCH, Posteriors, bystanders, files, test_set, training_set
from spurious.stages.layout import Layout

# What a group's metrics file holds of each row; the rows themselves have all of it.
SUMMARY = (
    "n_maps", "kl_perturbed_clean", "rms_counts", "mean_power_change_raw",
    "mean_power_change_contrast",
)  # fmt: skip


class Scene:
    """What all attacks of one process share, each loaded when it is first needed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.posterior = Posteriors(config)
        self.memory: dict[bytes, np.ndarray] = {}

    @cached_property
    def test(self) -> MapSet:
        """The maps that are attacked."""
        return test_set(self.config)

    @cached_property
    def training(self) -> MapSet:
        """The maps on which the target was trained."""
        return training_set(self.config)

    @property
    def target(self) -> Posterior:
        """What is attacked."""
        return self.posterior(self.config.run.target)


def run(config: Config, names: Sequence[str]) -> None:
    """Perturb and measure, group by group.

    Below `data/<scale>/attacks/<group>/` the maps of each attack are written, below
    `results/<scale>/attacks/<group>/` its row of damage, and beside these folders the metrics of
    the group.

    Args:
        config: has the attacks.
        names: groups, or single attacks, which replace what is there of them.

    Raises:
        UserError: a name is neither.
    """
    # Every attack is a graph of its own: TensorFlow would warn of that.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    scene = Scene(config)
    for group, members in chosen(config, names).items():
        _run_group(scene, group, members)


def chosen(config: Config, names: Sequence[str]) -> dict[str, list[str]]:
    """Group -> names of its attacks that were asked for.

    Raises:
        UserError: a name is neither a group nor an attack.
    """
    wanted: dict[str, list[str]] = {}
    home = {name: group for group, members in config.attacks.items() for name in members}
    for name in dict.fromkeys(names):
        if name not in config.attacks and name not in home:
            raise UserError(
                f"attack = {name!r}: must be a group, {', '.join(config.attacks)}, or one of "
                f"{', '.join(home)}"
            )
        if name in config.attacks:
            wanted[name] = list(config.attacks[name])
        elif name not in wanted.get(home[name], []):
            wanted.setdefault(home[name], []).append(name)
    return wanted


def _run_group(scene: Scene, group: str, names: Sequence[str]) -> None:
    config, layout = scene.config, Layout(scene.config.scale)
    test, _ = scene.test, scene.target  # missing files are named before a run is opened
    inputs = [layout.maps, *files(config, config.run.target)]
    metrics = layout.result(f"attacks/{group}.json")
    with tracking.start("attack", config.scale, inputs=inputs, tags={"group": group}) as log:
        log.params({"attacks": ",".join(names), "target": config.run.target, "seed": config.seed})
        log.dataset(test, layout.maps, context="test")
        rows = read_json(metrics) if metrics.exists() else {}
        rows = {name: row for name, row in rows.items() if name in config.attacks[group]}
        for name in tqdm(names, desc=group, unit="attack", delay=2, leave=False):
            with log.child(name, {"attack": name}) as own:
                row = _attack(scene, group, name, own)
            rows[name] = {key: row[key] for key in SUMMARY}
            tqdm.write(told(name, row, config.run.target))
        log.metrics({f"{n}.kl": row["kl_perturbed_clean"]["mean"] for n, row in rows.items()})
        write_json(metrics, {"run_id": log.id, **rows})
        log.artifact(metrics)


def _attack(scene: Scene, group: str, name: str, log: tracking.Run) -> dict[str, Any]:
    """One row of damage: perturb, measure, write, log."""
    config, layout = scene.config, Layout(scene.config.scale)
    settings = config.attacks[group][name]
    log.params(settings.model_dump() | {"seed": config.seed, "target": config.run.target})
    test, perturbed, used, extras = perturb(scene, settings)
    damage = measure(test.maps, perturbed.maps, scene.target, test.box_size, BATCH)
    row = damage.row(config.seed, test.index)
    row |= {"parameters": used, "target": config.run.target, "group": group}
    row["others"] = {
        other: posterior_change(test.maps, perturbed.maps, scene.posterior(other), BATCH).row(
            config.seed, test.index
        )
        for other in bystanders(config)
    }
    write_maps(layout.attacked(group, name), perturbed)
    write_json(layout.result(f"attacks/{group}/{name}.json"), {"run_id": log.id, **row})
    log.metrics(tracking.numbers(row))
    for other, change in row["others"].items():
        log.metrics({f"{other}.{k}": v for k, v in tracking.numbers(change).items()})
    log.series(series(row))
    keep_extremes(log, scene, name, (test, perturbed), damage, extras)
    return row


def perturb(
    scene: Scene, settings: cfg.Perturbation
) -> tuple[MapSet, MapSet, dict[str, float], dict[str, np.ndarray]]:
    """What a perturbation makes of the test maps, or of those that its entry asks for.

    Returns:
        The clean maps, the same perturbed, the numbers that describe how, and arrays that the
        perturbation tells beside its maps.
    """
    config, test = scene.config, entries.some_maps(settings, scene.test)
    if isinstance(settings, InitialConditions):
        adversary = entries.build_initial_conditions(
            settings,
            scene.target,
            config.simulation,
            config.background,
            config.seed,
            scene.posterior,
        )
        universes = adversary.perturb(test.seeds, test.labels, test.axis)
        return test, replace(test, maps=universes.maps), entries.parameters(adversary), {}
    needs = any(isinstance(part, Universal) for part in parts(settings))
    training = scene.training if needs else None
    perturbation = entries.build(
        settings, scene.target, test, config.seed, training, scene.posterior, scene.memory
    )
    perturbed = entries.apply(perturbation, test)
    return test, perturbed, entries.parameters(perturbation), entries.extras(perturbation)


def keep_extremes(
    log: tracking.Run,
    scene: Scene,
    name: str,
    pair: tuple[MapSet, MapSet],
    damage: Damage,
    extras: Mapping[str, np.ndarray],
) -> None:
    """The maps that were hurt most, middling and least, two of them drawn; and `extras`."""
    rows = extreme_rows(damage.kl_perturbed_clean)
    with tempfile.TemporaryDirectory() as folder:
        for kind, data in zip(("clean", "perturbed"), pair, strict=True):
            write_maps(Path(folder) / f"{kind}.h5", data.take(rows))
        for extra, values in extras.items():
            np.save(Path(folder) / f"{extra}.npy", values)
        log.artifacts(Path(folder), "extremes")
    ends = rows[[0, -1]] if len(rows) > 1 else rows
    kl = damage.kl_perturbed_clean[ends]
    titles = [f"{kind}: KL {x:.3g} nat" for kind, x in zip(("worst", "least"), kl, strict=False)]
    axes = examples.grid(scene.test.labels)
    figure = examples.extremes(name, titles, ends, *pair, scene.target, axes)
    log.figure(figure, "extremes.png")


def extreme_rows(damage: np.ndarray) -> np.ndarray:
    """Rows of the largest, the middle and the smallest of (n,) numbers; fewer if n < 3."""
    order = np.argsort(-damage, kind="stable")
    return order[np.unique([0, (len(order) - 1) // 2, len(order) - 1])]


def told(name: str, row: Mapping[str, Any], target: str) -> str:
    """The damage to every posterior in one line."""
    kls = {target: row, **row["others"]}
    means = ", ".join(f"{one} {kl['kl_perturbed_clean']['mean']:.3g}" for one, kl in kls.items())
    return f"{name}: KL(perturbed ‖ clean) of {means}"


def series(row: Mapping[str, Any]) -> dict[str, list[float]]:
    """The change of the mean power spectrum, bin by bin."""
    spectrum = row["spectrum"]
    return {
        f"change_of_{kind}_power": spectrum[kind]["mean_change"] for kind in ("raw", "contrast")
    }
