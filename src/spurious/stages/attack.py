"""Stage `attack`: groups of perturbations of the test maps, and the damage of each.

White-box attacks are made on every training of the target; perturbations that do not depend on the
target are made once and applied to all. A group that is killed goes on with the attacks on the
target that it has made.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from spurious import config as cfg
from spurious import tracking
from spurious.config import Config
from spurious.damage import (
    OF_TRAINING,
    Damage,
    mean_change,
    measure,
    pooled_row,
    posterior_change,
)
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet
from spurious.description.section import parts
from spurious.errors import UserError, nearest, shown
from spurious.figures import map_posteriors
from spurious.files import write_json
from spurious.perturbations import build as builder
from spurious.perturbations.entry import OnPosterior
from spurious.pipeline import comparable
from spurious.pipeline.inputs import batch, bystanders, check_models, files, test_set
from spurious.pipeline.kept_maps import KeptMaps, Made
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import Outputs, replaced_together
from spurious.pipeline.perturbing import Scene, depends_on, distinct, perturb
from spurious.pipeline.schemas import Summary, check, read
from spurious.posteriors.posterior import Posterior
from spurious.processes import side_by_side

# What a group's metrics file holds of each row; the rows themselves have all of it.
SUMMARY = (
    "n_maps", "n_trainings", "kl_perturbed_clean", "rms_counts", "abs_mean_change",
    "mean_power_change_raw", "mean_power_change_contrast",
)  # fmt: skip


def run(config: Config, names: Sequence[str]) -> None:
    """Perturb the test maps and measure the damage, group by group.

    Below `data/<scale>/attacks/<group>/` the maps of each attack are written, below
    `results/<scale>/attacks/<group>/` its row of damage, and beside these folders the metrics of
    the group.

    Args:
        config: has the attacks.
        names: groups, or single attacks, whose former results are replaced.

    Raises:
        UserError: a name is neither.
    """
    # Every attack is a graph of its own: TensorFlow would warn of that.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    groups, test, key = select_attacks(config, names), test_set(config), uuid4().hex
    check_models(config, [config.run.target, *bystanders(config)])  # before a run is opened
    if not test.simulated:
        _check_own(config, groups)
    for group, members in groups.items():
        _run_group(config, group, members, test, key)


def _check_own(config: Config, groups: Mapping[str, Sequence[str]]) -> None:
    """Refuse attacks that do not fit maps that were not simulated here, or their parameters."""
    scene = Scene(config)
    entries = {
        f"attacks.{group}.{name}": config.attacks[group][name]
        for group, names in groups.items()
        for name in names
    }
    check_entries(entries, scene.target, scene.test, config.seed, scene.training, scene.posterior)


def check_entries(
    entries: Mapping[str, cfg.Perturbation],
    posterior: Posterior,
    test: MapSet,
    seed: int,
    training: MapSet | None = None,
    others: builder.Others | None = None,
) -> None:
    """Refuse attacks that do not fit these parameters or maps, before the first starts.

    Args:
        entries: by key of params.yaml.
        posterior: the target.
        test: the maps.
        seed: root of random draws.
        training: other maps, where there are any.
        others: name -> another posterior, where there are any.

    Raises:
        UserError: names the key.
    """
    for key, entry in entries.items():
        try:
            for part in parts(entry):
                if isinstance(part, OnPosterior):
                    builder.build(part, posterior, test, seed, training, others)
        except UserError as error:
            raise UserError(f"{key}: {error}") from error


def select_attacks(config: Config, names: Sequence[str]) -> dict[str, list[str]]:
    """Group -> names of its attacks that were asked for.

    Raises:
        UserError: a name is neither a group nor an attack.
    """
    wanted: dict[str, list[str]] = {}
    home = {name: group for group, members in config.attacks.items() for name in members}
    for name in dict.fromkeys(names):
        if name not in config.attacks and name not in home:
            raise UserError(
                f"attack = {shown(name)}: must be a group, {', '.join(config.attacks)}, or one of "
                f"{', '.join(home)}{nearest(name, [*config.attacks, *home])}"
            )
        if name in config.attacks:
            wanted[name] = list(config.attacks[name])
        elif name not in wanted.get(home[name], []):
            wanted.setdefault(home[name], []).append(name)
    return wanted


def _run_group(config: Config, group: str, names: Sequence[str], test: MapSet, key: str) -> None:
    layout = Layout(config.scale)
    inputs = [layout.maps, *files(config, config.run.target)]
    metrics = layout.result(f"attacks/{group}.json")
    every, whole = config.attacks[group], set(names) == set(config.attacks[group])
    # Of single attacks, the metrics of the others in the group are kept.
    kept = {} if whole else _kept(metrics, every)
    results = outputs(layout, group) if whole else some_outputs(config, layout, group, names)
    with (
        tracking.start("attack", config.scale, inputs=inputs, tags={"group": group}) as log,
        replaced_together(f"attack-{group}", results) as out,
    ):
        log.params({"attacks": ",".join(names), "target": config.run.target, "seed": config.seed})
        log.dataset(test, layout.maps, context="test")
        folder = layout.checkpoints("attack") / group
        kept_maps = KeptMaps(folder, depends_on(config, every.values()))
        kept_maps.sweep()
        tasks = [(key, config, group, name, log, out, kept_maps) for name in names]
        made = side_by_side(_apart, tasks, config.execution.processes, desc=group, unit="attack")
        for name, row in zip(names, made, strict=True):
            kept[name] = {key: row[key] for key in SUMMARY}
            print(describe(name, row, config.run.target), flush=True)
        rows = {name: kept[name] for name in every if name in kept}
        log.metrics({f"{n}.kl": row["kl_perturbed_clean"]["mean"] for n, row in rows.items()})
        write_json(out.new(metrics), {"run_id": log.id, **rows})
        log.artifact(out.new(metrics))
    kept_maps.clear()


def outputs(layout: Layout, group: str) -> list[Path]:
    """What the stage writes of a whole group."""
    results = layout.result("attacks")
    return [results / f"{group}.json", results / group, layout.attacked(group, "").parent]


def some_outputs(config: Config, layout: Layout, group: str, names: Sequence[str]) -> list[Path]:
    """What it writes for single attacks; other results of their group stay."""
    numbers = range(1, config.trainings(config.run.target) + 1)
    return [
        layout.result(f"attacks/{group}.json"),
        *(layout.row(group, name) for name in names),
        *(layout.attacked(group, name, number) for name in names for number in numbers),
    ]


def _kept(path: Path, names: Container[str]) -> dict[str, Any]:
    """Rows of earlier calls, for attacks that the group still has."""
    if not path.exists():
        return {}
    rows = read(path, dict[str, Any])
    rows = {name: row for name, row in rows.items() if name in names}
    check(path, rows, dict[str, Summary])
    return rows


def _apart(
    key: str,
    config: Config,
    group: str,
    name: str,
    log: tracking.Run,
    out: Outputs,
    kept: KeptMaps,
) -> dict[str, Any]:
    """One attack as its own run, in a process that may make several."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if key not in _scenes:
        _scenes.clear()
        _scenes[key] = Scene(config)
    with log.child(name, {"attack": name}) as own:
        return _attack(_scenes[key], group, name, own, out, kept)


# Of the stage's run that this process works for: its attacks share it.
_scenes: dict[str, Scene] = {}


def _attack(
    scene: Scene, group: str, name: str, log: tracking.Run, out: Outputs, kept: KeptMaps
) -> dict[str, Any]:
    """One row of damage: perturb, measure, write, log."""
    config, layout = scene.config, Layout(scene.config.scale)
    settings = config.attacks[group][name]
    about = {"seed": config.seed, "target": config.run.target}
    log.document(settings.model_dump(mode="json") | about, "parameters.json")
    made = perturb(scene, settings, name, kept)
    damages = [
        measure(*one.pair, target, one.clean.box_size, batch(one.clean))
        for one, target in zip(made, scene.targets, strict=True)
    ]
    row = pooled_row(damages, config.seed, [one.clean.index for one in made])
    row |= {"parameters": made[0].parameters, "target": config.run.target, "group": group}
    row["trainings"] = [
        _of_training(damage, one, config.seed) for damage, one in zip(damages, made, strict=True)
    ]
    row["others"] = {other: _seen_by(scene, other, made) for other in scene.bystanders}
    if len(distinct(made)) > 1:
        row["retrained"] = _retrained(scene, made)
    perturbed = [one.perturbed for one in distinct(made)]
    keep(row, perturbed, settings, layout, group, name, out, log)
    keep_extremes(log, scene, name, made[0], damages[0], out.scratch)
    return row


def keep(
    row: Mapping[str, Any],
    perturbed: Sequence[MapSet],
    settings: cfg.Perturbation,
    layout: Layout,
    group: str,
    name: str,
    out: Outputs,
    log: tracking.Run,
) -> None:
    """Write one attack's row and its maps, one set for each training; log what is compared."""
    for number, maps in enumerate(perturbed, start=1):
        write_maps(out.new(layout.attacked(group, name, number)), maps)
    write_json(out.new(layout.row(group, name)), {"run_id": log.id, **row})
    log.artifact(out.new(layout.row(group, name)))
    log.params(
        comparable.parameters(group, settings.kind, settings.CLASS, settings, row["parameters"])
    )
    log.metrics(comparable.numbers(row))


def _of_training(damage: Damage, made: Made, seed: int) -> dict[str, Any]:
    """The part of a row about one training, with intervals over its maps alone."""
    row = damage.row(seed, made.clean.index)
    return {key: row[key] for key in OF_TRAINING} | {"parameters": made.parameters}


def _seen_by(scene: Scene, name: str, made: Sequence[Made]) -> dict[str, Any]:
    """The damage to another posterior, pooled over the trainings that were attacked."""
    once, posterior = distinct(made), scene.posterior(name)
    changes = [posterior_change(*one.pair, posterior, batch(one.clean)) for one in once]
    return pooled_row(changes, scene.config.seed, [one.clean.index for one in once])


def _retrained(scene: Scene, made: Sequence[Made]) -> dict[str, Any]:
    """The damage to the other trainings, averaged for each training that was attacked."""
    changes, groups = [], []
    for i, one in enumerate(made):
        others = [target for j, target in enumerate(scene.targets) if j != i]
        changes.append(
            mean_change([posterior_change(*one.pair, o, batch(one.clean)) for o in others])
        )
        groups.append(one.clean.index)
    return pooled_row(changes, scene.config.seed, groups)


def keep_extremes(
    log: tracking.Run, scene: Scene, name: str, made: Made, damage: Damage, scratch: Path
) -> None:
    """Log the maps with the largest, median and smallest damage, a figure, and `made.extras`."""
    rows = extreme_rows(damage.kl_perturbed_clean)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for kind, data in (("clean", made.clean), ("perturbed", made.perturbed)):
            write_maps(Path(folder) / f"{kind}.h5", data.take(rows))
        for extra, values in made.extras.items():
            np.save(Path(folder) / f"{extra}.npy", values)
        log.artifacts(Path(folder), "extremes")
    ends = rows[[0, -1]] if len(rows) > 1 else rows
    kl = damage.kl_perturbed_clean[ends]
    titles = [f"{kind}: KL {x:.3g} nat" for kind, x in zip(("worst", "least"), kl, strict=False)]
    axes = map_posteriors.grid(scene.test.labels, scene.test.names)
    figure = map_posteriors.extremes(
        name, titles, ends, made.clean, made.perturbed, scene.targets[0], axes
    )
    log.figure(figure, "extremes.png")


def extreme_rows(damage: np.ndarray) -> np.ndarray:
    """Rows of the largest, the middle and the smallest of (n,) numbers; fewer if n < 3."""
    order = np.argsort(-damage, kind="stable")
    return order[np.unique([0, (len(order) - 1) // 2, len(order) - 1])]


def describe(name: str, row: Mapping[str, Any], target: str) -> str:
    """The damage to every posterior in one line."""
    kls = {target: row, **row["others"]}
    means = ", ".join(f"{one} {kl['kl_perturbed_clean']['mean']:.3g}" for one, kl in kls.items())
    return f"{name}: KL(perturbed ‖ clean) of {means}"
