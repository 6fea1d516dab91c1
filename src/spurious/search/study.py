"""The search of one family: an Optuna study whose every proposal is refined by gradients.

One start is two trials. A systematic is proposed and evaluated; SLSQP climbs from there, and the
best it found enters the study as a trial of its own, with its true parameters, so that the sampler
learns from both and optuna-dashboard shows both. The first proposals are what is known of the
family, such as the paper's systematic. Then odd starts are those of the sampler that learns from
gradients (`spurious.search.sampler`), and even ones come from a scrambled Sobol sequence, which
covers the bounds, the first of them as the most promising of several
(`spurious.search.screening`). A climb that is hopeless (`spurious.search.pruning`) ends early, and
its proposal is a pruned trial.

A study can be resumed: a start's draws are seeded by the root seed and its number, and only
finished trials decide what is proposed, so a start that was interrupted runs again just as before.
Several workers may share it (`spurious.search.claims`); then what a start proposes depends on which
others have ended. A storage holds several studies, named by what they depend on: another network,
other maps or other settings, except the number of starts, begin a new one.

=======================  ===========================================================================
attribute of a trial     meaning
=======================  ===========================================================================
`start`, `kind`          number of the start; "proposal" or "refined"
`parameters`             as the family reports them; those of the logistic are attributes, too
`kl`                     mean KL(perturbed || clean), nats
`reported`               the goal as it is told, where that is not the value, which is climbed
`fences`                 name -> height
`excess`                 largest height over its limit, less 1
`least_density`          smallest density before clipping at zero, counts
`gradients`              "value", "excess" and each fence -> gradient by the cube's coordinates
`refined_from`           number of the proposal's trial (refined trials only)
`evaluations`            points evaluated on the way (refined trials only)
`pruned`                 true for both trials of a start that was ended early
`value`                  that of a pruned proposal; Optuna has that of the last step
`given_up`               why a start has no value
constraints              fence -> height less limit, feasible when <= 0
intermediate values      of a proposal: what each step of its climb promises
=======================  ===========================================================================

The study's own attributes are `best_feasible`, which names the best trial within the fences, and
`fences`: of each its limit and by how much rounding may move a height (`spurious.search.fences`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from tqdm import tqdm

from spurious import config
from spurious.inference.posterior import Posterior
from spurious.search.claims import ENDED, GIVEN_UP, Claims, start_of
from spurious.search.families import Family
from spurious.search.fences import FENCES
from spurious.search.goals import build_goal
from spurious.search.objective import Objective
from spurious.search.pruning import hopeless, promise
from spurious.search.refine import Path, Step, refine
from spurious.search.result import Result
from spurious.search.sampler import GradientSampler, covering, distributions, params
from spurious.search.screening import SCREENED, most_promising
from spurious.search.within import nearest_within
from spurious.studies import HEARTBEAT, Heartbeat, explained, open_study

APART = 0.05  # a climb would end where one from the nearest known point did
DASHBOARD_CONSTRAINTS = "constraints"  # where optuna-dashboard 0.21 looks for them


def build_objective(
    settings: config.Search, family: Family, maps: np.ndarray, posterior: Posterior, box_size: float
) -> Objective:
    """The goal of the settings, with all fences that they limit or draw a front along."""
    goal = build_goal(settings.goal, posterior.names)
    along = [name for name in type(settings.front).model_fields if getattr(settings.front, name)]
    # The change of the power is always told, whatever is limited.
    names = dict.fromkeys([*settings.fences.limits, *along, "power"])
    return Objective(maps, posterior, box_size, family, goal, tuple(names))


def run(
    settings: config.Search,
    objective: Objective,
    storage: str | FilePath,
    root_seed: int,
    fingerprint: str = "",
    *,
    heartbeat: Heartbeat = HEARTBEAT,
    progress: bool = True,
) -> Result:
    """Search until `settings.starts` starts have ended, counting those of earlier calls.

    Returns when all have, also those that other workers are working on.

    Args:
        settings: starts, refinement, fences.
        objective: what is maximised, see `build_objective`.
        storage: where the study is, see `spurious.studies`.
        root_seed: root of the sampler's draws.
        fingerprint: what identifies the maps and the posterior, such as the MD5 of their files.
        heartbeat: when another worker counts as dead.
        progress: show a bar.

    Raises:
        UserError: `storage` cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    family = objective.family
    name = study_name(settings, family, root_seed, fingerprint)
    study = open_study(storage, name, heartbeat=heartbeat)
    with explained(storage):
        _name_fences(study, settings.fences.limits)
    search = _Search(study, settings, objective, root_seed)
    study.sampler = GradientSampler(
        root_seed,
        family.coordinates,
        root=objective.goal.quadratic,
        apart=APART,
        project=search.inside,
        explore=settings.refine_steps > 0,
    )
    with explained(storage):
        claims = Claims(study, settings.starts, search.given, heartbeat)
        with tqdm(total=settings.starts, desc=f"search {family.name}", disable=not progress) as bar:
            while True:
                bar.n = claims.settled
                bar.set_postfix_str(search.result().headline())
                trial = claims.next()
                if trial is None:
                    break
                with claims.alive(trial):
                    search.work(trial, claims)
            bar.n = settings.starts
            bar.set_postfix_str(search.result().headline())
        return search.result()


class _Search:
    """The work on one start of a study."""

    def __init__(
        self, study: optuna.Study, settings: config.Search, objective: Objective, root_seed: int
    ) -> None:
        self.study = study
        self.root_seed = root_seed
        self.settings = settings
        self.objective = objective
        self.family = objective.family
        self.limits = settings.fences.limits
        self.space = distributions(self.family.coordinates)
        known = [self.family.point(one) for one in self.family.known]
        self.known = [point for point in known if np.all((point >= 0) & (point <= 1))]

    def given(self, start: int) -> dict[str, float]:
        """Parameters of the starts that are not the sampler's: known ones, and even ones."""
        coordinates = self.family.coordinates
        if start < len(self.known):
            return params(coordinates, self.known[start])
        if start % 2 and start > 2:
            return {}
        number = start if start <= 2 else start // 2 + 1
        return params(coordinates, self.inside(self._covering(number)))

    def _covering(self, number: int) -> np.ndarray:
        """A point of a sequence that covers the cube; the first is the most promising of several.

        Only the first: what promises most does not always end highest, so the others must differ.
        """
        draw = partial(covering, self.root_seed, "cover", self.family.dimension)
        if self.settings.refine_steps and number == len(self.known):
            return most_promising(self.objective.value_only, list(draw(0, SCREENED)), self.limits)
        return draw(SCREENED + number, 1)[0]

    def inside(self, point: np.ndarray) -> np.ndarray:
        """The nearest point within the fences: a climb begins there, and no network is asked."""
        if not self.settings.refine_steps:
            return point
        return nearest_within(self.objective.fences, point, self.limits)

    def work(self, trial: Trial, claims: Claims) -> None:
        """Evaluate the proposal, climb from it, and tell the study of both."""
        start = start_of(trial)
        coordinates = {
            name: trial.suggest_float(name, one.low, one.high, log=one.log)
            for name, one in self.space.items()
        }
        path = Path(self.objective)
        first = path.step(np.clip(self.family.from_coordinates(coordinates), 0, 1))
        if not first.evaluation.is_finite:
            trial.set_user_attr(GIVEN_UP, "what was proposed overflows")
            self.study.tell(trial, state=TrialState.FAIL)
            return
        self._tell_proposal(trial, first, start)
        # A worker may have died after it added the refined trial.
        refined = self._trials(start, "refined")
        pruned = refined[0].user_attrs.get("pruned", False) if refined else False
        if self.settings.refine_steps and not refined:
            pruned = self._climb(trial, path, first)
            if not claims.owned(trial):
                return
            self._add_refined(trial, path, start, pruned)
        if pruned:
            trial.set_user_attr("pruned", True)
            trial.set_user_attr("value", first.evaluation.value)
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, first.evaluation.value)
        self._name_best()

    def result(self) -> Result:
        """All finished trials of the starts that were asked for."""
        trials = [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.user_attrs.get("start", self.settings.starts) < self.settings.starts
        ]
        ended = [trial for trial in trials if trial.state in ENDED]
        done = {start_of(trial) for trial in ended}
        lost = {start_of(trial) for trial in trials if trial.state == TrialState.FAIL} - done
        return Result.of_trials(self.study.study_name, self.family.name, self.limits, ended, lost)

    def _climb(self, trial: Trial, path: Path, first: Step) -> bool:
        """Refine, reporting each step; true if it was given up as hopeless."""
        best = self.result().best
        to_beat = -np.inf if best is None else best.value
        if self.objective.goal.quadratic:
            to_beat = np.sqrt(max(to_beat, 0.0))
        promises: list[float] = []

        def on_step(number: int, step: Step) -> bool:
            here = promise(step.evaluation, self.limits)
            if not np.isfinite(here):
                return False
            promises.append(max([here, *promises[-1:]]))
            trial.report(promises[-1], number)
            return hopeless(promises, to_beat, self.family.dimension)

        refine(path, first.point, self.limits, self.settings.refine_steps, on_step)
        return hopeless(promises, to_beat, self.family.dimension)

    def _tell_proposal(self, trial: Trial, step: Step, start: int) -> None:
        for name, value in self._attributes(step, start, "proposal").items():
            if name not in trial.user_attrs:  # a retried trial has them, and each is a transaction
                trial.set_user_attr(name, value)
        excess = step.evaluation.excess(self.limits)
        for name, value in excess.items():
            trial.set_constraint(name, value)
        self.study._storage.set_trial_system_attr(
            trial._trial_id, DASHBOARD_CONSTRAINTS, list(excess.values())
        )

    def _add_refined(self, proposal: Trial, path: Path, start: int, pruned: bool) -> None:
        """The best point of the path as a trial."""
        best = path.best(self.limits)
        excess = best.evaluation.excess(self.limits)
        more = {"refined_from": proposal.number, "evaluations": len(path.steps)}
        if pruned:
            more["pruned"] = True
        self.study.add_trial(
            optuna.trial.create_trial(
                params=params(self.family.coordinates, best.point),
                distributions={**self.space},
                value=best.evaluation.value,
                user_attrs=self._attributes(best, start, "refined") | more,
                constraints=excess,
                system_attrs={DASHBOARD_CONSTRAINTS: list(excess.values())},
            )
        )

    def _attributes(self, step: Step, start: int, kind: str) -> dict[str, Any]:
        """What a trial tells beside its value; see the top of the module."""
        parameters = self.family.parameters(step.point)
        evaluation = step.evaluation
        fences = {name: evaluation.fences[name] for name in sorted(evaluation.fences)}
        relative = {name: fences[name].height / limit - 1 for name, limit in self.limits.items()}
        worst = max(relative, key=relative.__getitem__)
        gradients = {"value": _listed(evaluation.gradient)}
        gradients["excess"] = _listed(fences[worst].gradient, self.limits[worst])
        gradients |= {name: _listed(fence.gradient) for name, fence in fences.items()}
        attributes = {
            "start": start,
            "kind": kind,
            "parameters": parameters,
            "kl": evaluation.kl,
            "fences": {name: fence.height for name, fence in fences.items()},
            "excess": relative[worst],
            "least_density": evaluation.least_density,
            "gradients": gradients,
        }
        if evaluation.reported != evaluation.value:
            attributes["reported"] = evaluation.reported
        if parameters.keys() != self.space.keys():
            attributes |= parameters
        return attributes

    def _trials(self, start: int | None, kind: str) -> list[FrozenTrial]:
        """The ended trials of a kind, of one start or of all."""
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False, states=ENDED)
            if trial.user_attrs["kind"] == kind and start in (None, start_of(trial))
        ]

    def _name_best(self) -> None:
        """Say on the study which trial is best: optuna-dashboard's card ignores constraints."""
        best = self.result().best
        text = "none yet"
        if best is not None:
            shown = ", ".join(f"{name} = {value:.4g}" for name, value in best.parameters.items())
            text = f"trial {best.trial}: value {best.value:.4g}, {shown}"
        self.study.set_user_attr("best_feasible", text)


def _name_fences(study: optuna.Study, limits: Mapping[str, float]) -> None:
    """Say on the study what its constraints are."""
    told = {
        name: {"limit": limit, "tolerance": FENCES[name].tolerance}
        for name, limit in limits.items()
    }
    if study.user_attrs.get("fences") != told:  # each is a transaction
        study.set_user_attr("fences", told)


def study_name(settings: config.Search, family: Family, root_seed: int, fingerprint: str) -> str:
    """A name that two searches share only if one goes on where the other stopped."""
    kept = settings.model_dump_json(exclude={"starts", "families", "front"})
    own = settings.families[family.name].model_dump_json()
    digest = hashlib.sha256(f"{kept} {own} {root_seed} {fingerprint}".encode())
    return f"{family.name}-{digest.hexdigest()[:12]}"


def maps_fingerprint(maps: np.ndarray, box_size: float) -> str:
    """What tells maps (n, N, N) from others."""
    digest = hashlib.sha256(np.ascontiguousarray(maps, np.float32).tobytes())
    digest.update(f"{box_size}".encode())
    return digest.hexdigest()


def _listed(gradient: np.ndarray | None, limit: float = 1.0) -> list[float] | None:
    return None if gradient is None else (np.asarray(gradient) / limit).tolist()
