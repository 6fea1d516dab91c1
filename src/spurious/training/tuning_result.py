"""What tuning found: how every trial ended, the best of them, and what mattered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

ENOUGH = 8  # complete trials, to say what mattered


@dataclass(frozen=True)
class Outcome:
    """How one trial ended.

    Attributes:
        index: number of the trial, from 0, which is the network to beat.
        ended: "complete", "pruned" or "diverged".
        value: least validation loss in nats a map; None unless complete.
        epoch: the epoch of that loss, from 1; None unless complete.
        epochs: epochs with a finite loss.
        entry: the trial as an entry of `posteriors` in params.yaml.
    """

    index: int
    ended: str
    value: float | None
    epoch: int | None
    epochs: int
    entry: dict[str, Any]

    @classmethod
    def of_trial(cls, trial: FrozenTrial) -> Outcome:
        """Of Optuna's trial, with the attributes that `spurious.training.tuning` lists."""
        attributes = trial.user_attrs
        return cls(
            attributes["index"],
            attributes["ended"],
            trial.value if trial.state == TrialState.COMPLETE else None,
            attributes.get("epoch"),
            len(trial.intermediate_values),
            attributes["entry"],
        )


@dataclass(frozen=True)
class Result:
    """A study: all trials that ended, in order, and what mattered most."""

    study: str
    trials: tuple[Outcome, ...]
    importances: dict[str, float]

    @classmethod
    def of_trials(cls, study: str, trials: Iterable[FrozenTrial]) -> Result:
        """Of Optuna's trials that ended, in whatever order."""
        ordered = sorted(trials, key=lambda trial: trial.user_attrs["index"])
        return cls(study, tuple(map(Outcome.of_trial, ordered)), importances(ordered))

    @property
    def best(self) -> Outcome | None:
        """The trial with the least validation loss; None if none is complete."""
        complete = [one for one in self.trials if one.value is not None]
        return min(complete, key=lambda one: (one.value, one.index), default=None)

    @property
    def default(self) -> Outcome | None:
        """The trial of the network to beat."""
        return next((one for one in self.trials if one.index == 0), None)

    @property
    def best_so_far(self) -> list[float | None]:
        """The least value up to each trial; None as long as none is complete."""
        values = [np.inf if one.value is None else one.value for one in self.trials]
        least = np.minimum.accumulate(values) if values else np.array([])
        return [float(value) if np.isfinite(value) else None for value in least]

    def count(self, ended: str) -> int:
        """Number of trials that ended so."""
        return sum(one.ended == ended for one in self.trials)

    def to_json(self) -> dict[str, Any]:
        """Best and default value, the best entry, counts, and every trial."""
        best, default = self.best, self.default
        counts = {f"n_{how}": self.count(how) for how in ("complete", "pruned", "diverged")}
        return {
            "study": self.study,
            "best": best and best.value,
            "default": default and default.value,
            "trial": best and best.index,
            "entry": best and best.entry,
            **counts,
            "importances": self.importances,
            "trials": [asdict(one) for one in self.trials],
        }


def importances(trials: Iterable[FrozenTrial]) -> dict[str, float]:
    """Share of each parameter in what makes good trials good; empty with too few of them.

    PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), of parameters that all trials have.
    """
    study = optuna.create_study(direction="minimize")
    study.add_trials([trial for trial in trials if trial.state == TrialState.COMPLETE])
    if len(study.trials) < ENOUGH:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
