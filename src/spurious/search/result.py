"""What a search found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from spurious.perturbations.systematics import Logistic


@dataclass(frozen=True)
class Found:
    """One evaluated systematic.

    Attributes:
        start: number of its start.
        kind: "proposal" of the sampler or "refined" by gradients.
        a: slope, 1/count.
        b: offset.
        beta: amplitude, counts.
        kl: mean KL(q(. | perturbed) || q(. | clean)) on the search's maps, nats.
        max_power_change: largest |<P'> / <P> - 1| of the contrast over bins, on the same maps.
        least_density: smallest density before clipping at zero, counts.
        feasible: whether `max_power_change` keeps within the fence.
    """

    start: int
    kind: str
    a: float
    b: float
    beta: float
    kl: float
    max_power_change: float
    least_density: float
    feasible: bool

    @classmethod
    def of_trial(cls, value: float, attributes: Mapping[str, Any], limit: float) -> Found:
        """From a trial's value and user attributes."""
        own = {f.name for f in fields(cls)}
        kept = {name: v for name, v in attributes.items() if name in own}
        return cls(kl=value, feasible=kept["max_power_change"] <= limit, **kept)

    @property
    def systematic(self) -> Logistic:
        """The perturbation itself."""
        return Logistic(self.a, self.b, self.beta)


@dataclass(frozen=True)
class Result:
    """All that a search evaluated, in order of the starts; proposals come before refinements.

    Attributes:
        study: name of the Optuna study.
        limit: the fence.
        history: every finished trial.
    """

    study: str
    limit: float
    history: tuple[Found, ...]

    @property
    def best(self) -> Found | None:
        """The feasible systematic with the largest KL; None if nothing was feasible."""
        feasible = [found for found in self.history if found.feasible]
        return max(feasible, key=lambda found: found.kl, default=None)

    @property
    def closest(self) -> Found | None:
        """The systematic that changes the power least: what to report if none is feasible."""
        return min(self.history, key=lambda found: found.max_power_change, default=None)

    @property
    def pareto(self) -> tuple[Found, ...]:
        """Those that no other beats in both KL and power change, by increasing power change."""
        front: list[Found] = []
        for found in sorted(self.history, key=lambda f: (f.max_power_change, -f.kl)):
            if not front or found.kl > front[-1].kl:
                front.append(found)
        return tuple(front)

    def headline(self) -> str:
        """The best KL so far, for a progress bar."""
        return f"best {self.best.kl:.3g} nats" if self.best else "none feasible yet"

    def to_json(self) -> dict[str, Any]:
        """All of it for JSON; each trial of the history with the best feasible KL so far."""
        return {
            "study": self.study,
            "limit": self.limit,
            "best": asdict(self.best) if self.best else None,
            "closest": asdict(self.closest) if self.closest else None,
            "pareto": [asdict(found) for found in self.pareto],
            "history": [
                asdict(found) | {"best_so_far": best}
                for found, best in zip(self.history, _best_so_far(self.history), strict=True)
            ],
        }


def _best_so_far(history: Sequence[Found]) -> list[float | None]:
    """Largest feasible KL up to each trial; None before the first feasible one."""
    best: float | None = None
    so_far = []
    for found in history:
        if found.feasible:
            best = found.kl if best is None else max(best, found.kl)
        so_far.append(best)
    return so_far
