"""What a defence costs and what it avoids, measured beside the undefended posterior.

`evaluate` measures one posterior; the undefended one is measured first, because what was made on it
is shown to all others. Everything is a number a map, summed up by `Evaluation.row` with bootstrap
intervals over maps. docs/defences.md says what each key of a row means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from spurious.audit import verdicts
from spurious.audit.attacks import Attacks, Limit
from spurious.audit.gradients import agreement
from spurious.audit.saturation import Saturation
from spurious.audit.verdicts import Check
from spurious.bootstrap import bootstrap_weights, interval, mean_interval
from spurious.config.audit import Thresholds
from spurious.config.defend import Defend
from spurious.defences.adaptive import Heard, Outcome, accepted, attacks_on
from spurious.defences.certificate import certify
from spurious.defences.smoothing import Noise, Smoothed
from spurious.defences.systematics import Worst
from spurious.inference import calibration
from spurious.inference.posterior import Posterior, predict
from spurious.maps import MapSet

DECISIVE = ("gradient_not_zero", "beats_transfer", "saturates")
"""Checks without which a small damage proves nothing: the attack may have failed."""
UNDEFENDED = "undefended"
Key = tuple[str, float]
"""Norm and size, in counts, of a budget."""


@dataclass(frozen=True)
class Reference:
    """What was made on the undefended posterior.

    Attributes:
        attacked: the attacked maps as the strongest attack at each budget leaves them.
        worst: the worst systematic of each family.
        log_volume: ln of the posterior's volume, of each clean test map, (n,).
        damage: at the budget of the ranking, mean over maps, nats.
        families: KL of the worst systematic of each family, nats.
    """

    attacked: Mapping[Key, np.ndarray]
    worst: Mapping[str, Worst]
    log_volume: np.ndarray
    damage: float
    families: Mapping[str, float | None]


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


def curves(
    attacks: Attacks, heard: Heard, maps: np.ndarray, settings: Defend, reference: Reference | None
) -> tuple[list[Point], dict[Key, np.ndarray]]:
    """Damage at every budget, and the maps that do it.

    Args:
        attacks: on the posterior.
        heard: the posterior and the maps.
        maps: clean, (n, N, N) in counts.
        settings: budgets, in standard deviations of the posterior's pixels or in counts.
        reference: what was made on the undefended posterior; None for itself.
    """
    std = attacks.posterior.standardiser.std
    keys = [(norm, x) for norm in ("linf", "l2") for x in getattr(settings, norm).counts(std)]
    points, made = [], {}
    for norm, size in tqdm(keys, desc="attacks", unit="budget", delay=2, leave=False):
        made[norm, size] = np.asarray(attacks.strongest(maps, limit((norm, size))))
        transferred = None if reference is None else heard(reference.attacked[norm, size])
        points.append(Point(norm, size, heard(made[norm, size]), transferred))
    return points, made


def limit(key: Key) -> Limit:
    """What an attack with this budget may do."""
    return Limit(key[1], cast(Any, key[0]))


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
            within, std_steps, attacks.restarts, found, twice.damage, rows, reference,
            settings.reference_steps,
        ),  # fmt: skip
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
        verdicts.gradient_not_zero(agreed, thresholds),
        verdicts.gradient_agrees(agreed, thresholds),
        verdicts.beats_transfer(main.own.damage, shown, thresholds),
        verdicts.saturates(saturated, thresholds),
    )


def quality(posterior: Posterior, data: MapSet, seed: int) -> dict[str, Any]:
    """Errors and calibration on the maps that get an answer, and the share that gets none."""
    answered = accepted(posterior, data.maps)
    weights = bootstrap_weights(len(data), seed, data.index)
    some = data.take(np.flatnonzero(answered))
    predicted = predict(posterior, some.maps)
    return {
        **calibration.metrics(predicted, some.labels, some.names, seed, some.index),
        "rejected": mean_interval(~answered, weights),
    }


def log_volume(posterior: Posterior, maps: np.ndarray) -> np.ndarray:
    """Half the ln of the determinant of each map's posterior covariance, (n,)."""
    covariance = predict(posterior, maps).covariance()
    return np.asarray(tf.linalg.logdet(tf.cast(covariance, tf.float64)) / 2)


def information(own: np.ndarray, undefended: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Figure of merit relative to the undefended posterior, the geometric mean over maps.

    The figure of merit is det(covariance)^(-1/2). It says what a posterior claims: how much of it
    is true, calibration says.

    Args:
        own: `log_volume` of each map.
        undefended: the same of the undefended posterior.
        weights: of the maps' bootstrap resamples.
    """
    return interval(lambda w: np.exp(w @ (undefended - own)), weights)


def certificates(
    posterior: Posterior, maps: np.ndarray, settings: Defend, weights: np.ndarray
) -> list[dict[str, Any]]:
    """What smoothing proves at each L2 budget; nothing for any other posterior."""
    if not (isinstance(posterior, Smoothed) and isinstance(posterior.over, Noise)):
        return []
    rows, std = [], posterior.standardiser.std
    for budget in settings.l2.counts(std):
        found = certify(posterior, maps, budget, settings.certificate_draws)
        proved = bool(np.isfinite(found.shift).all())
        moves = {
            name: mean_interval(found.shift[:, i], weights) if proved else None
            for i, name in enumerate(posterior.names)
        }
        rows.append({"counts": budget, "std": budget / std, "shift": moves})
    return rows


def adversary(posterior: Posterior, settings: Defend, seed: int) -> Attacks:
    """The attacks on a posterior that know its defence."""
    like = Attacks(posterior, settings.steps, restarts=settings.restarts, seed=seed)
    return attacks_on(posterior, like)


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
        "transferred": None if point.transferred is None else float(point.transferred.damage.mean()),
        "rejected": 1 - answered,
        "kl_accepted": float(most.kl[most.accepted].mean()) if answered else None,
    }


def unproven(found: Sequence[Check]) -> list[str]:
    """Names of the decisive checks that failed."""
    return [check.name for check in found if check.name in DECISIVE and check.passed is False]
