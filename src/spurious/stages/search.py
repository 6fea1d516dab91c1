"""Stage `search`: the worst systematic of each family, and whether it holds on other maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spurious import figures, tracking
from spurious.config import Config
from spurious.files import md5, read_json, write_json
from spurious.search import artifacts, study
from spurious.search.families import Family, build_families
from spurious.search.front import FrontPoint, front
from spurious.search.objective import Objective
from spurious.search.result import Found, Result
from spurious.stages.inputs import files
from spurious.stages.layout import STUDY, Layout
from spurious.stages.output import save_figures
from spurious.stages.winners import (
    Witnesses,
    ceilings,
    confirmed,
    papers,
    pictures,
    transfer,
)
from spurious.studies import chosen, open_study

ARTIFACTS = Path("mlruns/optuna-artifacts")
KEPT = 8  # trials of a study that are runs of their own
HURT = 0.1  # of the target's KL, from where on a systematic counts as transferred
FRONT_STEPS = 6  # SLSQP iterations of a climb, which begins near its end
FRONT_STARTS = 2  # trials from which a front is climbed: where the fence is low, another may win
APART = 0.2  # distance in the cube between them


@dataclass(frozen=True)
class Searched:
    """What was found of one family."""

    family: Family
    result: Result
    fronts: dict[str, list[FrontPoint]]

    @property
    def told(self) -> Found | None:
        """The winner, or else what is nearest to the fences."""
        return self.result.best or self.result.closest


def run(config: Config, storage: str | None = None, worker: bool = False) -> None:
    """Search on some test maps, confirm on the others; write the studies, metrics and figures.

    Args:
        config: the configuration.
        storage: where the studies are, see `spurious.studies`; by default what the
            environment says, or a file below `mlruns/`.
        worker: only work on the studies, beside others, and write nothing else.
    """
    place, witnesses = chosen(storage, STUDY), Witnesses(config)
    if worker:
        for objective in objectives(witnesses):
            _search(witnesses, objective, place)
        return
    layout = Layout(config.scale)
    inputs = [layout.maps, *files(config, config.run.target)]
    with tracking.start("search", config.scale, inputs=inputs) as log:
        log.params(config.search.model_dump() | {"seed": config.seed})
        log.dataset(witnesses.searched, layout.maps, context="search")
        searched, families = {}, {}
        for objective in objectives(witnesses):
            name = objective.family.name
            found = _search(witnesses, objective, place)
            searched[name] = Searched(objective.family, found, _fronts(config, objective, found))
            families[name] = outcome(witnesses, searched[name])
            with log.child(f"study {name}", {"family": name}) as own:
                _track(own, searched[name], families[name])
            _illustrate(witnesses, searched[name], place)
        metrics = headline(witnesses, searched, families)
        write_json(
            layout.result("study.json"),
            {
                name: one.result.to_json() | {"front": _listed(one)}
                for name, one in searched.items()
            },
        )
        write_json(
            layout.result("search.json"),
            {"run_id": log.id, **metrics, "families": families, "front": _curves(searched)},
        )
        log.metrics(_numbers(metrics))
        for name, row in metrics["transfer"].items():
            log.metrics({f"transfer.{name}.{k}": v for k, v in tracking.numbers(row).items()})
        for name in ("study.json", "search.json"):
            log.artifact(layout.result(name))
        histories = {name: _history(one.result) for name, one in searched.items()}
        save_figures(layout, log, histories, "search")
        save_figures(layout, log, drawn(config, searched, metrics))
    for name, family in families.items():
        print(told(name, family))


def objectives(witnesses: Witnesses) -> list[Objective]:
    """One for each family, on the maps of the search."""
    config, data = witnesses.config, witnesses.searched
    families = build_families(config.search, data.box_size, config.seed)
    return [
        study.build_objective(config.search, family, data.maps, witnesses.target, data.box_size)
        for family in families.values()
    ]


def _search(witnesses: Witnesses, objective: Objective, storage: str | Path) -> Result:
    config, data = witnesses.config, witnesses.searched
    networks = [md5(path) for path in files(config, config.run.target)]
    maps = study.maps_fingerprint(data.maps, data.box_size)
    fingerprint = " ".join([maps, *networks])
    return study.run(config.search, objective, storage, config.seed, fingerprint)


def _fronts(config: Config, objective: Objective, found: Result) -> dict[str, list[FrontPoint]]:
    """Along each fence of `search.front`, from the best that was found."""
    starts = _bests(objective.family, found)
    if not starts:
        return {}
    limits, heights = config.search.fences.limits, config.search.front
    return {
        fence: front(objective, starts, fence, along, limits, FRONT_STEPS)
        for fence in type(heights).model_fields
        if (along := getattr(heights, fence))
    }


def _bests(family: Family, found: Result) -> list[np.ndarray]:
    """Points (d,) of the best trials that lie apart; if none is feasible, of the closest."""
    feasible = [one for one in found.history if one.feasible]
    ranked = sorted(feasible, key=lambda one: one.value, reverse=True)
    points: list[np.ndarray] = []
    for one in ranked or [one for one in [found.closest] if one is not None]:
        point = family.point(one.parameters)
        if all(np.linalg.norm(point - other) > APART for other in points):
            points.append(point)
    return points[:FRONT_STARTS]


def outcome(witnesses: Witnesses, searched: Searched) -> dict[str, Any]:
    """What is told of a family: the winner, or the closest, on both halves of the test maps."""
    result, one = searched.result, searched.told
    row: dict[str, Any] = {
        "study": result.study,
        "feasible": result.best is not None,
        "n_starts": witnesses.config.search.starts,
        "n_trials": len(result.history),
        "n_feasible": sum(found.feasible for found in result.history),
        "n_pruned": sum(found.pruned for found in result.history if found.kind == "proposal"),
        "given_up": list(result.given_up),
        "limits": result.limits,
    }
    if one is None:
        return row
    effect = searched.family.effect(searched.family.point(one.parameters))
    on, others = confirmed(witnesses, effect), transfer(witnesses, effect)
    beyond = [n for n, limit in result.limits.items() if on["confirmed"]["fences"][n] > limit]
    return row | {
        "parameters": one.parameters,
        "units": {c.name: c.unit for c in searched.family.coordinates},
        "value": one.value,
        "kl": one.kl,
        "least_density": one.least_density,
        "kl_confirmed": on["confirmed"]["kl"],
        "fences": one.fences,
        "searched": on["searched"],
        "confirmed": on["confirmed"],
        "beyond": beyond,
        "transfer": others,
        "transfers_to": hurt(witnesses.config, others, on["confirmed"]["kl"]["mean"]),
    }


def hurt(config: Config, others: Mapping[str, Mapping[str, Any]], kl: float) -> list[str]:
    """Posteriors of their own that are hurt at least `HURT` times as much as the target."""
    means = {name: others[name]["kl_perturbed_clean"]["mean"] for name in others}
    return [name for name, mean in means.items()
            if name not in config.ensembles and mean >= HURT * kl]  # fmt: skip


def headline(
    witnesses: Witnesses, searched: Mapping[str, Searched], families: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """The numbers of the paper's family, beside the paper's own systematic; None without it."""
    config = witnesses.config
    name = next((n for n, s in config.search.families.items() if s.kind == "logistic"), None)
    family: dict[str, Any] = families[name] if name else {}
    best = searched[name].result.best if name else None
    closest = searched[name].result.closest if name else None
    on = family.get("confirmed") if best else None
    paper, heights = papers(witnesses)
    parameters = best.parameters if best else {}
    return {
        "family": name,
        "kl": best and best.kl,
        "change": best and best.fences["power"],
        "kl_confirmed": on and on["kl"]["mean"],
        "kl_confirmed_low": on and on["kl"]["low"],
        "kl_confirmed_high": on and on["kl"]["high"],
        "change_confirmed": on and on["power"]["mean"],
        "a": parameters.get("a"),
        "b": parameters.get("b"),
        "beta": parameters.get("beta"),
        "transition": -parameters["b"] / parameters["a"] if parameters else None,
        "least_density": best and best.least_density,
        "kl_paper": paper["kl_perturbed_clean"]["mean"],
        "change_paper": paper["mean_power_change_contrast"]["mean"],
        "fences_paper": heights,
        "closest_change": closest and closest.fences["power"],
        "max_power_change": config.search.fences.limits.get("power"),
        "limits": config.search.fences.limits,
        "n_trials": family.get("n_trials", 0),
        "n_feasible": family.get("n_feasible", 0),
        "n_search": len(witnesses.searched),
        "n_confirm": len(witnesses.confirming),
        "transfer": family.get("transfer", {}) if best else {},
    }


def _track(log: tracking.Run, searched: Searched, row: Mapping[str, Any]) -> None:
    """The study as a run, and the trials worth keeping as runs below it."""
    result = searched.result
    exported = result.to_json()
    log.params({"study": result.study, "limits": result.limits})
    log.metrics(_numbers(row))
    for half in ("searched", "confirmed"):
        told = tracking.numbers(row.get(half, {}))
        log.metrics({f"{half}.{name}": value for name, value in told.items()})
    log.series({"best": [one["best_so_far"] or 0.0 for one in exported["history"]]})
    kept = [one for one in result.pareto if one.feasible and one.kind == "refined"]
    for one in kept[-KEPT:]:
        with log.child(f"trial {one.trial}", {"family": result.family, "kind": "trial"}) as own:
            own.params(one.parameters)
            fences = {f"fence.{name}": height for name, height in one.fences.items()}
            own.metrics({"kl": one.kl, "value": one.value, "excess": one.excess, **fences})


def _illustrate(witnesses: Witnesses, searched: Searched, storage: str | Path) -> None:
    """Figures of the winner, for optuna-dashboard."""
    one = searched.told
    if one is None:
        return
    effect = searched.family.effect(searched.family.point(one.parameters))
    shown = pictures(witnesses, searched.family.name, effect)
    opened = open_study(storage, searched.result.study)
    artifacts.attach(opened, one.trial, shown, ARTIFACTS)


def drawn(
    config: Config, searched: Mapping[str, Searched], metrics: Mapping[str, Any]
) -> dict[str, Figure]:
    """The Pareto front of every family."""
    limits = config.search.fences.limits
    curves = _curves(searched)
    shown = {
        fence: {name: list(zip(c["heights"], c["kl"], strict=True)) for name, c in named.items()}
        for fence, named in curves.items()
    }
    rows = _attacks(config)
    paper = {
        fence: {"paper's systematic": (metrics["fences_paper"][fence], metrics["kl_paper"])}
        for fence in shown
    }
    above = {fence: ceilings(config, rows, fence) for fence in shown}
    return {"pareto": figures.fronts(shown, paper, above, limits)} if shown else {}


def _history(result: Result) -> Figure:
    values = np.array([one.value for one in result.history])
    shares = np.array([1 + one.excess for one in result.history])
    return figures.search_history(values, shares, 1.0)


def _attacks(config: Config) -> dict[str, Any]:
    """Rows of damage of the attacks that have been made."""
    layout = Layout(config.scale)
    paths = {
        name: layout.result(f"attacks/{group}/{name}.json")
        for name, group in config.attacked.items()
    }
    return {name: read_json(path) for name, path in paths.items() if path.exists()}


def _listed(searched: Searched) -> dict[str, list[dict[str, Any]]]:
    return {fence: [asdict(p) for p in points] for fence, points in searched.fronts.items()}


def _curves(searched: Mapping[str, Searched]) -> dict[str, dict[str, dict[str, list[Any]]]]:
    """Fence -> family -> its feasible points, by rising height."""
    curves: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for name, one in searched.items():
        for fence, points in one.fronts.items():
            inside = [point for point in points if point.feasible]
            if inside:
                curves.setdefault(fence, {})[name] = {
                    "heights": [point.height for point in inside],
                    "kl": [point.kl for point in inside],
                    "value": [point.value for point in inside],
                    "parameters": [point.parameters for point in inside],
                }
    return curves


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, int | float)}


def told(name: str, family: Mapping[str, Any]) -> str:
    """The outcome of a family in a line."""
    if "parameters" not in family:
        return f"{name}: no proposal had a finite value"
    parameters = ", ".join(f"{key} = {value:.4g}" for key, value in family["parameters"].items())
    if not family["feasible"]:
        broken = ", ".join(
            f"{fence} {family['fences'][fence]:.3g} (limit {limit:.3g})"
            for fence, limit in family["limits"].items()
        )
        return f"{name}: no trial stayed within all fences; the closest, {parameters}: {broken}"
    on = family["confirmed"]
    fences = ", ".join(
        f"{fence} {on['fences'][fence]:.3g} (limit {limit:.3g})"
        for fence, limit in family["limits"].items()
    )
    return (
        f"{name}: {parameters}: KL = {family['kl']:.3g} on the search's maps, "
        f"{on['kl']['mean']:.3g} [{on['kl']['low']:.3g}, {on['kl']['high']:.3g}] on others, "
        f"where {fences}; transfers to {', '.join(family['transfers_to']) or 'no other posterior'}"
    )
