"""The checks of the audit on a defended posterior, where an unanswered map counts as no damage.

Those that need a curve get it from what the comparison has made anyway, and from single steps and
noise of the same sizes; those that need more work get a few maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from spurious.audit import criteria
from spurious.audit.attacks import Attacks, Limit
from spurious.audit.criteria import MAIN, Check
from spurious.audit.curves import TARGET, Curve, Curves, Point
from spurious.audit.gradient_check import agreement
from spurious.audit.measurement import Listener, measure
from spurious.audit.planted import Planted, known
from spurious.audit.saturation import Saturation
from spurious.config.audit import Thresholds
from spurious.config.defend import Defend
from spurious.data.maps import MapSet
from spurious.defences import robustness
from spurious.defences.adaptive import Heard

STARTS = 3  # random starts that must agree


def run(
    attacks: Attacks,
    heard: Heard,
    data: MapSet,
    main: robustness.Point,
    made: Mapping[Limit, np.ndarray],
    saturated: Mapping[str, Saturation],
    settings: Defend,
) -> tuple[Check, ...]:
    """Whether the attacks can be believed; docs/checks says what each means.

    Args:
        attacks: on the posterior.
        heard: the posterior and the maps.
        data: the attacked maps, clean.
        main: what was found where defences are ranked.
        made: the maps as the strongest attack within each limit leaves them.
        saturated: what more work does, by name of the limit.
        settings: budgets.
    """
    thresholds, posterior = Thresholds(), attacks.posterior
    steps = settings.linf.counts(posterior.standardiser.std)[:3]
    agreed = agreement(posterior, data.maps, data.labels, steps, attacks.seed)
    curves = _curves(attacks, heard, data, made, settings)
    some = data.maps[robustness.reference_rows(data.maps, settings)]
    return (
        criteria.gradient_not_zero(agreed, thresholds),
        *robustness.believed(main, saturated, thresholds),
        criteria.gradient_agrees(agreed, thresholds),
        criteria.iterative_beats_single(curves, thresholds),
        criteria.monotone(curves, thresholds),
        criteria.full_damage(curves, thresholds),
        criteria.beats_noise(curves, thresholds),
        criteria.restarts_agree(_ends(attacks, some, main.limit), thresholds),
        criteria.budget_respected(curves, thresholds),
        criteria.planted_found(*_planted(attacks, some, main.limit), thresholds),
    )


def _curves(
    attacks: Attacks,
    heard: Heard,
    data: MapSet,
    made: Mapping[Limit, np.ndarray],
    settings: Defend,
) -> Curves:
    """Damage against budget, up to changes as large as the data's own scatter."""
    maps, std = data.maps, attacks.posterior.standardiser.std
    linf = {one.epsilon: x for one, x in made.items() if (one.norm, one.fraction) == ("linf", None)}
    l2 = {one.epsilon: x for one, x in made.items() if one.norm == "l2"}
    if max(linf) < std:
        linf[std] = np.asarray(attacks.strongest(maps, Limit(std)))
    kept = robustness.limits_of_checks(settings, std)[robustness.BOUNDED]
    radius, fraction = kept.epsilon, settings.fraction  # a larger ball for the noise: its RMS

    def curve(
        name: str, family: str, each: Mapping[float, Any], control: bool = False, rms: Any = None
    ) -> Curve:
        points = tuple(
            Point(size, {TARGET: heard.response(x)}, measure(maps, x, data.box_size))
            for size, x in each.items()
        )
        return Curve(name, family, control, points, rms)

    noise = {fraction: attacks.bounded_noise(maps, radius, fraction)}
    curves = (
        curve(MAIN, "linf", linf),
        curve("fgsm", "linf", {x: attacks.fgsm(maps, x) for x in linf}),
        curve("random_sign", "linf", {x: attacks.random_sign(maps, x) for x in linf}, True),
        curve("strongest_l2", "l2", l2),
        curve("noise", "l2", {x: attacks.noise(maps, x) for x in l2}, True),
        curve("strongest_bounded", "cosmic", {fraction: made[kept]}, rms=radius),
        curve("bounded_noise", "cosmic", noise, True, radius),
    )
    return Curves(curves, np.empty((0, len(maps))), std, Thresholds().sigmas)


def _ends(attacks: Attacks, maps: np.ndarray, limit: Limit) -> np.ndarray:
    """Damage from every random start, (starts, n)."""
    ends, heard = attacks.ends(maps, limit, STARTS), Heard(attacks.posterior, maps)
    return np.stack([heard(ends[:, i]).damage for i in range(STARTS)])


def _planted(attacks: Attacks, maps: np.ndarray, limit: Limit) -> tuple[np.ndarray, np.ndarray]:
    """KL of a planted posterior, which has no detector, by the pattern and by the attack."""
    planted = Planted(attacks.posterior, limit.epsilon, attacks.seed)
    listener = Listener(planted, maps)
    found = Attacks(planted, attacks.steps, restarts=attacks.restarts, seed=attacks.seed)
    return known(listener, planted, maps), listener(found.strongest(maps, limit)).kl
