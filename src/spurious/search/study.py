"""The search of one family: an Optuna study whose every proposal is refined by gradients.

One start is two trials. A systematic is proposed (`spurious.search.starts`) and evaluated;
projected gradient ascent climbs from there, and the best it found enters the study as a trial of
its own, with its true parameters, so that optuna-dashboard shows both. A climb that is hopeless
(`spurious.search.pruning`) ends early, and its proposal is a pruned trial.

A study can be resumed: a start depends on the root seed and its number alone, so one that was
interrupted runs again just as before. Several workers may share it (`spurious.search.claims`). They
begin at the same points as one worker would; only which climbs are hopeless depends on what the
others have found by then. A storage holds several studies, named by what they depend on: another
network, other maps, other code or other settings, except the number of starts, begin a new one.

=======================  ===========================================================================
attribute of a trial     meaning
=======================  ===========================================================================
`start`, `kind`          number of the start; "proposal" or "refined"
`parameters`             as the family reports them; those of the logistic are attributes, too
`kl`                     mean KL(perturbed || clean), nats
`reported`               the goal as it is reported, where that is not the value, which is climbed
`fences`                 name -> height
`excess`                 largest height over its limit, less 1
`least_density`          smallest density before clipping at zero, counts
`at_bound`               names of the parameters that lie on an end of their range
`refined_from`           number of the proposal's trial (refined trials only)
`evaluations`            points evaluated on the way (refined trials only)
`pruned`                 true for both trials of a start that was ended early
`value`                  that of a pruned proposal; Optuna has that of the last step
`given_up`               why a start has no value
constraints              fence -> height less limit, feasible when <= 0
intermediate values      of a proposal: what each gain of its climb promises
=======================  ===========================================================================

The study's own attributes are `best_feasible`, which names the best trial within the fences, and
`fences`: of each its limit and by how much rounding may move a height (`spurious.search.fences`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from spurious import config
from spurious.posteriors.posterior import Posterior
from spurious.progress import Bar
from spurious.search import notes
from spurious.search.claims import ENDED, GIVEN_UP, Claims, start_of
from spurious.search.families import Family
from spurious.search.fences import FENCES
from spurious.search.goals import build_goal
from spurious.search.objective import Objective
from spurious.search.pruning import hopeless, promise
from spurious.search.refine import Path, Step, refine
from spurious.search.result import Result
from spurious.search.starts import Starts, distributions, values
from spurious.studies import HEARTBEAT, Heartbeat, explained, open_study

DASHBOARD_CONSTRAINTS = "constraints"  # where optuna-dashboard 0.21 looks for them


def build_objective(
    settings: config.Search,
    family: Family,
    maps: np.ndarray,
    posterior: Posterior | Sequence[Posterior],
    box_size: float,
    groups: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> Objective:
    """The goal of the settings, with all fences that they limit or draw a front along.

    Args:
        settings: goal, fences and their confidence.
        family: what is searched.
        maps: (n, N, N) in counts.
        posterior: what is to be fooled; of several, the mean of the goal counts.
        box_size: side of a map, Mpc/h.
        groups: number of the simulation that each map is of, (n,); default: one a map.
        labels: true parameters of the maps (n, p), which the fence `pdf` asks for.
    """
    first = posterior[0] if isinstance(posterior, Sequence) else posterior
    goal = build_goal(settings.goal, first.names)
    along = [name for name in type(settings.front).model_fields if getattr(settings.front, name)]
    # The change of the power is always reported, whatever is limited.
    names = dict.fromkeys([*settings.fences.limits, *along, "power"])
    return Objective(
        maps, posterior, box_size, family, goal, tuple(names), settings.confidence, groups, labels
    )


def run(
    settings: config.Search,
    objective: Objective,
    storage: str | FilePath,
    root_seed: int,
    fingerprint: str = "",
    *,
    scale: str = "",
    heartbeat: Heartbeat = HEARTBEAT,
    progress: bool = True,
) -> Result:
    """Search until `settings.starts` starts have ended, counting those of earlier calls.

    Returns when all have, also those that other workers are working on.

    Args:
        settings: starts, refinement, fences.
        objective: what is maximised, see `build_objective`.
        storage: where the study is, see `spurious.studies`.
        root_seed: root of the draws of the starts.
        fingerprint: what identifies the maps, the posterior and the code of the search, such as the
            MD5 of their files; part of the study's name.
        scale: of the maps; the study's name begins with it.
        heartbeat: when another worker counts as dead.
        progress: show a bar.

    Raises:
        UserError: `storage` cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    family = objective.family
    name = study_name(settings, family, root_seed, fingerprint, scale)
    study = open_study(storage, name, heartbeat=heartbeat)
    search = _Search(study, settings, objective)
    with explained(storage):
        search.describe()
    starts = Starts(objective, settings.fences.limits, root_seed, settings.refine_steps > 0)
    with explained(storage):
        claims = Claims(study, settings.starts, starts, heartbeat)
        with Bar(total=settings.starts, name=f"search {family.name}", disable=not progress) as bar:
            while True:
                bar.n = claims.settled
                bar.note = search.result().headline()
                trial = claims.next()
                if trial is None:
                    break
                with claims.alive(trial):
                    search.work(trial, claims)
            bar.n = settings.starts
            bar.note = search.result().headline()
        search.describe()
        return search.result()


class _Search:
    """The work on one start of a study."""

    def __init__(self, study: optuna.Study, settings: config.Search, objective: Objective) -> None:
        self.study = study
        self.settings = settings
        self.objective = objective
        self.family = objective.family
        self.limits = settings.fences.limits
        self.space = distributions(self.family.coordinates)

    def work(self, trial: Trial, claims: Claims) -> None:
        """Evaluate the proposal, climb from it, and tell the study of both."""
        start = start_of(trial)
        coordinates = {
            name: trial.suggest_float(name, one.low, one.high, log=one.log)
            for name, one in self.space.items()
        }
        path = Path(self.objective, self.objective.fences)
        first = path.step(np.clip(self.family.from_coordinates(coordinates), 0, 1))
        if not first.evaluation.is_finite:
            trial.set_user_attr(GIVEN_UP, "what was proposed overflows")
            self.study.tell(trial, state=TrialState.FAIL)
            return
        self._tell_proposal(trial, first, start)
        # A worker may have died after it added the refined trial.
        refined = self._refined(start)
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

    def describe(self) -> None:
        """Say on the study what is searched, for optuna-dashboard."""
        given, unit = self.settings.goal, self.objective.goal.unit
        goal = given if isinstance(given, str) else given.kind
        _name_fences(self.study, self.limits)
        notes.name_objective(self.study, goal, unit)
        notes.write_note(self.study, self.family, goal, unit, self.limits, self.result().best)

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
        quadratic = self.objective.goal.quadratic
        promises: list[float] = []

        def on_step(number: int, step: Step) -> bool:
            here = promise(step.evaluation, self.limits)
            if not np.isfinite(here):
                return False
            promises.append(max([here, *promises[-1:]]))
            trial.report(promises[-1], number)
            return hopeless(promises, to_beat, quadratic)

        refine(path, first.point, self.limits, self.settings.refine_steps, on_step)
        return hopeless(promises, to_beat, quadratic)

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
                params=values(self.family.coordinates, best.point),
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
        attributes = {
            "start": start,
            "kind": kind,
            "parameters": parameters,
            "kl": evaluation.kl,
            "fences": {name: fence.height for name, fence in fences.items()},
            "excess": max(relative.values()),
            "least_density": evaluation.least_density,
            "at_bound": self.family.at_bound(step.point),
        }
        if evaluation.reported != evaluation.value:
            attributes["reported"] = evaluation.reported
        if parameters.keys() != self.space.keys():
            attributes |= parameters
        return attributes

    def _refined(self, start: int) -> list[FrozenTrial]:
        """The trials that a start's climb ended in: one, unless two workers climbed from it."""
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False, states=ENDED)
            if trial.user_attrs["kind"] == "refined" and start_of(trial) == start
        ]

    def _name_best(self) -> None:
        """Say on the study which trial is best: a storage ignores constraints."""
        self.study.set_user_attr("best_feasible", notes.describe_best(self.result().best))


def _name_fences(study: optuna.Study, limits: Mapping[str, float]) -> None:
    """Say on the study what its constraints are."""
    described = {
        name: {"limit": limit, "tolerance": FENCES[name].tolerance}
        for name, limit in limits.items()
    }
    if study.user_attrs.get("fences") != described:  # each is a transaction
        study.set_user_attr("fences", described)


def study_name(
    settings: config.Search, family: Family, root_seed: int, fingerprint: str, scale: str = ""
) -> str:
    """A name that two searches share only if one goes on where the other stopped."""
    kept = settings.model_dump_json(exclude={"starts", "families", "front"})
    own = settings.families[family.name].model_dump_json()
    digest = hashlib.sha256(f"{kept} {own} {root_seed} {fingerprint}".encode())
    return "-".join([*([scale] if scale else []), family.name, digest.hexdigest()[:8]])


def maps_fingerprint(maps: np.ndarray, box_size: float) -> str:
    """What tells maps (n, N, N) from others."""
    digest = hashlib.sha256(np.ascontiguousarray(maps, np.float32).tobytes())
    digest.update(f"{box_size}".encode())
    return digest.hexdigest()
