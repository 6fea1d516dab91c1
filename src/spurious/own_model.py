"""Attacks on a user's own model and maps, and their audit; not part of dvc.yaml."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spurious import tracking
from spurious.config import Config, Perturbation
from spurious.damage import Damage, measure
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.description.lookup import module_of
from spurious.errors import UserError
from spurious.files import inside, md5
from spurious.perturbations.build import apply, build, parameters
from spurious.perturbations.entry import some_maps
from spurious.pipeline.figure_files import figure_files, save_figures
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import Outputs, replaced_together
from spurious.posteriors.own import is_function, of_parameters, opened
from spurious.posteriors.posterior import Posterior
from spurious.posteriors.trained import NetworkPosterior, predict
from spurious.progress import track
from spurious.report.damage_table import draw_damage, format_table, write_table
from spurious.stages import audit as stage
from spurious.stages.attack import check_entries, keep, select_attacks


@dataclass(frozen=True)
class Own(Layout):
    """Files below one folder; `scale` is the model's name."""

    folder: Path

    def attacked(self, group: str, attack: str, training: int = 1) -> Path:
        """The maps as changed by one perturbation, whatever its group; a model is one training."""
        return inside(self.folder, f"attacks/{attack}.h5")

    def row(self, group: str, attack: str) -> Path:
        """The damage that one perturbation did, whatever its group."""
        return self.result(f"attacks/{attack}.json")

    def result(self, name: str) -> Path:
        """A table, a metrics file or a figure."""
        return inside(self.folder, name)


def run(
    config: Config,
    model: str,
    maps: Path,
    scaling: Path | None = None,
    out: Path | None = None,
    names: Sequence[str] = (),
    imports: Sequence[str] = (),
) -> None:
    """Attack; write below `out` one row and the maps of each attack, a table and two figures.

    Args:
        config: has the attacks and the seed.
        model: a `.keras` file, of this package or any other, or what else
            `spurious.posteriors.own.opened` takes.
        maps: a file of `spurious.data.hdf5`; all its maps are attacked.
        scaling: units of the model; for models that are not of this package.
        out: by default results/own/<name of the model>.
        names: attacks or groups of them; by default the first group of `run.attacks`.
        imports: modules that register layers of the model.

    Raises:
        UserError: model, maps, scaling and attacks do not fit together.
    """
    # Every attack is a graph of its own: TensorFlow would warn of that.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    groups = select_attacks(config, names or config.run.attacks[:1])
    every = {name: config.attacks[group][name] for group in groups for name in groups[group]}
    data = read_maps(maps)
    posterior = opened(model, scaling, data, maps, imports)
    test = tested(data, posterior, maps)
    entries = {f"attacks.{name}": entry for name, entry in every.items()}
    check_entries(entries, posterior, test, config.seed)
    print(clean_scores(test, posterior, model))
    layout = _layout(model, out)
    rows = {}
    with (
        tracking.start("attack", layout.scale) as log,
        replaced_together("attack", outputs(layout, every)) as outs,
    ):
        log.params({"attacks": ",".join(every), "seed": config.seed, **_inputs(model, maps)})
        log.dataset(test, maps, context="test")
        for name in track(every, name="attacks", unit="attack"):
            with log.child(name, {"attack": name}) as own:
                row = _attacked(every[name], name, posterior, test, layout, outs, own, config.seed)
                rows[name] = row
        write_table(outs.new(layout.result("attacks.csv")), rows)
        log.artifact(outs.new(layout.result("attacks.csv")))
        save_figures(outs, layout, log, draw_damage(rows, {}))
    tracking.show_attacks(layout.scale, {row["run_id"]: {} for row in rows.values()})
    print(format_table(rows))
    print(f"written to {layout.folder}")


def outputs(layout: Own, names: Iterable[str]) -> list[Path]:
    """What these attacks write; results of other attacks stay."""
    tables = [layout.result("attacks.csv"), *figure_files(layout, "spectra", "damage")]
    rows = [layout.row("", name) for name in names]
    return [*tables, *rows, *(layout.attacked("", name) for name in names)]


def audit(
    config: Config,
    model: str,
    maps: Path,
    scaling: Path | None = None,
    out: Path | None = None,
    imports: Sequence[str] = (),
) -> None:
    """Curves and checks of damage to that model; arguments and errors are those of `run`."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    data = read_maps(maps)
    posterior = opened(model, scaling, data, maps, imports)
    test = tested(data, posterior, maps)
    test = stage.sample_maps(test, config.audit.maps, config.seed)
    layout = _layout(model, out)
    with (
        tracking.start("audit", layout.scale) as log,
        replaced_together("audit", stage.outputs(layout)) as outs,
    ):
        log.params(_inputs(model, maps))
        log.dataset(test, maps, context="test")
        found = stage.examine(config, layout, outs, log, layout.scale, posterior, test, {})
    print(stage.format_checks(found))
    print(f"written to {layout.folder}")


def tested(data: MapSet, posterior: Posterior, path: Path) -> MapSet:
    """The maps with the labels of the posterior's parameters, in its order.

    Raises:
        UserError: a label is missing, or the maps have another size.
    """
    labels = of_parameters(data, posterior.names, path)
    if isinstance(posterior, NetworkPosterior):  # another says so itself
        n, own = data.maps.shape[-1], posterior.model.input_shape[1]
        if n != own:
            raise UserError(f"{path} has maps of {n} x {n} pixels: the model takes {own} x {own}")
    return replace(data, labels=labels, names=tuple(posterior.names))


def clean_scores(test: MapSet, posterior: Posterior, model: str) -> str:
    """Errors of the posteriors before any attack, in units of their widths: shows wrong units.

    Raises:
        UserError: a posterior has no mean or width.
    """
    found = predict(posterior, test.maps)
    mean, std = np.asarray(found.mean()), np.asarray(found.stddev())
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and std.min() > 0):
        raise UserError(
            f"{model} gives posteriors that are not finite, or of no width, on the maps"
        )
    rms = np.sqrt(np.mean(((mean - test.labels) / std) ** 2, axis=0))
    scores = ", ".join(f"{z:.3g} in {name}" for z, name in zip(rms, test.names, strict=True))
    right = "1 if model and scaling are right"
    if getattr(posterior, "widths", None) is not None:
        right = "1 by construction: its widths are its errors on these maps"
    return f"RMS z-score of the {len(test)} clean maps: {scores} ({right})"


def _attacked(
    settings: Perturbation,
    name: str,
    posterior: Posterior,
    test: MapSet,
    layout: Own,
    out: Outputs,
    log: tracking.Run,
    seed: int,
) -> dict[str, Any]:
    """Perturb, measure, write and log: the row of damage of one attack."""
    log.document(settings.model_dump(mode="json"), "parameters.json")
    test = some_maps(settings, test)
    try:
        perturbation = build(settings, posterior, test, seed)
    except (UserError, ValueError) as error:  # no amplitude that matches
        raise UserError(f"attacks.{name}: {error}") from error
    perturbed = apply(perturbation, test)
    damage = measure(test.maps, perturbed.maps, posterior, test.box_size)
    _check_finite(damage, name, layout.scale)
    row = damage.row(seed, test.index) | {"parameters": parameters(perturbation)}
    keep(row, [perturbed], settings, layout, "", name, out, log)
    return row | {"run_id": log.id}


def _check_finite(damage: Damage, name: str, model: str) -> None:
    numbers = damage.kl_perturbed_clean, damage.kl_clean_perturbed, damage.shift
    if not all(np.isfinite(values).all() for values in numbers):
        raise UserError(
            f"attacks.{name}: {model} gives posteriors on the attacked maps that are not finite, "
            "or too far off for a KL"
        )


def _layout(model: str, out: Path | None) -> Own:
    """Where results are: by the name of the file, the folder or the function."""
    name = model.rpartition(":")[2] if is_function(model) else Path(model).stem
    return Own(name, out or inside(Path("results/own"), name))


def _inputs(model: str, maps: Path) -> dict[str, str]:
    """Inputs of a run, as parameters: a tag's name must not contain a path."""
    return {"model": model, "model_md5": _digest(model), "maps": str(maps), "maps_md5": md5(maps)}


def _digest(model: str) -> str:
    """Of a file; of the files of a SavedModel; of the module of a function."""
    if is_function(model):
        source = getattr(module_of(model.partition(":")[0]), "__file__", None)
        return md5(Path(source)) if source else ""
    if Path(model).is_dir():
        files = sorted(path for path in Path(model).rglob("*") if path.is_file())
        return hashlib.md5("".join(map(md5, files)).encode(), usedforsecurity=False).hexdigest()
    return md5(Path(model))
