"""Security curves: damage against budget (Biggio & Roli 2018, arXiv:1712.03141, Section 3.3).

Each attack is made once per budget, on the target, and every posterior sees its maps. Damage is
KL(perturbed || clean), which the strongest attack climbs: so the curves measure what it maximises,
and an attack within the same limit that does more shows that it is not the strongest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from spurious.audit.attacks import Attacks, Limit
from spurious.audit.measurement import Listener, Response, Size, measure
from spurious.bootstrap import bootstrap_weights, mean_interval
from spurious.config.audit import Audit
from spurious.progress import Bar

TARGET = "target"
UNITS = {"linf": "count", "l2": "count", "cosmic": "cosmic_variance"}


@dataclass(frozen=True)
class Point:
    """One attack at one budget.

    Attributes:
        budget: in the unit of its family: counts, or fractions of the cosmic variance.
        responses: of each posterior that saw the maps, by name; always includes `TARGET`.
        size: of the change.
    """

    budget: float
    responses: Mapping[str, Response]
    size: Size

    @property
    def target(self) -> Response:
        """The response of the target."""
        return self.responses[TARGET]


@dataclass(frozen=True)
class Curve:
    """One attack at rising budgets.

    Attributes:
        name: of the attack.
        family: what the budget limits: "linf", "l2" or "cosmic".
        control: whether it ignores the posterior.
        points: smallest budget first.
        rms: of a curve of the family "cosmic": largest RMS change, counts.
    """

    name: str
    family: str
    control: bool
    points: tuple[Point, ...]
    rms: float | None = None

    @property
    def budgets(self) -> np.ndarray:
        """The budgets, (points,)."""
        return np.array([point.budget for point in self.points])

    @property
    def damages(self) -> np.ndarray:
        """Mean KL(perturbed || clean) of the target at each budget, nats: (points,)."""
        return np.array([point.target.kl.mean() for point in self.points])


@dataclass(frozen=True)
class Curves:
    """All curves over the same maps.

    Attributes:
        curves: one per attack.
        weights: of the maps' bootstrap resamples, (resamples, n).
        std: standard deviation of a pixel by the target's standardiser, counts.
        sigmas: shift of the mean beyond which a map counts as moved.
    """

    curves: tuple[Curve, ...]
    weights: np.ndarray
    std: float
    sigmas: float

    def __getitem__(self, name: str) -> Curve:
        """The curve of an attack."""
        return next(curve for curve in self.curves if curve.name == name)

    def family(self, family: str) -> list[Curve]:
        """The curves whose budgets limit the same quantity."""
        return [curve for curve in self.curves if curve.family == family]

    def as_json(self) -> dict[str, Any]:
        """Every point with its intervals, in the order of the curves.

        `budget` is in `unit`, and in `std` for counts; `responses` holds for each posterior the
        mean KL(perturbed || clean) in nats and the fraction of maps moved, None where a posterior
        gave no finite number.
        """
        return {
            "std_counts": self.std,
            "sigmas": self.sigmas,
            "curves": [self._curve(curve) for curve in self.curves],
        }

    def _curve(self, curve: Curve) -> dict[str, Any]:
        return {
            "name": curve.name,
            "family": curve.family,
            "control": curve.control,
            "unit": UNITS[curve.family],
            **({} if curve.rms is None else {"rms_counts": curve.rms}),
            "points": [self._point(curve, point) for point in curve.points],
        }

    def _point(self, curve: Curve, point: Point) -> dict[str, Any]:
        counts = {} if curve.family == "cosmic" else {"std": point.budget / self.std}
        return {
            "budget": point.budget,
            **counts,
            "rms_counts": float(point.size.rms.mean()),
            "responses": {name: self._response(r) for name, r in point.responses.items()},
        }

    def _response(self, response: Response) -> dict[str, Any]:
        moved = response.shift > self.sigmas
        return {
            "kl_perturbed_clean": _finite(mean_interval(response.kl, self.weights)),
            "moved": _finite(mean_interval(moved, self.weights)),
        }


def _finite(interval: dict[str, float]) -> dict[str, float | None]:
    """Replace numbers that are not finite by None, for JSON."""
    return {key: value if np.isfinite(value) else None for key, value in interval.items()}


@dataclass(frozen=True)
class Audience:
    """The clean maps, and all posteriors that see what attacks make of them.

    Args:
        maps: (n, N, N) in counts.
        truth: their true parameters, (n, p).
        box_size: side of a map, Mpc/h.
        target: the posterior that is attacked.
        others: other posteriors, by name.
    """

    maps: np.ndarray
    truth: np.ndarray
    box_size: float
    target: Listener
    others: Mapping[str, Listener]

    def point(self, budget: float, perturbed: Any, *, control: bool = False) -> Point:
        """All responses to the perturbed maps; for a control, only the target's."""
        listeners = {TARGET: self.target, **({} if control else self.others)}
        responses = {name: listener(perturbed) for name, listener in listeners.items()}
        return Point(budget, responses, measure(self.maps, perturbed, self.box_size))


def audience(
    attacks: Attacks,
    maps: np.ndarray,
    truth: np.ndarray,
    box_size: float,
    others: Mapping[str, Any] | None = None,
) -> Audience:
    """The listeners of all posteriors on these maps; arguments as for `security`."""
    listeners = {name: Listener(one, maps) for name, one in (others or {}).items()}
    return Audience(maps, truth, box_size, Listener(attacks.posterior, maps), listeners)


def security(
    attacks: Attacks,
    heard: Audience,
    settings: Audit,
    seed: int = 0,
    groups: np.ndarray | None = None,
) -> Curves:
    """Damage against budget, for each attack and control.

    Args:
        attacks: on the target.
        heard: the maps and the posteriors that see them.
        settings: budgets; standard deviations are those of the target's standardiser.
        seed: draws the bootstrap's resamples.
        groups: number of the simulation that each map is of, (n,).
    """
    std = attacks.posterior.standardiser.std
    rms = settings.cosmic_rms.counts(std)
    makers = _makers(attacks, heard, rms)
    budgets = {
        "linf": settings.linf.counts(std),
        "l2": settings.l2.counts(std),
        "cosmic": list(settings.cosmic.values),
    }
    budgets |= {"bim": [settings.epsilon.counts(std)], "strongest_phase_only": [0.0]}
    work = sum(len(budgets.get(name, budgets[one.family])) for name, one in makers.items())
    curves = []
    with Bar(total=work, name="curves", unit="attack", delay=2) as bar:
        for name, (family, control, make) in makers.items():
            points = []
            for budget in budgets.get(name, budgets[family]):
                points.append(heard.point(budget, make(budget), control=control))
                bar.update()
            limit = rms if family == "cosmic" else None
            curves.append(Curve(name, family, control, tuple(points), limit))
    weights = bootstrap_weights(len(heard.maps), seed, groups)
    return Curves(tuple(curves), weights, std, settings.thresholds.sigmas)


class _Maker(NamedTuple):
    family: str
    control: bool
    make: Callable[[float], Any]


def _makers(attacks: Attacks, heard: Audience, rms: float) -> dict[str, _Maker]:
    """Functions from a budget to perturbed maps, by name of the attack."""
    maps, truth = heard.maps, heard.truth

    def strongest(limit: Limit) -> Any:
        return attacks.strongest(maps, limit)

    return {
        "strongest_linf": _Maker("linf", False, lambda size: strongest(Limit(size))),
        "bim": _Maker("linf", False, lambda size: attacks.bim(maps, truth, size)),
        "fgsm": _Maker("linf", False, lambda size: attacks.fgsm(maps, size)),
        "random_sign": _Maker("linf", True, lambda size: attacks.random_sign(maps, size)),
        "strongest_l2": _Maker("l2", False, lambda size: strongest(Limit(size, "l2"))),
        "noise": _Maker("l2", True, lambda size: attacks.noise(maps, size)),
        "strongest_bounded": _Maker(
            "cosmic", False, lambda part: strongest(Limit(rms, "l2", fraction=part))
        ),
        "bounded_noise": _Maker(
            "cosmic", True, lambda part: attacks.bounded_noise(maps, rms, part)
        ),
        "strongest_phase_only": _Maker(
            "cosmic", False, lambda _: strongest(Limit(rms, "l2", phases_only=True))
        ),
    }
