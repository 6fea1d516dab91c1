"""A defence measured beside the undefended posterior: one row of the comparison.

The undefended posterior is measured first, because what was made on it is shown to all others.
docs/defences.md says what each key of a row means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spurious import config
from spurious.audit.attacks import Limit
from spurious.audit.criteria import Check
from spurious.audit.saturation import Saturation
from spurious.bootstrap import bootstrap_weights, mean_interval
from spurious.config.audit import Thresholds
from spurious.data.maps import MapSet
from spurious.defences import checks, cost, robustness
from spurious.defences.adaptive import Heard, Outcome
from spurious.defences.robustness import BOUNDED, Point
from spurious.defences.worst_systematics import Worst, worst
from spurious.posteriors.posterior import Posterior
from spurious.search.families import Family
from spurious.search.study import build_objective


@dataclass(frozen=True)
class Scene:
    """The maps on which all posteriors are measured, and how.

    Attributes:
        test: all test maps.
        attacked: some of them, which are attacked.
        inside: all of them, each as a systematic leaves it that a defence was trained over; None
            if none was.
        searched: those on which the worst systematics are searched.
        confirming: those on which their damage is measured.
        families: systematics that are searched, by name.
        known: parameters of the worst of each that the search has found, where it has.
        search: goal, fences and confidence of the search.
        settings: budgets and numbers of steps.
        seed: root of every draw.
    """

    test: MapSet
    attacked: MapSet
    inside: MapSet | None
    searched: MapSet
    confirming: MapSet
    families: Mapping[str, Family]
    known: Mapping[str, Mapping[str, float]]
    search: config.Search
    settings: config.Defend
    seed: int

    def weights(self, data: MapSet) -> np.ndarray:
        """Of the bootstrap resamples of some maps."""
        return bootstrap_weights(len(data), self.seed, data.index)


@dataclass(frozen=True)
class Reference:
    """The undefended posterior: what was made on it, and what it is compared by.

    Attributes:
        attacked: the attacked maps as the strongest attack within each limit leaves them.
        worst: the worst systematic of each family.
        log_volume: of each clean test map, (n,).
        damage: at the budget of the ranking, mean over maps, nats.
        families: damage of the worst systematic of each family, nats; None where none is feasible.
    """

    attacked: Mapping[Limit, np.ndarray]
    worst: Mapping[str, Worst]
    log_volume: np.ndarray
    damage: float
    families: Mapping[str, float | None]


def evaluate(
    posterior: Posterior, scene: Scene, reference: Reference | None = None
) -> tuple[dict[str, Any], Reference]:
    """The row of a posterior, and what others are compared with if it is the undefended one.

    Args:
        posterior: what is measured.
        scene: on which maps.
        reference: of the undefended posterior; None for itself.
    """
    row, made = _attacked(posterior, scene, reference)
    families, found = _families(posterior, scene, reference)
    volume = cost.log_volume(posterior, scene.test.maps)
    kls = {name: one["kl"] and one["kl"]["mean"] for name, one in families.items()}
    mine = Reference(made, found, volume, row["damage"]["mean"], kls)
    against, test = reference or mine, scene.test
    row |= {
        "damage_ratio": row["damage"]["mean"] / against.damage,
        "information": cost.information(volume, against.log_volume, scene.weights(test)),
        "clean": cost.quality(posterior, test, scene.seed),
        "inside": None
        if scene.inside is None
        else cost.quality(posterior, scene.inside, scene.seed),
        "families": families,
        "damage_left": left(row["damage"]["mean"], kls, against),
        "certified": cost.certificates(
            posterior, scene.attacked.maps, scene.settings, scene.weights(scene.attacked)
        ),
    }
    return row, mine


def left(attack: float, families: Mapping[str, float | None], against: Reference) -> float:
    """Damage relative to that of the undefended posterior, one number to rank by.

    The geometric mean of two ratios: of the strongest attack, and of the worst systematic of all
    families. 1 for the undefended posterior itself.
    """
    pairs = [(attack, against.damage), (largest(families), largest(against.families))]
    ratios = [own / its for own, its in pairs if its > 0]
    return float(np.exp(np.mean(np.log(np.maximum(ratios, np.finfo(np.float32).tiny)))))


def largest(families: Mapping[str, float | None]) -> float:
    """The worst damage of all families; 0 if no systematic keeps within the fences."""
    return max((kl for kl in families.values() if kl is not None), default=0.0)


def _attacked(
    posterior: Posterior, scene: Scene, reference: Reference | None
) -> tuple[dict[str, Any], dict[Limit, np.ndarray]]:
    """Damage against budget, the checks, and the maps that do the damage."""
    settings, data, std = scene.settings, scene.attacked, posterior.standardiser.std
    attacks = robustness.adversary(posterior, settings, scene.seed)
    heard, weights = Heard(posterior, data.maps), scene.weights(data)
    points, made = robustness.attacked(
        attacks, heard, data.maps, settings, None if reference is None else reference.attacked
    )
    limits, within = robustness.limits_of_checks(settings, std), {one.limit: one for one in points}
    more = {
        name: robustness.saturation(attacks, heard, data.maps, within[limit], settings)
        for name, limit in limits.items()
    }
    kept, main = within.pop(limits[BOUNDED]), within[limits["linf"]]
    saturated = {name: more[name][0] for name in ("linf", "l2")}
    found = checks.run(attacks, heard, data, main, made, saturated, settings)
    worst = main.most.worse(more["linf"][1])
    row = {
        "checks": {check.name: check.as_json() for check in found},
        "unproven": robustness.unproven(found),
        "curves": [robustness.summed(point, std, weights) for point in within.values()],
        "damage": mean_interval(worst.damage, weights),
        "rejected": mean_interval(~worst.accepted, weights),
        "bounded": robustness.summed(kept, std, weights)
        | _believed(kept, *more[BOUNDED], found, weights),
    }
    return row, made


def _believed(
    kept: Point, saturated: Saturation, twice: Outcome, found: Sequence[Check], weights: np.ndarray
) -> dict[str, Any]:
    """Damage where P(k) is kept, twice the steps tried too, and what speaks against believing it.

    The checks of that attack are its own; whether there is a gradient is the same for all.
    """
    worst = kept.most.worse(twice)
    own = robustness.believed(kept, {BOUNDED: saturated}, Thresholds())
    gradient = [check for check in found if check.name == "gradient_not_zero"]
    return {
        "fraction": kept.limit.fraction,
        "damage": mean_interval(worst.damage, weights),
        "rejected": float(1 - worst.accepted.mean()),
        "checks": {check.name: check.as_json() for check in own},
        "unproven": robustness.unproven([*gradient, *own]),
    }


def _families(
    posterior: Posterior, scene: Scene, reference: Reference | None
) -> tuple[dict[str, Any], dict[str, Worst]]:
    """The worst systematic of each family, found on this posterior or on the undefended one."""
    settings, data, rows, found = scene.settings, scene.searched, {}, {}
    limits, clean = scene.search.fences.limits, scene.confirming
    heard, weights = Heard(posterior, clean.maps), scene.weights(clean)
    for name, family in scene.families.items():
        objective = build_objective(
            scene.search, family, data.maps, posterior, data.box_size, data.index, data.labels
        )
        before = None if reference is None else reference.worst[name].point
        if before is None and name in scene.known:
            before = family.point(scene.known[name])
        climbs = settings.starts, settings.refine_steps
        own = worst(objective, limits, before, *climbs, scene.seed)
        found[name] = own
        tried = {"itself": own} | (
            {} if reference is None else {"undefended": reference.worst[name]}
        )
        outcomes = {
            on: heard(np.asarray(family.effect(one.point)(clean.maps)))
            for on, one in tried.items()
            if one.feasible
        }
        on = max(outcomes, key=lambda one: outcomes[one].damage.mean(), default=None)
        rows[name] = {
            "feasible": on is not None,
            "found_on": on,
            "parameters": None if on is None else tried[on].parameters,
            "kl": None if on is None else mean_interval(outcomes[on].damage, weights),
            "rejected": None if on is None else mean_interval(~outcomes[on].accepted, weights),
        }
    return rows, found
