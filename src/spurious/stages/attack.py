"""Stage `attack`: one perturbation of all test maps, and its damage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from spurious import config as cfg
from spurious import tracking
from spurious.config import Config
from spurious.config.attacks import InitialConditions, Universal, WhiteBox
from spurious.damage import measure, posterior_change
from spurious.errors import UserError
from spurious.files import write_json
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet, write_maps
from spurious.perturbations.base import Perturbation
from spurious.perturbations.noise import RandomSign
from spurious.perturbations.systematics import Logistic, matched
from spurious.stages import examples
from spurious.stages.inputs import bystanders, files, target, test_set, training_set
from spurious.stages.inputs import posterior as load
from spurious.stages.layout import Layout
from spurious.stages.systematics import build_systematic
from spurious.stages.white_box import build_attack, build_initial_conditions


def run(config: Config, name: str) -> None:
    """Perturb, measure; write `data/<scale>/attacks/<name>.h5` and its row of damage."""
    if name not in config.attacks:
        raise UserError(f"attack = {name!r}: must be one of {', '.join(config.attacks)}")
    layout, settings = Layout(config.scale), config.attacks[name]
    test, posterior = test_set(config), target(config)
    inputs = [layout.maps, *files(config, config.run.target)]
    with tracking.start("attack", config.scale, inputs=inputs, tags={"attack": name}) as log:
        log.params(settings.model_dump() | {"seed": config.seed, "target": config.run.target})
        log.dataset(test, layout.maps, context="test")
        test, perturbed, used = perturb(config, settings, posterior, test)
        damage = measure(test.maps, perturbed.maps, posterior, test.box_size)
        row = damage.row(config.seed, test.index)
        row |= {"parameters": used, "target": config.run.target}
        row["others"] = others(config, test, perturbed)
        write_maps(layout.attacked(name), perturbed)
        write_json(layout.result(f"attacks/{name}.json"), {"run_id": log.id, **row})
        log.metrics(tracking.numbers(row))
        for other, change in row["others"].items():
            log.metrics({f"{other}.{k}": v for k, v in tracking.numbers(change).items()})
        log.series(series(row))
        log.figure(examples.workflow(0, test, {name: perturbed}, posterior), "example.png")
    for one, change in {config.run.target: row, **row["others"]}.items():
        kl = change["kl_perturbed_clean"]
        print(
            f"{name} on {one}: KL(perturbed ‖ clean) = {kl['mean']:.3g} "
            f"[{kl['low']:.3g}, {kl['high']:.3g}]"
        )


def others(config: Config, test: MapSet, perturbed: MapSet) -> dict[str, dict[str, Any]]:
    """The damage to every other posterior that was not trained on these maps."""
    return {
        name: posterior_change(test.maps, perturbed.maps, load(config, name)).row(
            config.seed, test.index
        )
        for name in bystanders(config)
    }


def perturb(
    config: Config, settings: cfg.Perturbation, posterior: Posterior, test: MapSet
) -> tuple[MapSet, MapSet, dict[str, float]]:
    """The clean maps that were attacked, the same perturbed, and the numbers that describe how."""
    if isinstance(settings, InitialConditions):
        adversary = build_initial_conditions(
            settings, posterior, config.simulation, config.background, config.seed
        )
        test = test.take(np.arange(min(settings.maps, len(test))))
        universes = adversary.perturb(test.seeds, test.labels, test.axis)
        return test, replace(test, maps=universes.maps), parameters(adversary)
    training = training_set(config) if isinstance(settings, Universal) else None
    perturbation = build(settings, posterior, test, config.seed, training)
    return test, apply(perturbation, test), parameters(perturbation)


def build(
    settings: cfg.Perturbation,
    posterior: Posterior,
    test: MapSet,
    seed: int,
    training: MapSet | None = None,
) -> Perturbation:
    """The perturbation that an entry of params.yaml describes, its budgets turned into counts.

    Args:
        settings: the entry, not one that acts on simulations.
        posterior: what is attacked.
        test: the maps to perturb.
        seed: root of its random draws.
        training: other maps, which kind `universal` needs.
    """
    if isinstance(settings, InitialConditions):
        raise UserError("kind initial_conditions acts on simulations, not on any maps")
    if isinstance(settings, cfg.RandomSign):
        return RandomSign(settings.epsilon.counts(posterior.standardiser.std), seed)
    if isinstance(settings, WhiteBox):
        return build_attack(settings, posterior, test, seed, training)
    if not isinstance(settings, cfg.Logistic):
        return build_systematic(settings, posterior, test, seed)
    if isinstance(settings.beta, cfg.Density):
        return Logistic(settings.a.value, settings.b, settings.beta.value)
    other = apply(build(settings.beta.match, posterior, test, seed, training), test)
    mean_square = np.mean((other.maps.astype(np.float64) - test.maps) ** 2)
    unit = Logistic(settings.a.value, settings.b, 1.0)
    return matched(unit, test.maps, float(mean_square))


def apply(perturbation: Perturbation, data: MapSet) -> MapSet:
    """The data set with its maps perturbed."""
    return replace(data, maps=perturbation(data.maps, data.labels).numpy())


def parameters(perturbation: Any) -> dict[str, float]:
    """The numbers that describe a perturbation after budgets and matching, in counts."""
    return {
        name: value
        for name, value in vars(perturbation).items()
        if isinstance(value, int | float) and name not in ("seed", "batch_size")
    }


def series(row: Mapping[str, Any]) -> dict[str, list[float]]:
    """The change of the mean power spectrum, bin by bin."""
    spectrum = row["spectrum"]
    return {
        f"change_of_{kind}_power": spectrum[kind]["mean_change"] for kind in ("raw", "contrast")
    }
