"""Search: climbs by exact gradients against other searches, at equal work of the network."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from benchmarks.measure import Child, Facts, Programs, Start
from benchmarks.result import Claim, Result
from spurious.progress import track

if TYPE_CHECKING:
    from spurious.posteriors.posterior import Posterior
    from spurious.search.families import Family
    from spurious.search.objective import Evaluation, Objective

ROOT = Path(__file__).resolve().parents[1]
NETWORK = ROOT / "models" / "pilot" / "compact" / "1.keras"
MAPS = ROOT / "data" / "pilot" / "maps.h5"
BOX = 128.0
LIMITS = {"power": 0.05, "mean_shift": 0.003}
KNOTS = [0, 5, 10, 15, 20, 30, 40, 50, 65, 80, 100, 130, 180, 250, 350, 500]
FAMILIES: dict[str, dict[str, Any]] = {
    "logistic": {"kind": "logistic"},
    "calibration": {"kind": "calibration"},
    "fine calibration": {"kind": "calibration", "knots": KNOTS},
}
OURS = "ours"
DIFFERENCES = "ours, finite differences"
SLSQP = "SLSQP"
SLSQP_DIFFERENCES = "SLSQP, finite differences"
STEP = 3e-3  # of a finite difference, in the cube: float32 knows a KL to about 1e-6
REFINE_STEPS = 12
EARLY = 0.25  # of the work: what was found by then is a column of its own
PARTS = 2  # processes that share the seeds of a family
TRIES = 2  # to move a proposal within the fences
UNREACHED = 1.0
WANTED = 0.95  # of the best peer's KL: less would be worse
SHARE = 0.5  # of the work, in which the best peer's KL is to be reached


class Size(NamedTuple):
    """Of a run."""

    seeds: int = 5
    maps: int = 12
    work: int = 120  # forward passes over all maps, a competitor


Trace: TypeAlias = list[tuple[int, float]]  # work, best feasible KL so far; only where it rises
Search: TypeAlias = "Callable[[Recorded, int], None]"
Climb: TypeAlias = "Callable[[Recorded, np.ndarray], None]"


def run(quick: bool) -> Result:
    size = Size(1, 4, 20) if quick else Size()
    if not quick and not (NETWORK.is_file() and MAPS.is_file()):
        note = f"Left out: {NETWORK.relative_to(ROOT)} or its maps are missing; run `make repro`."
        return Result("Search", [], [{"what": "left out"}], [note])
    found: dict[str, Facts] = {family: {} for family in FAMILIES}
    parts = [part for part in np.array_split(np.arange(size.seeds), PARTS) if len(part)]
    jobs = [(family, part.tolist()) for part in parts for family in FAMILIES]
    with ExitStack() as stack:  # side by side, one thread each: no time on the wall is compared
        running = [
            Child(Start("benchmarks.search:compete", "one", (family, seeds, size, quick)))
            for family, seeds in jobs
        ]
        for child in running:
            stack.callback(child.close)
        for (family, _), child in track(list(zip(jobs, running, strict=True)), "search"):
            for name, each in child.ready().facts.items():
                found[family].setdefault(name, []).extend(each)
    return result(found, size)


def compete(family: str, seeds: Sequence[int], size: Size, quick: bool) -> tuple[Programs, Facts]:
    """Every competitor on the same maps: name -> what `race` says of each seed."""
    objective = Recorded.of(family, size, quick)
    facts: Facts = {}
    for seed in seeds:
        for name, found in race(objective, seed).items():
            facts.setdefault(name, []).append(found)
    return {}, facts


def race(objective: Recorded, seed: int) -> dict[str, tuple[Trace, float]]:
    """Every competitor with one seed: its trace, and its processor seconds."""
    import time

    found = {}
    for name, search in competitors().items():
        objective.restart()
        began = time.process_time()
        with spent():
            search(objective, seed)
        found[name] = objective.trace, time.process_time() - began
    return found


def _inputs(count: int, quick: bool) -> tuple[Posterior, np.ndarray]:
    """The pilot's network and some of its maps, the same for all; for a quick run, any."""
    from spurious.data.hdf5 import read_maps
    from spurious.posteriors.trained import load

    if quick:
        from benchmarks.attacks import network, random_maps

        return network(16), random_maps(16, count)
    data = read_maps(MAPS)
    chosen = np.random.default_rng(1).permutation(len(data.maps))[:count]
    return load(NETWORK), data.maps[chosen]


class Spent(Exception):
    """All work that was granted is done."""


@contextmanager
def spent() -> Iterator[None]:
    """Ends a search when its work is done."""
    try:
        yield
    except Spent:
        return


class Recorded:
    """An objective that keeps its best feasible KL, and stops when the work is done.

    Attributes:
        family: of the objective.
        trace: since the last restart.
    """

    def __init__(self, objective: Objective, work: int) -> None:
        self.family, self.goal = objective.family, objective.goal
        self.fences = objective.fences
        self._objective, self._work = objective, work
        self.restart()

    @classmethod
    def of(cls, family: str, size: Size, quick: bool) -> Recorded:
        """One whose programs have been compiled."""
        from spurious.search.objective import Objective

        posterior, maps = _inputs(size.maps, quick)
        objective = Objective(maps, posterior, BOX, _family(family), fences=tuple(LIMITS))
        middle = np.full(objective.family.dimension, 0.5)
        for program in (objective, objective.value_only, objective.fences):
            program(middle)
        return cls(objective, size.work)

    def restart(self) -> None:
        """Forget what was found, and grant all work again."""
        self._objective.work = 0
        self.trace: Trace = []

    def __call__(self, point: np.ndarray) -> Evaluation:
        """See `Objective`."""
        return self._kept(self._objective, point)

    def value_only(self, point: np.ndarray) -> Evaluation:
        """See `Objective`."""
        return self._kept(self._objective.value_only, point)

    def inside(self, point: np.ndarray) -> np.ndarray:
        """The nearest point within the fences, as our own search finds it: no network work.

        Where that ends outside, it goes on from there.
        """
        from spurious.search.projection import excess_share, nearest_within

        for _ in range(TRIES):
            point = nearest_within(self.fences, point, LIMITS)
            if excess_share(self.fences(point), LIMITS) <= 0:
                break
        return point

    def _kept(self, evaluate: Callable[[np.ndarray], Evaluation], point: Any) -> Evaluation:
        if self._objective.work >= self._work:
            raise Spent
        found = evaluate(point)
        if found.is_feasible(LIMITS) and found.kl > (self.trace[-1][1] if self.trace else 0):
            self.trace.append((self._objective.work, found.kl))
        return found


def _family(name: str) -> Family:
    from spurious.search.families import build_families

    family = build_families(_settings(name), BOX)[name]
    if family.known:
        family.known = ()  # all competitors start blind
    return family


def _settings(name: str) -> Any:
    from spurious.config import Search

    given = {"starts": 1000, "refine_steps": REFINE_STEPS, "fences": LIMITS}
    return Search.model_validate({**given, "families": {name: FAMILIES[name]}})


def competitors() -> Mapping[str, Search]:
    """What each does with an objective and a seed until its work is spent."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    samplers: dict[str, Callable[..., Any]] = {
        "TPE": optuna.samplers.TPESampler,
        "CMA-ES": optuna.samplers.CmaEsSampler,
        "Gaussian process": optuna.samplers.GPSampler,
        "random": optuna.samplers.RandomSampler,
    }
    sampled = {
        name: lambda objective, seed, make=make: _by_samples(objective, make(seed=seed))
        for name, make in samplers.items()
    }
    climbing = {
        DIFFERENCES: climb_by_differences,
        SLSQP: climb_by_slsqp,
        SLSQP_DIFFERENCES: climb_by_slsqp_and_differences,
    }
    climbed = {
        name: lambda objective, seed, climb=climb: _by_climbs(objective, seed, climb)
        for name, climb in climbing.items()
    }
    return {OURS: _ours, **climbed, **sampled}


def _ours(objective: Recorded, seed: int) -> None:
    """The search as it is."""
    from spurious.search import study

    settings = _settings(objective.family.name)
    with tempfile.TemporaryDirectory() as folder:
        study.run(settings, objective, Path(folder) / "search.db", seed, progress=False)  # type: ignore[arg-type]


def _by_samples(objective: Recorded, sampler: Any) -> None:
    """What a sampler proposes, moved within the fences, by one forward pass each.

    It is told the root of the KL, which is what the climbs see, and less than nothing where the
    fences cannot be kept, by how much they are broken.
    """
    import optuna

    trials = optuna.create_study(direction="maximize", sampler=sampler)
    names = [one.name for one in objective.family.coordinates]
    while True:
        trial = trials.ask()
        point = np.array([trial.suggest_float(name, 0.0, 1.0) for name in names])
        found = objective.value_only(objective.inside(point))
        outside = max(value / LIMITS[name] for name, value in found.excess(LIMITS).items())
        trials.tell(trial, -outside if outside > 0 else np.sqrt(max(found.kl, 0)))


def _by_climbs(objective: Recorded, seed: int, climb: Climb) -> None:
    """Climbs from the starts of our own search, one after the other."""
    import itertools

    from spurious.search.starts import Starts

    starts = Starts(objective, LIMITS, seed)  # type: ignore[arg-type]
    for number in itertools.count():
        climb(objective, objective.family.from_coordinates(starts(number)))


def climb_by_differences(objective: Recorded, start: np.ndarray) -> None:
    """Our own climb from a point (d,), with finite differences for the gradient."""
    from spurious.search.refine import Path as Steps
    from spurious.search.refine import refine

    def evaluate(point: np.ndarray) -> Evaluation:
        found = objective.value_only(point)
        return found._replace(gradient=Differences(objective, point, found.value))  # type: ignore[arg-type]

    refine(Steps(evaluate, objective.fences), start, LIMITS, REFINE_STEPS)


class Differences:
    """A gradient (d,) by one forward pass a coordinate, which are made where it is first read."""

    def __init__(self, objective: Recorded, point: np.ndarray, value: float) -> None:
        self._objective, self._point, self._value = objective, point, value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Ask for it."""
        steps = np.diag(np.where(self._point < 0.5, STEP, -STEP))
        moved = [self._objective.value_only(self._point + step).value for step in steps]
        return np.asarray((np.array(moved) - self._value) / np.diag(steps), dtype)


def climb_by_slsqp(objective: Recorded, start: np.ndarray) -> None:
    """One climb of SciPy's SLSQP with the exact gradient, one evaluation for it and the value."""
    evaluate = _last_kept(objective)
    _slsqp(objective, start, evaluate, lambda x: np.asarray(evaluate(x).gradient))


def climb_by_slsqp_and_differences(objective: Recorded, start: np.ndarray) -> None:
    """The same with finite differences, which are made only where SLSQP asks for a gradient."""
    evaluate = _last_kept(objective.value_only)
    _slsqp(
        objective,
        start,
        evaluate,
        lambda x: np.asarray(Differences(objective, np.clip(x, 0, 1), evaluate(x).value)),
    )


def _last_kept(ask: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """The same, in the cube, and not asked twice in a row at one point."""
    from functools import lru_cache

    @lru_cache(maxsize=1)
    def at(point: tuple[float, ...]) -> Any:
        return ask(np.array(point))

    return lambda x: at(tuple(np.clip(x, 0, 1)))


def _slsqp(
    objective: Recorded,
    start: np.ndarray,
    evaluate: Callable[[np.ndarray], Evaluation],
    gradient: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Climb the root of the KL with all that the fences say for free; then come inside."""
    from scipy.optimize import minimize

    from spurious.search.projection import room, room_jacobian

    fences = _last_kept(objective.fences)

    def root(x: np.ndarray) -> float:
        return float(np.sqrt(max(evaluate(x).kl, 0) + 1e-6))

    unit = root(start)
    ended = minimize(
        lambda x: -root(x) / unit,
        start,
        jac=lambda x: -gradient(x) / (2 * root(x) * unit),
        bounds=[(0, 1)] * len(start),
        constraints={
            "type": "ineq",
            "fun": lambda x: room(fences(x), LIMITS),
            "jac": lambda x: room_jacobian(fences(x), LIMITS),
        },
        method="SLSQP",
        options={"maxiter": REFINE_STEPS, "ftol": 1e-4},
    )
    objective.value_only(objective.inside(ended.x))


def result(found: Mapping[str, Facts], size: Size) -> Result:
    """Table and claims.

    Args:
        found: family -> competitor -> (trace, processor seconds) of each seed.
        size: of the run.
    """
    rows, claims = [], []
    early = round(EARLY * size.work)
    for family, facts in found.items():
        traces = {name: [trace for trace, _ in each] for name, each in facts.items()}
        for name, each in traces.items():
            best = [best_at(trace, size.work) for trace in each]
            rows.append(
                {
                    "family": f"{family} ({_family(family).dimension})",
                    "what": name,
                    f"KL at work {early}": float(np.median([best_at(t, early) for t in each])),
                    f"KL at work {size.work}": float(np.median(best)),
                    "lowest": min(best),
                    "highest": max(best),
                    "processor s": float(np.median([seconds for _, seconds in facts[name]])),
                }
            )
        claims += _claims(family, traces, size.work)
    return Result("Search at equal work", claims, rows, [_note(size)])


def _claims(family: str, traces: Mapping[str, list[Trace]], work: int) -> list[Claim]:
    ratios, shares = ratio_and_share(traces, work)
    among = f"(median; {{:.2f}} to {{:.2f}} over {len(ratios)} seeds)"
    return [
        Claim(
            f"{family}: KL over that of the best of all peers, at equal work "
            + among.format(min(ratios), max(ratios)),
            WANTED,
            float(np.median(ratios)),
        ),
        Claim(
            f"{family}: work to match the best of all peers, over its whole work "
            + among.format(min(shares), max(shares)),
            SHARE,
            float(np.median(shares)),
            sense="at most",
        ),
    ]


def _note(size: Size) -> str:
    limits = " and ".join(f"{name} <= {limit:g}" for name, limit in LIMITS.items())
    return (
        "In brackets, the number of parameters. Best feasible mean KL in nats, median and range "
        f"over seeds, on {size.maps} maps, within {limits}, as estimated on these maps; 0 where "
        "nothing was feasible. Work is counted in forward passes of the network over all maps, a "
        "backward pass as two. Fences need no network and count nothing: what a peer proposes is "
        "first moved to the nearest point within them, as our own starts are. "
        f"'{OURS}' is the search as it is; '{DIFFERENCES}' differs in one forward pass a parameter "
        f"for the gradient of the KL; '{SLSQP}' climbs from its starts with SciPy's SLSQP, with "
        "exact gradients of the KL and the fences, and comes inside at the end; the others are "
        "Optuna's samplers. All start blind. A claim compares seed by seed with the "
        "best peer of that seed, which our own climb by finite differences is not; "
        f"a share of {UNREACHED:g} means that it was matched with the last "
        "pass or not at all. Processor seconds are of one thread, moving within the fences "
        "included."
    )


def best_at(trace: Trace, work: int) -> float:
    """Best feasible KL after so much work; 0 if there was none."""
    return max((kl for done, kl in trace if done <= work), default=0.0)


def ratio_and_share(
    traces: Mapping[str, list[Trace]], work: int
) -> tuple[list[float], list[float]]:
    """For each seed, ours over the best peer: KL after all work, and work until it is matched."""
    ratios, shares = [], []
    peers = [name for name in traces if name not in (OURS, DIFFERENCES)]
    for seed, trace in enumerate(traces[OURS]):
        wanted = max(best_at(traces[name][seed], work) for name in peers)
        ratios.append(best_at(trace, work) / max(wanted, 1e-9))
        reached = [done for done, kl in trace if kl >= wanted]
        shares.append(min(reached, default=UNREACHED * work) / work)
    return ratios, shares
