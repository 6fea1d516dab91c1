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
from spurious.files import write_json
from spurious.pipeline import comparable
from spurious.pipeline.confirmation import (
    Tried,
    Witnesses,
    attack_row,
    confirmed,
    papers,
    pictures,
    pure_gain,
    transfer,
    write_winners,
)
from spurious.pipeline.family_search import explore, work
from spurious.pipeline.figure_files import save_figures
from spurious.pipeline.inputs import bystanders, check_models, files
from spurious.pipeline.layout import STUDY, Layout
from spurious.pipeline.outputs import replaced_together
from spurious.processes import side_by_side
from spurious.search import artifacts
from spurious.search.families import Family, build_families
from spurious.search.front import FrontPoint
from spurious.search.goals import check_goal
from spurious.search.result import Found, Result
from spurious.studies import choose_storage, open_study

KEPT = 8  # trials of a study that are runs of their own
HURT = 0.1  # of the target's KL, from where on a systematic counts as transferred


@dataclass(frozen=True)
class Searched:
    """What was found of one family."""

    family: Family
    result: Result
    fronts: dict[str, list[FrontPoint]]
    wider: dict[str, Any] | None = None

    @property
    def point(self) -> np.ndarray | None:
        """Where in the cube the answer is, (d,)."""
        return None if self.answer is None else self.family.point(self.answer.parameters)

    @property
    def answer(self) -> Found | None:
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
    place, names = choose_storage(storage, STUDY), list(config.search.families)
    witnesses = Witnesses(config)
    check_goal(config.search.goal, witnesses.test.names)
    if worker:
        for name in names:
            work(config, name, place)
        return
    layout = Layout(config.scale)
    check_models(config, [config.run.target, *bystanders(config)])  # before hours of search
    inputs = [layout.maps, *files(config, config.run.target)]
    with (
        tracking.start("search", config.scale, inputs=inputs) as log,
        replaced_together("search", outputs(layout)) as out,
    ):
        log.params(config.search.model_dump() | {"seed": config.seed})
        log.dataset(witnesses.searched, layout.maps, context="search")
        searched, families, winners = {}, {}, {}
        tasks = [(config, name, place) for name in names]
        made = side_by_side(
            explore, tasks, config.execution.processes, desc="families", unit="family"
        )
        built = build_families(config.search, witnesses.test.box_size, config.seed)
        for name, found in zip(names, made, strict=True):
            searched[name] = one = Searched(built[name], *found)
            if one.point is not None:
                winners[name] = Tried(witnesses, one.family.effect(one.point))
            families[name] = outcome(witnesses, one, winners.get(name))
            with log.child(f"study {name}", {"family": name}) as own:
                _track(own, one, families[name], config.search.families[name].kind)
                if "row" in families[name]:
                    families[name]["row"]["run_id"] = own.id
            if name in winners:
                _illustrate(witnesses, one, winners[name], place)
        write_winners(out, witnesses, winners)
        metrics = headline(witnesses, searched, families)
        write_json(
            out.new(layout.result("study.json")),
            {
                name: one.result.to_json() | {"front": _listed(one)}
                for name, one in searched.items()
            },
        )
        write_json(
            out.new(layout.result("search.json")),
            {"run_id": log.id, **metrics, "families": families, "front": _curves(searched)},
        )
        log.metrics(_numbers(metrics))
        for name, row in metrics["transfer"].items():
            log.metrics({f"transfer.{name}.{k}": v for k, v in tracking.numbers(row).items()})
        for name in ("study.json", "search.json"):
            log.artifact(out.new(layout.result(name)))
        histories = {name: _history(one.result) for name, one in searched.items()}
        save_figures(out, layout, log, histories, "search")
    for name, family in families.items():
        print(describe(name, family))


def outputs(layout: Layout) -> list[Path]:
    """What the stage writes."""
    names = ("study.json", "search.json", "search")
    return [layout.attacked("search", "").parent, *map(layout.result, names)]


def outcome(witnesses: Witnesses, searched: Searched, tried: Tried | None) -> dict[str, Any]:
    """The results of a family: the winner, or the closest, on both halves of the test maps.

    It `holds` if it keeps within every limit on maps that the search did not see, without a margin.
    """
    result, one = searched.result, searched.answer
    row: dict[str, Any] = {
        "study": result.study,
        "feasible": result.best is not None,
        "holds": False,
        "n_starts": witnesses.config.search.starts,
        "n_trials": len(result.history),
        "n_feasible": sum(found.feasible for found in result.history),
        "n_pruned": sum(found.pruned for found in result.history if found.kind == "proposal"),
        "given_up": list(result.given_up),
        "limits": result.limits,
        "confidence": witnesses.config.search.confidence,
    }
    if one is None or tried is None:
        return row
    on, others = confirmed(witnesses, tried), transfer(witnesses, tried)
    unseen = on["confirmed"]["fences"]
    limits = result.limits.items()
    beyond = [name for name, limit in limits if not unseen.get(name, np.inf) <= limit]
    return row | {
        "parameters": one.parameters,
        "units": {c.name: c.unit for c in searched.family.coordinates},
        "at_bound": searched.family.at_bound(searched.point),
        "wider": searched.wider,
        "value": one.value,
        "kl": one.kl,
        "least_density": one.least_density,
        "kl_confirmed": on["confirmed"]["kl"],
        "fences": one.fences,
        "searched": on["searched"],
        "confirmed": on["confirmed"],
        "beyond": beyond,
        "holds": row["feasible"] and not beyond,
        "transfer": others,
        "transfers_to": hurt(witnesses.config, others, on["confirmed"]["kl"]["mean"]),
        "row": attack_row(witnesses, tried, one.parameters),
    }


def hurt(config: Config, others: Mapping[str, Mapping[str, Any]], kl: float) -> list[str]:
    """Posteriors of their own that are hurt at least `HURT` times as much as the target."""
    means = {name: others[name]["kl_perturbed_clean"]["mean"] for name in others}
    return [name for name, mean in means.items()
            if not config.members(name) and mean >= HURT * kl]  # fmt: skip


def headline(
    witnesses: Witnesses, searched: Mapping[str, Searched], families: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """The numbers of the paper's family, beside the paper's own systematic; None without it.

    `change` is the largest RMS over maps of dP/P of the contrast in a bin: on the search's maps an
    upper bound, on the others and for the paper's systematic as it is.
    """
    config = witnesses.config
    name = next((n for n, s in config.search.families.items() if s.kind == "logistic"), None)
    family: dict[str, Any] = families[name] if name else {}
    best = searched[name].result.best if name else None
    closest = searched[name].result.closest if name else None
    on = family.get("confirmed") if best else None
    paper, heights = papers(witnesses)
    # Reported are those that are searched; a family may fix the others.
    parameters = {**searched[name].family.fixed, **best.parameters} if name and best else {}
    return {
        "family": name,
        "feasible": bool(best),
        "holds": family.get("holds", False),
        "kl": best and best.kl,
        "change": best and best.fences["power"],
        "kl_confirmed": on and on["kl"]["mean"],
        "kl_confirmed_low": on and on["kl"]["low"],
        "kl_confirmed_high": on and on["kl"]["high"],
        "change_confirmed": on and on["fences"]["power"],
        "a": parameters.get("a"),
        "b": parameters.get("b"),
        "beta": parameters.get("beta"),
        "transition": -parameters["b"] / parameters["a"] if parameters else None,
        "least_density": best and best.least_density,
        "at_bound": family.get("at_bound", []) if best else [],
        "kl_paper": paper["kl_perturbed_clean"]["mean"],
        "change_paper": heights["power"],
        "fences_paper": heights,
        "closest_change": closest and closest.fences["power"],
        "max_power_change": config.search.fences.limits.get("power"),
        "limits": config.search.fences.limits,
        "confidence": config.search.confidence,
        "pure_gain": pure_gain(witnesses),
        "n_trials": family.get("n_trials", 0),
        "n_feasible": family.get("n_feasible", 0),
        "n_search": len(witnesses.searched),
        "n_confirm": len(witnesses.confirming),
        "n_trainings": len(witnesses.targets),
        "transfer": family.get("transfer", {}) if best else {},
    }


def _track(log: tracking.Run, searched: Searched, row: Mapping[str, Any], kind: str) -> None:
    """The study as a run, and the trials worth keeping as runs below it.

    Its numbers are those that attacks have, for the winner; its own begin with `study/`.
    """
    result, effect = searched.result, searched.family.kind
    log.document({"study": result.study, "limits": result.limits}, "study.json")
    found = _numbers(row)
    for half in ("searched", "confirmed"):
        measured = tracking.numbers(row.get(half, {}))
        found |= {f"{half}.{name}": value for name, value in measured.items()}
    log.metrics({f"study/{name}": value for name, value in found.items()})
    if "row" in row:
        log.params(comparable.parameters("search", kind, effect, None, row["parameters"]))
        log.metrics(comparable.numbers(row["row"]))
    history = result.to_json()["history"]
    log.series({"study/best": [one["best_so_far"] or 0.0 for one in history]})
    kept = [one for one in result.pareto if one.feasible and one.kind == "refined"]
    for one in kept[-KEPT:]:
        with log.child(f"trial {one.trial}", {"family": result.family, "kind": "trial"}) as own:
            own.params(one.parameters)
            fences = {f"fence.{name}": height for name, height in one.fences.items()}
            own.metrics({"kl": one.kl, "value": one.value, "excess": one.excess, **fences})


def _illustrate(
    witnesses: Witnesses, searched: Searched, tried: Tried, storage: str | Path
) -> None:
    """Figures of the winner, for optuna-dashboard."""
    one = searched.answer
    if one is None:
        return
    shown = pictures(witnesses, searched.family.name, tried)
    opened = open_study(storage, searched.result.study)
    artifacts.attach(opened, one.trial, shown, artifacts.FOLDER)


def _history(result: Result) -> Figure:
    values = np.array([one.value for one in result.history])
    shares = np.array([1 + one.excess for one in result.history])
    return figures.search_history(values, shares, 1.0)


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
                    "at_bound": [list(point.at_bound) for point in inside],
                }
    return curves


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, int | float)}


def describe(name: str, family: Mapping[str, Any]) -> str:
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
    notes = "" if family["holds"] else "; beyond a fence there, so not feasible"
    if family["at_bound"]:
        notes += f"; {', '.join(family['at_bound'])} at the end of its range"
    return (
        f"{name}: {parameters}: KL = {family['kl']:.3g} on the search's maps, "
        f"{on['kl']['mean']:.3g} [{on['kl']['low']:.3g}, {on['kl']['high']:.3g}] on others, "
        f"where {fences}{notes}; "
        f"transfers to {', '.join(family['transfers_to']) or 'no other posterior'}"
    )
