"""Damage that attacks which know a defence do to it, and whether the attacks can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from spurious.audit import criteria
from spurious.audit.attacks import Attacks, Limit
from spurious.audit.criteria import Check
from spurious.audit.gradient_check import agreement
from spurious.audit.saturation import Saturation
from spurious.bootstrap import mean_interval
from spurious.config.audit import Thresholds
from spurious.config.defend import Defend
from spurious.data.maps import MapSet
from spurious.defences.adaptive import Heard, Outcome, attacks_on
from spurious.posteriors.posterior import Posterior
from spurious.progress import tqdm

DECISIVE = ("gradient_not_zero", "beats_transfer", "saturates")
"""Checks without which a small damage proves nothing: the attack may have failed."""
UNDEFENDED = "undefended"
Key = tuple[str, float]
"""Norm and size, in counts, of a budget."""


@dataclass(frozen=True)
class Point:
    """The strongest attacks at one budget.

    Attributes:
        norm: "linf" or "l2".
        counts: the budget.
        own: by the attack that knows the posterior.
        transferred: by what was made on the undefended one; None for itself.
    """

    norm: str
    counts: float
    own: Outcome
    transferred: Outcome | None

    @property
    def most(self) -> Outcome:
        """Map by map, what does more damage."""
        return self.own if self.transferred is None else self.own.worse(self.transferred)


def adversary(posterior: Posterior, settings: Defend, seed: int) -> Attacks:
    """The attacks on a posterior that know its defence."""
    like = Attacks(posterior, settings.steps, restarts=settings.restarts, seed=seed)
    return attacks_on(posterior, like)


def curves(
    attacks: Attacks,
    heard: Heard,
    maps: np.ndarray,
    settings: Defend,
    elsewhere: Mapping[Key, np.ndarray] | None,
) -> tuple[list[Point], dict[Key, np.ndarray]]:
    """Damage at every budget, and the maps that do it.

    Args:
        attacks: on the posterior.
        heard: the posterior and the maps.
        maps: clean, (n, N, N) in counts.
        settings: budgets, in standard deviations of the posterior's pixels or in counts.
        elsewhere: the same maps as attacks on the undefended posterior leave them; None for itself.
    """
    std = attacks.posterior.standardiser.std
    keys = [(norm, x) for norm in ("linf", "l2") for x in getattr(settings, norm).counts(std)]
    points, made = [], {}
    for norm, size in tqdm(keys, desc="attacks", unit="budget", delay=2, leave=False):
        made[norm, size] = np.asarray(attacks.strongest(maps, limit((norm, size))))
        transferred = None if elsewhere is None else heard(elsewhere[norm, size])
        points.append(Point(norm, size, heard(made[norm, size]), transferred))
    return points, made


def limit(key: Key) -> Limit:
    """What an attack with this budget may do."""
    return Limit(key[1], cast(Any, key[0]))


def at_checks(points: Sequence[Point], settings: Defend, std: float) -> dict[str, Point]:
    """Norm -> the point at the budget of the checks."""
    wanted = {"linf": settings.epsilon.counts(std), "l2": settings.rms.counts(std)}
    return {point.norm: point for point in points if point.counts == wanted[point.norm]}


def saturation(
    attacks: Attacks, heard: Heard, maps: np.ndarray, point: Point, settings: Defend
) -> tuple[Saturation, Outcome]:
    """What twice the steps and a long other attack add to a point; and twice's outcome.

    Unlike `spurious.audit.saturation`, what is rejected counts as no damage.
    """
    within, std_steps = limit((point.norm, point.counts)), attacks.steps
    twice = heard(attacks.strongest(maps, within, 2 * std_steps))
    rows = np.unique(np.linspace(0, len(maps) - 1, settings.reference_maps).round().astype(int))
    long = attacks.reference(maps[rows], within, settings.reference_steps)
    most = Heard(attacks.posterior, maps[rows])(long).damage
    found = point.own.damage
    reference = np.max([most, found[rows], twice.damage[rows]], axis=0)
    return (
        Saturation(
            within,
            std_steps,
            attacks.restarts,
            found,
            twice.damage,
            rows,
            reference,
            settings.reference_steps,
        ),
        twice,
    )


def checks(
    posterior: Posterior,
    data: MapSet,
    chosen: Mapping[str, Point],
    saturated: Mapping[str, Saturation],
    settings: Defend,
    seed: int,
) -> tuple[Check, ...]:
    """Whether the attacks can be believed; see docs/checks.

    Args:
        posterior: what was attacked.
        data: the attacked maps, clean.
        chosen: norm -> the point at the budget of the checks.
        saturated: norm -> what more work does there.
        settings: budgets.
        seed: of random directions.
    """
    thresholds, std = Thresholds(), posterior.standardiser.std
    steps = settings.linf.counts(std)[:3]
    agreed = agreement(posterior, data.maps, data.labels, steps, seed)
    main = chosen["linf"]
    shown = {} if main.transferred is None else {UNDEFENDED: main.transferred.damage}
    return (
        criteria.gradient_not_zero(agreed, thresholds),
        criteria.gradient_agrees(agreed, thresholds),
        criteria.beats_transfer(main.own.damage, shown, thresholds),
        criteria.saturates(saturated, thresholds),
    )


def unproven(found: Sequence[Check]) -> list[str]:
    """Names of the decisive checks that failed."""
    return [check.name for check in found if check.name in DECISIVE and check.passed is False]


def summed(point: Point, std: float, weights: np.ndarray) -> dict[str, Any]:
    """A point with its intervals."""
    most = point.most
    answered = float(most.accepted.mean())
    return {
        "norm": point.norm,
        "counts": point.counts,
        "std": point.counts / std,
        "damage": mean_interval(most.damage, weights),
        "own": float(point.own.damage.mean()),
        "transferred": None
        if point.transferred is None
        else float(point.transferred.damage.mean()),
        "rejected": 1 - answered,
        "kl_accepted": float(most.kl[most.accepted].mean()) if answered else None,
    }
