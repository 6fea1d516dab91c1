"""The search: an Optuna study whose every proposal is refined by gradients.

One start is two trials. A systematic is proposed, evaluated and told to the study; SLSQP climbs
from there, and the best it found enters the study as a trial of its own, so that the sampler learns
from both and optuna-dashboard shows both. The first proposal is the paper's systematic. Then odd
starts are the sampler's (TPE), which digs where refinements ended best, and even ones are points of
a scrambled Sobol sequence, which covers the bounds: there are several local optima, and TPE alone
stays with the first good one.

The study lives in its own SQLite file and can be resumed: a start's sampler is seeded by the root
seed and the start's number and sees only finished trials, so a start that was interrupted is
proposed again just as before. One process at a time may work on a study. A file can hold several
studies, named by what they depend on: another network or other maps begin a new one.

=======================  ===========================================================================
attribute of a trial     meaning
=======================  ===========================================================================
`start`, `kind`          number of the start; "proposal" or "refined"
`a`, `b`, `beta`         the systematic, Eq. 3 (1/count, -, count)
`max_power_change`       largest |<P'> / <P> - 1| of the contrast over bins
`least_density`          smallest density before clipping at zero, counts
`kl_gradient`            gradient of the KL by (log a, log transition, asinh beta)
`power_change_gradient`  that of `max_power_change`
`refined_from`           number of the proposal's trial (refined trials only)
`evaluations`            points evaluated on the way (refined trials only)
constraint               `power_change`: max_power_change - limit, feasible when <= 0
=======================  ===========================================================================

The study's own attribute `best_feasible` names the best trial within the fence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc
from sqlalchemy.exc import DatabaseError
from tqdm import tqdm

from spurious import seeds
from spurious.config import Search
from spurious.errors import UserError
from spurious.inference.posterior import Posterior
from spurious.perturbations.systematics import Logistic
from spurious.search.objective import COORDINATES, Cube, Evaluation, Objective
from spurious.search.refine import Path, Step, refine
from spurious.search.result import Found, Result

PAPER = Logistic(0.25, -15.0, 3.0)
CONSTRAINT = "power_change"
DASHBOARD_CONSTRAINTS = "constraints"  # where optuna-dashboard 0.21 looks for them
RANDOM_TRIALS = 8  # before TPE has enough to learn from


def run(
    settings: Search,
    maps: np.ndarray,
    posterior: Posterior,
    box_size: float,
    storage: FilePath,
    root_seed: int,
    fingerprint: str = "",
) -> Result:
    """Search until `settings.starts` starts are in the study, counting those of earlier calls.

    Args:
        settings: starts, refinement, fence and bounds; `settings.maps` is the caller's business.
        maps: (n, N, N) in counts, all of them in memory at once.
        posterior: what is to be fooled.
        box_size: side of a map, Mpc/h.
        storage: SQLite file; made if missing.
        root_seed: root of the sampler's draws.
        fingerprint: what identifies the posterior, such as the MD5 of its file.

    Raises:
        UserError: `storage` is no Optuna database.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _open(storage, _study_name(settings, maps, box_size, root_seed, fingerprint))
    _forget_interrupted(study)
    cube = Cube(settings.bounds)
    todo = [start for start in range(settings.starts) if not _is_done(study, start, settings)]
    if todo:
        objective = Objective(maps, posterior, box_size, cube)
        with tqdm(total=settings.starts, initial=settings.starts - len(todo), desc="search") as bar:
            for start in todo:
                _one_start(study, objective, cube, settings, root_seed, start)
                _name_best(study)
                bar.set_postfix_str(result(study, settings).headline())
                bar.update()
    return result(study, settings)


def result(study: optuna.Study, settings: Search) -> Result:
    """All finished trials of the first `settings.starts` starts, in order."""
    limit = settings.max_power_change
    trials = [t for t in _finished(study) if t.user_attrs["start"] < settings.starts]
    found = [Found.of_trial(t.values[0], t.user_attrs, limit) for t in trials]
    return Result(study.study_name, limit, tuple(sorted(found, key=lambda f: (f.start, f.kind))))


def _one_start(
    study: optuna.Study,
    objective: Callable[[np.ndarray], Evaluation],
    cube: Cube,
    settings: Search,
    root_seed: int,
    start: int,
) -> None:
    """Propose, unless an interrupted call has; then refine."""
    path = Path(objective)
    proposal = _trial(study, start, "proposal")
    if proposal is None:
        proposal = _propose(study, path, cube, settings, root_seed, start)
    if settings.refine_steps and proposal.state == TrialState.COMPLETE:
        point = cube.point(_systematic(proposal.params))
        refine(path, point, settings.max_power_change, settings.refine_steps)
        _add_refined(study, path, cube, settings, proposal)


def _propose(
    study: optuna.Study, path: Path, cube: Cube, settings: Search, root_seed: int, start: int
) -> FrozenTrial:
    """Ask the sampler, evaluate, tell; a proposal without finite values has failed."""
    study.sampler = optuna.samplers.TPESampler(
        seed=seeds.integer(root_seed, "search", start) % 2**32,
        n_startup_trials=RANDOM_TRIALS,
        constant_liar=False,  # only finished trials count, so that an interruption leaves no trace
    )
    if start % 2 == 0:
        _enqueue(study, cube, settings, root_seed, start)
    trial = study.ask(dict(_distributions(settings)))
    systematic = _systematic(trial.params)
    evaluation = path(cube.point(systematic))
    if not evaluation.is_finite:
        return study.tell(trial, state=TrialState.FAIL)
    for name, value in _attributes(start, "proposal", systematic, evaluation, cube).items():
        trial.set_user_attr(name, value)
    excess = evaluation.max_change - settings.max_power_change
    trial.set_constraint(CONSTRAINT, excess)
    trial.storage.set_trial_system_attr(trial._trial_id, DASHBOARD_CONSTRAINTS, [excess])
    return study.tell(trial, evaluation.kl)


def _add_refined(
    study: optuna.Study, path: Path, cube: Cube, settings: Search, proposal: FrozenTrial
) -> None:
    """The best point of the path as a trial."""
    best: Step = path.best(settings.max_power_change)
    systematic, start = cube.systematic(best.point), proposal.user_attrs["start"]
    excess = best.evaluation.max_change - settings.max_power_change
    attributes = _attributes(start, "refined", systematic, best.evaluation, cube)
    more = {"refined_from": proposal.number, "evaluations": len(path.steps)}
    study.add_trial(
        optuna.trial.create_trial(
            params=_params(systematic, settings),
            distributions=dict(_distributions(settings)),
            value=best.evaluation.kl,
            user_attrs=attributes | more,
            constraints={CONSTRAINT: excess},
            system_attrs={DASHBOARD_CONSTRAINTS: [excess]},
        )
    )


def _name_best(study: optuna.Study) -> None:
    """Say on the study which trial is best: optuna-dashboard's own card ignores constraints."""
    try:
        best = study.best_trial
    except ValueError:  # nothing feasible
        text = "none yet"
    else:
        a, b, beta = (best.user_attrs[name] for name in ("a", "b", "beta"))
        text = (
            f"trial {best.number}: KL {best.value:.4g} nats, {a = :.4g}, {b = :.4g}, {beta = :.4g}"
        )
    study.set_user_attr("best_feasible", text)


def _enqueue(study: optuna.Study, cube: Cube, settings: Search, root_seed: int, start: int) -> None:
    """Queue the paper's systematic first, if the bounds allow it; then the next Sobol point.

    An interrupted call may have queued it already.
    """
    if study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
        return
    sobol = qmc.Sobol(len(COORDINATES), rng=seeds.generator(root_seed, "sobol"))
    systematic = cube.systematic(sobol.fast_forward(start // 2 + 1).random(1)[0])
    paper = cube.point(PAPER)
    if start == 0 and np.all((paper >= 0) & (paper <= 1)):
        systematic = PAPER
    study.enqueue_trial(_params(systematic, settings))


def _distributions(settings: Search) -> dict[str, FloatDistribution]:
    bounds = settings.bounds
    low, high = (float(np.arcsinh(x)) for x in (bounds.beta.low, bounds.beta.high))
    kinds = (
        FloatDistribution(bounds.a.low, bounds.a.high, log=True),
        FloatDistribution(bounds.transition.low, bounds.transition.high, log=True),
        FloatDistribution(low, high),
    )
    return dict(zip(COORDINATES, kinds, strict=True))


def _coordinates(systematic: Logistic) -> tuple[float, float, float]:
    """(a, transition, asinh beta)."""
    return systematic.a, -systematic.b / systematic.a, float(np.arcsinh(systematic.beta))


def _params(systematic: Logistic, settings: Search) -> dict[str, float]:
    """The study's parameters; rounding must not push a bound's own value over it."""
    params = {}
    values = zip(_distributions(settings).items(), _coordinates(systematic), strict=True)
    for (name, distribution), value in values:
        params[name] = float(np.clip(value, distribution.low, distribution.high))
    return params


def _systematic(params: dict[str, float]) -> Logistic:
    a, transition, asinh_beta = (params[name] for name in COORDINATES)
    return Logistic(a, -a * transition, float(np.sinh(asinh_beta)))


def _attributes(
    start: int, kind: str, systematic: Logistic, evaluation: Evaluation, cube: Cube
) -> dict[str, Any]:
    """What a trial tells beside its value; see the top of the module."""
    width = cube.high - cube.low
    return {
        "start": start,
        "kind": kind,
        "a": systematic.a,
        "b": systematic.b,
        "beta": systematic.beta,
        "max_power_change": evaluation.max_change,
        "least_density": evaluation.least_density,
        "kl_gradient": (evaluation.kl_gradient / width).tolist(),
        "power_change_gradient": (evaluation.max_change_gradient / width).tolist(),
    }


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def _trial(study: optuna.Study, start: int, kind: str) -> FrozenTrial | None:
    """The finished trial of a start, if there is one."""
    for trial in _finished(study):
        if (trial.user_attrs["start"], trial.user_attrs["kind"]) == (start, kind):
            return trial
    return None


def _is_done(study: optuna.Study, start: int, settings: Search) -> bool:
    return _trial(study, start, "refined" if settings.refine_steps else "proposal") is not None


def _forget_interrupted(study: optuna.Study) -> None:
    """Mark trials that a killed process left running as failed; their starts come again."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)


def _study_name(
    settings: Search, maps: np.ndarray, box_size: float, root_seed: int, fingerprint: str
) -> str:
    """A name that two searches share only if one goes on where the other stopped."""
    kept = settings.model_dump_json(exclude={"starts"})
    digest = hashlib.sha256(np.ascontiguousarray(maps, np.float32).tobytes())
    digest.update(f"{kept} {box_size} {root_seed} {fingerprint}".encode())
    return f"systematics-{digest.hexdigest()[:12]}"


def _open(storage: FilePath, name: str) -> optuna.Study:
    storage = FilePath(storage).resolve()
    storage.parent.mkdir(parents=True, exist_ok=True)
    try:
        return optuna.create_study(
            storage=f"sqlite:///{storage}",
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )
    except (DatabaseError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{storage} is damaged or is no Optuna study: {reason}") from error
