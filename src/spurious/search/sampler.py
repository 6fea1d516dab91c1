"""An Optuna sampler that learns from gradients.

Two Gaussian processes learn from all finished trials: one the value, one by how much the worst
constraint is broken, both with the gradients that the trials carry as user attributes. The proposal
is where the expected improvement on the best feasible value, times the probability of being
feasible (Gardner et al. 2014, "Bayesian Optimization with Inequality Constraints"), is largest.
The first trials are points of a scrambled Sobol sequence.

Attributes of a trial that are used, all of them optional; gradients are by the coordinates of the
cube [0, 1]^d in which the sampler works:

===========  =======================================================================================
`excess`     by how much the worst constraint is broken, relative to its limit, >= -1; without it,
             the largest of the trial's constraints
`gradients`  "value" and "excess" -> gradient, (d,)
`start`      draws are seeded by it; without it, by the trial's number
===========  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import qmc

from spurious import seeds
from spurious.search.acquisition import APART, History, propose
from spurious.search.families import Coordinate

FIRST_TRIALS = 4  # before the processes have enough to learn from


def distributions(coordinates: Sequence[Coordinate]) -> dict[str, FloatDistribution]:
    """What an Optuna trial says of the coordinates, which it holds by their values."""
    return {one.name: FloatDistribution(one.low, one.high, log=one.scale == "log")
            for one in coordinates}  # fmt: skip


def params(coordinates: Sequence[Coordinate], point: np.ndarray) -> dict[str, float]:
    """The values at a point (d,) of the cube; rounding must not push one over its bound."""
    return {
        one.name: float(np.clip(one.at(float(place)), one.low, one.high))
        for one, place in zip(coordinates, point, strict=True)
    }


def covering(seed: int, purpose: str, dimension: int, first: int, count: int) -> np.ndarray:
    """Points (count, d) of a scrambled Sobol sequence, which cover the cube together."""
    sobol = qmc.Sobol(dimension, rng=seeds.generator(seed, purpose))
    # To fast-forward by 0 is an error.
    return sobol.fast_forward(first + 1).random(count)


class GradientSampler(BaseSampler):
    """See the top of the module.

    The same finished trials and the same trial number (or `start`) give the same proposal. Trials
    that failed, were pruned or have no finite value are ignored; those that run are taken to end as
    expected, so that several workers do not propose the same. Parameters that are no coordinates
    are drawn at random; those that are fixed are kept, and the others chosen for them.

    Args:
        seed: root of all draws.
        coordinates: what to sample; by default all float parameters that the trials share.
        root: learn the square root of the value, if it is a divergence: those are quadratic where
            they are small. Negative values then count as zero.
        first: trials to come from the Sobol sequence.
        apart: how far from all known points a proposal must be, in the cube. Where the best place
            is nearer, the proposal is where least is known that may be feasible.
        project: takes what would be proposed, a point (d,), to what is, such as the nearest point
            within constraints that cost little. Not asked where a parameter is fixed.
        explore: propose where least is known of the value and that may be feasible. For trials from
            which a climb begins: it goes to the top of its hill by itself, and what is expected to
            be best lies on the hill that is known.
    """

    def __init__(
        self,
        seed: int,
        coordinates: Sequence[Coordinate] | None = None,
        *,
        root: bool = False,
        first: int = FIRST_TRIALS,
        apart: float = APART,
        project: Callable[[np.ndarray], np.ndarray] = lambda point: point,
        explore: bool = False,
    ) -> None:
        self._seed = seed
        self._coordinates = None if coordinates is None else tuple(coordinates)
        self._root = root
        self._first = first
        self._apart = apart
        self._project = project
        self._explore = explore
        self._shared = IntersectionSearchSpace()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The coordinates, unless the trial has its parameters already, as a retried one has."""
        space: dict[str, BaseDistribution] = {**distributions(self._space(study))}
        return {} if trial.params.keys() >= space.keys() else space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The proposal."""
        if not search_space:
            return {}
        coordinates = self._space(study)
        history = self._history(study, coordinates)
        if len(history.points) < self._first:
            point = covering(self._seed, "first", len(coordinates), _number(trial), 1)[0]
            return params(coordinates, self._project(point))
        given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        fixed = {
            i: float(np.clip(one.place(given[one.name]), 0, 1))
            for i, one in enumerate(coordinates)
            if one.name in given
        }
        running = _running(study, coordinates, trial)
        rng = seeds.generator(self._seed, "proposal", _number(trial))
        point = propose(history, running, fixed, rng, self._apart, self._explore)
        return params(coordinates, point if fixed else self._project(point))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """At random: for parameters that are no coordinates."""
        purpose = f"independent {param_name}"
        seed = seeds.integer(self._seed, purpose, _number(trial)) % 2**32
        return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)

    def _space(self, study: optuna.Study) -> tuple[Coordinate, ...]:
        if self._coordinates is not None:
            return self._coordinates
        return tuple(
            Coordinate(name, one.low, one.high, "log" if one.log else "linear", "")
            for name, one in self._shared.calculate(study).items()
            if isinstance(one, FloatDistribution) and one.step is None and not one.single()
        )

    def _history(self, study: optuna.Study, coordinates: Sequence[Coordinate]) -> History:
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        rows = [row for trial in trials if (row := _row(trial, coordinates, sign)) is not None]
        return History.of(rows, len(coordinates), self._root)


def _number(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("start", trial.number))


def _running(
    study: optuna.Study, coordinates: Sequence[Coordinate], own: FrozenTrial
) -> np.ndarray:
    """The points of the other trials that run, (m, d)."""
    trials = study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
    names = {one.name for one in coordinates}
    points = [_point(t, coordinates) for t in trials
              if t.number != own.number and t.params.keys() >= names]  # fmt: skip
    return np.array(sorted(map(tuple, points))).reshape(-1, len(coordinates))


def _point(trial: FrozenTrial, coordinates: Sequence[Coordinate]) -> np.ndarray:
    return np.clip([one.place(trial.params[one.name]) for one in coordinates], 0, 1)


def _row(trial: FrozenTrial, coordinates: Sequence[Coordinate], sign: float) -> np.ndarray | None:
    """(point, value, gradient, excess, its gradient) in one row; None if it is of no use."""
    if any(one.name not in trial.params for one in coordinates):
        return None
    value = trial.values[0] if trial.values else np.nan
    unknown = [np.nan] * len(coordinates)
    attributes = trial.user_attrs
    excess = attributes.get("excess", max(trial.constraints.values(), default=np.nan))
    gradients = attributes.get("gradients", {})
    gradient = sign * np.array(gradients.get("value", unknown))
    slopes = gradients.get("excess", unknown)
    if not np.isfinite(value):
        return None
    return np.array([*_point(trial, coordinates), sign * value, *gradient, excess, *slopes])
