"""What a search of one family found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Found:
    """One evaluated systematic, on the search's maps.

    Attributes:
        trial: its number in the study.
        start: number of its start.
        kind: "proposal", where a climb begins, or "refined", the best on its way.
        parameters: as its family reports them.
        value: the goal as it was climbed; the larger, the better.
        reported: the goal as it is reported; differs from `value` only where that is smoothed.
        kl: mean KL(q(. | perturbed) || q(. | clean)), nats, whatever the goal.
        fences: name -> height, of all fences that were measured.
        excess: largest height over its limit, less 1; feasible where <= 0.
        least_density: smallest density before clipping at zero, counts.
        feasible: whether every fence keeps within its limit.
        pruned: whether its start was ended early.
        at_bound: names of the coordinates that lie on an end of their range: wider ones may give
            more.
    """

    trial: int
    start: int
    kind: str
    parameters: dict[str, float]
    value: float
    reported: float
    kl: float
    fences: dict[str, float]
    excess: float
    least_density: float
    feasible: bool
    pruned: bool
    at_bound: list[str] = field(default_factory=list)

    @classmethod
    def of_trial(cls, trial: FrozenTrial) -> Found:
        """From a trial that has ended, see `spurious.search.study` for what it says."""
        attributes = trial.user_attrs
        value = attributes["value"] if "value" in attributes else (trial.values or [np.nan])[0]
        return cls(
            trial=trial.number,
            value=value,
            reported=attributes.get("reported", value),
            feasible=all(excess <= 0 for excess in trial.constraints.values()),
            pruned=attributes.get("pruned", False),
            **{name: attributes[name] for name in FROM_ATTRIBUTES},
        )


FROM_ATTRIBUTES = (
    "start", "kind", "parameters", "kl", "fences", "excess", "least_density", "at_bound",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """All that a search evaluated, in order of the starts; proposals come before refinements.

    Attributes:
        study: name of the Optuna study.
        family: name of the family.
        limits: name -> limit of each fence.
        history: every finished trial.
        given_up: starts that ended without a value, by number: what was proposed overflows, or its
            worker died too often.
    """

    study: str
    family: str
    limits: dict[str, float]
    history: tuple[Found, ...]
    given_up: tuple[int, ...] = ()

    @classmethod
    def of_trials(
        cls,
        study: str,
        family: str,
        limits: Mapping[str, float],
        trials: Iterable[FrozenTrial],
        given_up: Iterable[int] = (),
    ) -> Result:
        """From trials in order of their numbers; of several that are the same, the first counts."""
        found: dict[tuple[int, str], Found] = {}
        for trial in trials:
            one = Found.of_trial(trial)
            found.setdefault((one.start, one.kind), one)
        history = tuple(found[key] for key in sorted(found))
        return cls(study, family, dict(limits), history, tuple(sorted(given_up)))

    @property
    def best(self) -> Found | None:
        """The feasible systematic with the largest value; None if nothing was feasible."""
        feasible = [found for found in self.history if found.feasible]
        return max(feasible, key=lambda found: found.value, default=None)

    @property
    def closest(self) -> Found | None:
        """The systematic nearest to the fences: what to report if none is feasible."""
        return min(self.history, key=lambda found: found.excess, default=None)

    @property
    def pareto(self) -> tuple[Found, ...]:
        """Those that no other beats in both value and excess, by increasing excess."""
        front: list[Found] = []
        for found in sorted(self.history, key=lambda f: (f.excess, -f.value)):
            if not front or found.value > front[-1].value:
                front.append(found)
        return tuple(front)

    def headline(self) -> str:
        """The best feasible value so far, for a progress bar."""
        return f"best {self.best.value:.3g}" if self.best else "none feasible yet"

    def to_json(self) -> dict[str, Any]:
        """All of it for JSON; each trial of the history with the best feasible value so far."""
        return {
            "study": self.study,
            "family": self.family,
            "limits": self.limits,
            "given_up": list(self.given_up),
            "best": _as_json(self.best) if self.best else None,
            "closest": _as_json(self.closest) if self.closest else None,
            "pareto": [_as_json(found) for found in self.pareto],
            "history": [
                _as_json(found) | {"best_so_far": best}
                for found, best in zip(self.history, _best_so_far(self.history), strict=True)
            ],
        }


def _as_json(found: Found) -> dict[str, Any]:
    """Without the trial's number, which depends on how often the search was interrupted."""
    return {name: value for name, value in asdict(found).items() if name != "trial"}


def _best_so_far(history: Sequence[Found]) -> list[float | None]:
    """Largest feasible value up to each trial; None before the first feasible one."""
    best: float | None = None
    so_far = []
    for found in history:
        if found.feasible:
            best = found.value if best is None else max(best, found.value)
        so_far.append(best)
    return so_far
