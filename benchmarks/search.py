"""Search: gradients against TPE, CMA-ES, NSGA-II and chance, at equal work of the network."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from benchmarks.measure import Facts, Programs, Start, children
from benchmarks.result import Claim, Result

if TYPE_CHECKING:
    from spurious.inference.posterior import Posterior
    from spurious.search.families import Family
    from spurious.search.objective import Evaluation, Objective

ROOT = Path(__file__).resolve().parents[1]
NETWORK = ROOT / "models" / "pilot" / "compact.keras"
MAPS = ROOT / "data" / "pilot" / "maps.h5"
BOX = 128.0
LIMITS = {"power": 0.05, "mean_shift": 0.05}
FAMILIES = ("logistic", "calibration")
FREE = ("TPE", "CMA-ES", "NSGA-II", "random")
GRADIENT = "gradients"
UNGUIDED = "gradients, random starts"
SHARE = 0.2  # of the gradient-free sampler's work, wanted at most
REFINE_STEPS = 12

Trace = list[tuple[int, float]]  # work, best feasible KL so far; only where it rises


def run(quick: bool) -> Result:
    seeds, maps, work = (1, 4, 20) if quick else (5, 64, 400)
    if not quick and not (NETWORK.is_file() and MAPS.is_file()):
        note = f"Left out: {NETWORK.relative_to(ROOT)} or its maps are missing; run `make repro`."
        return Result("Search", [], [{"what": "left out"}], [note])
    traces: dict[str, dict[str, list[Trace]]] = {family: {} for family in FAMILIES}
    seconds: dict[str, dict[str, list[float]]] = {family: {} for family in FAMILIES}
    for family, seed in tqdm([(f, s) for f in FAMILIES for s in range(seeds)], "search"):
        start = Start("benchmarks.search:compete", "all", (family, seed, maps, work, quick))
        with children({family: start}) as running:
            facts = running[family][0].facts
        for name, (trace, took) in facts.items():
            traces[family].setdefault(name, []).append(trace)
            seconds[family].setdefault(name, []).append(took)
    return _result(traces, seconds, work, maps)


def compete(family: str, seed: int, count: int, work: int, quick: bool) -> tuple[Programs, Facts]:
    """Every competitor on the same maps with the same seed: its trace, and how long it took."""
    import time

    posterior, maps = _inputs(count, quick)
    facts: Facts = {}
    objective = _recorded(family, maps, posterior, work)
    middle = np.full(objective.family.dimension, 0.5)
    for program in (objective, objective.value_only, objective.fences):
        program(middle)  # compiled before the first competitor
    for name, search in _competitors(work).items():
        objective.restart()
        began = time.perf_counter()
        search(objective, seed)
        facts[name] = (objective.trace, time.perf_counter() - began)
    return {}, facts


def _inputs(count: int, quick: bool) -> tuple[Posterior, np.ndarray]:
    """The pilot's network and some of its maps, the same for all; for a quick run, any."""
    from spurious.inference.posterior import load
    from spurious.maps import read_maps

    if quick:
        from benchmarks.attacks import network, random_maps

        return network(16), random_maps(16, count)
    data = read_maps(MAPS)
    chosen = np.random.default_rng(1).permutation(len(data.maps))[:count]
    return load(NETWORK), data.maps[chosen]


def _recorded(family: str, maps: np.ndarray, posterior: Posterior, work: int) -> Any:
    """An objective that keeps its best feasible KL, and stops when the work is done."""
    from spurious.search.objective import Objective

    class Recorded(Objective):
        trace: Trace

        def __init__(self) -> None:
            super().__init__(maps, posterior, BOX, _family(family), fences=tuple(LIMITS))
            self.restart()

        def restart(self) -> None:
            self.work, self.trace = 0, []

        def __call__(self, point: np.ndarray) -> Evaluation:
            return self._kept(super().__call__, point)

        def value_only(self, point: np.ndarray) -> Evaluation:
            return self._kept(super().value_only, point)

        def _kept(self, evaluate: Callable[[np.ndarray], Evaluation], point: Any) -> Evaluation:
            if self.work >= work:
                raise Spent
            found = evaluate(point)
            if found.is_feasible(LIMITS) and found.kl > (self.trace[-1][1] if self.trace else 0):
                self.trace.append((self.work, found.kl))
            return found

    return Recorded()


class Spent(Exception):
    """All work that was granted is done."""


def _family(name: str) -> Family:
    from spurious.search.families import build_families

    family = build_families(_settings(name), BOX)[name]
    if family.known:
        family.known = ()  # all competitors start blind
    return family


def _settings(name: str) -> Any:
    from spurious.config import Search

    given = {"starts": 1000, "refine_steps": REFINE_STEPS, "fences": LIMITS}
    return Search.model_validate({**given, "families": {name: {"kind": name}}})


def _competitors(work: int) -> Mapping[str, Callable[[Any, int], None]]:
    """What each does with an objective and a seed until its work is spent."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    samplers: dict[str, Callable[[int], Any]] = {
        "TPE": lambda seed: optuna.samplers.TPESampler(seed=seed),
        "CMA-ES": lambda seed: optuna.samplers.CmaEsSampler(seed=seed),
        "NSGA-II": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
        "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    }
    free = {
        name: lambda objective, seed, make=make, name=name: _without_gradients(
            objective, make(seed), work, penalise=name == "CMA-ES"
        )
        for name, make in samplers.items()
    }
    return {GRADIENT: _with_gradients, UNGUIDED: _unguided, **free}


def _with_gradients(objective: Objective, seed: int) -> None:
    """The search as it is: proposals of its own sampler, each refined."""
    from spurious.search import study

    with tempfile.TemporaryDirectory() as folder:
        try:
            settings = _settings(objective.family.name)
            study.run(settings, objective, Path(folder) / "search.db", seed, progress=False)
        except Spent:
            return


def _unguided(objective: Objective, seed: int) -> None:
    """Climbs from random points: what refinement does without a sampler."""
    from spurious.search.refine import Path as Climb
    from spurious.search.refine import refine

    draw = np.random.default_rng(seed)
    try:
        while True:
            start = draw.uniform(size=objective.family.dimension)
            refine(Climb(objective), start, LIMITS, REFINE_STEPS)
    except Spent:
        return


def _without_gradients(objective: Objective, sampler: Any, work: int, penalise: bool) -> None:
    """One forward pass a trial, with the fences as Optuna's constraints.

    CMA-ES does not know constraints: an infeasible trial has the value -excess instead, below all
    feasible ones.
    """
    import optuna

    trials = optuna.create_study(direction="maximize", sampler=sampler)
    names = [one.name for one in objective.family.coordinates]
    for _ in range(work):
        trial = trials.ask()
        found = objective.value_only(
            np.array([trial.suggest_float(name, 0.0, 1.0) for name in names])
        )
        excess = {name: value / LIMITS[name] for name, value in found.excess(LIMITS).items()}
        for name, value in excess.items():
            trial.set_constraint(name, value)
        worst = max(excess.values())
        trials.tell(trial, -worst if penalise and worst > 0 else found.kl)


def _result(
    traces: Mapping[str, Mapping[str, list[Trace]]],
    seconds: Mapping[str, Mapping[str, list[float]]],
    work: int,
    maps: int,
) -> Result:
    rows, claims = [], []
    for family, found in traces.items():
        shares = _shares(found, work)
        for name, each in found.items():
            best = [best_at(trace, work) for trace in each]
            early = [best_at(trace, round(SHARE * work)) for trace in each]
            rows.append(
                {
                    "family": family,
                    "what": name,
                    f"KL at work {round(SHARE * work)}": float(np.median(early)),
                    f"KL at work {work}": float(np.median(best)),
                    "lowest": min(best),
                    "highest": max(best),
                    "s": float(np.median(seconds[family][name])),
                }
            )
        claims.append(
            Claim(
                f"{family}: work to match the best gradient-free sampler, over its whole work "
                f"(median; {min(shares):.2f} to {max(shares):.2f} over {len(shares)} seeds)",
                SHARE,
                float(np.median(shares)),
                sense="at most",
            )
        )
    limits = " and ".join(f"{name} <= {limit:g}" for name, limit in LIMITS.items())
    notes = [
        f"Best feasible mean KL in nats, median and range over seeds, on {maps} maps, within "
        f"{limits}; 0 where nothing was feasible. Work is counted in forward passes of the network "
        "over all maps, a backward pass as two; fences need no network and count nothing. Each "
        "gradient-free sampler is compared seed by seed: the best of the four is what is to be "
        f"matched, and a share of {UNREACHED:g} means that it was not. All start blind, at random; "
        f"'{UNGUIDED}' are climbs without a sampler. CMA-ES sees a penalty for constraints, the "
        "others the constraints."
    ]
    return Result("Search at equal work", claims, rows, notes)


UNREACHED = 1.0


def best_at(trace: Trace, work: int) -> float:
    """Best feasible KL after so much work; 0 if there was none."""
    return max((kl for done, kl in trace if done <= work), default=0.0)


def _shares(found: Mapping[str, list[Trace]], work: int) -> list[float]:
    """For each seed, the work until gradients match the best sampler, over its whole work."""
    shares = []
    for seed, trace in enumerate(found[GRADIENT]):
        wanted = max(best_at(found[name][seed], work) for name in FREE)
        reached = [done for done, kl in trace if kl >= wanted]
        shares.append(min(reached, default=UNREACHED * work) / work)
    return shares
