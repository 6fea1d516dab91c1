"""Damage that attacks which know a defence do to it, and whether the attacks can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spurious.audit import criteria
from spurious.audit.attacks import Attacks, Limit
from spurious.audit.criteria import Check
from spurious.audit.saturation import Saturation
from spurious.bootstrap import mean_interval
from spurious.config.audit import Thresholds
from spurious.config.defend import Defend
from spurious.defences.adaptive import Heard, Outcome, attacks_on
from spurious.posteriors.posterior import Posterior
from spurious.progress import track

DECISIVE = ("gradient_not_zero", "beats_transfer", "saturates")
"""Checks without which a small damage proves nothing: the attack may have failed."""
UNDEFENDED = "undefended"
BOUNDED = "bounded"
"""The limit that keeps P(k) too."""


@dataclass(frozen=True)
class Point:
    """The strongest attacks within one limit.

    Attributes:
        limit: what they may do.
        own: by the attack that knows the posterior.
        transferred: by what was made on the undefended one; None for itself.
    """

    limit: Limit
    own: Outcome
    transferred: Outcome | None

    @property
    def most(self) -> Outcome:
        """Map by map, what does more damage."""
        return self.own if self.transferred is None else self.own.worse(self.transferred)


def adversary(posterior: Posterior, settings: Defend, seed: int) -> Attacks:
    """The attacks on a posterior that know its defence."""
    steps = settings.steps, settings.constrained_steps
    return attacks_on(posterior, Attacks(posterior, *steps, settings.restarts, seed))


def limits(settings: Defend, std: float) -> list[Limit]:
    """Every budget of the two curves, and the one that keeps P(k)."""
    budgets = {"linf": settings.linf.counts(std), "l2": settings.l2.counts(std)}
    curves = [Limit(size) for size in budgets["linf"]]
    curves += [Limit(size, "l2") for size in budgets["l2"]]
    return [*curves, limits_of_checks(settings, std)[BOUNDED]]


def limits_of_checks(settings: Defend, std: float) -> dict[str, Limit]:
    """Those at which the attacks are checked, by name."""
    epsilon, rms = settings.epsilon.counts(std), settings.rms.counts(std)
    return {
        "linf": Limit(epsilon),
        "l2": Limit(rms, "l2"),
        BOUNDED: Limit(epsilon, fraction=settings.fraction),
    }


def attacked(
    attacks: Attacks,
    heard: Heard,
    maps: np.ndarray,
    settings: Defend,
    elsewhere: Mapping[Limit, np.ndarray] | None,
) -> tuple[list[Point], dict[Limit, np.ndarray]]:
    """Damage within every limit, and the maps that do it.

    Args:
        attacks: on the posterior.
        heard: the posterior and the maps.
        maps: clean, (n, N, N) in counts.
        settings: budgets, in standard deviations of the posterior's pixels or in counts.
        elsewhere: the same maps as attacks on the undefended posterior leave them; None for itself.
    """
    wanted = limits(settings, attacks.posterior.standardiser.std)
    points, made = [], {}
    for limit in track(wanted, name="attacks", unit="budget", delay=2):
        made[limit] = np.asarray(attacks.strongest(maps, limit))
        transferred = None if elsewhere is None else heard(elsewhere[limit])
        points.append(Point(limit, heard(made[limit]), transferred))
    return points, made


def saturation(
    attacks: Attacks, heard: Heard, maps: np.ndarray, point: Point, settings: Defend
) -> tuple[Saturation, Outcome]:
    """What twice the steps and a long other attack add to a point; and twice's outcome.

    Unlike `spurious.audit.saturation`, what is rejected counts as no damage.
    """
    limit, steps = point.limit, attacks.steps_within(point.limit)
    twice = heard(attacks.strongest(maps, limit, 2 * steps))
    rows = reference_rows(maps, settings)
    long = attacks.reference(maps[rows], limit, settings.reference_steps)
    most = Heard(attacks.posterior, maps[rows])(long).damage
    found = point.own.damage
    reference = np.max([most, found[rows], twice.damage[rows]], axis=0)
    more = twice.damage, rows, reference, settings.reference_steps
    return Saturation(limit, steps, attacks.restarts, found, *more), twice


def reference_rows(maps: np.ndarray, settings: Defend) -> np.ndarray:
    """Rows of the maps of which long attacks and several starts are made, evenly spaced."""
    return np.unique(np.linspace(0, len(maps) - 1, settings.reference_maps).round().astype(int))


def believed(
    point: Point, saturated: Mapping[str, Saturation], thresholds: Thresholds
) -> tuple[Check, Check]:
    """Whether the attack beats what was made on the undefended posterior, and saturates."""
    shown = {} if point.transferred is None else {UNDEFENDED: point.transferred.damage}
    return (
        criteria.beats_transfer(point.own.damage, shown, thresholds),
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
        "norm": point.limit.norm,
        "counts": point.limit.epsilon,
        "std": point.limit.epsilon / std,
        "damage": mean_interval(most.damage, weights),
        "own": float(point.own.damage.mean()),
        "transferred": None
        if point.transferred is None
        else float(point.transferred.damage.mean()),
        "rejected": 1 - answered,
        "kl_accepted": float(most.kl[most.accepted].mean()) if answered else None,
    }
