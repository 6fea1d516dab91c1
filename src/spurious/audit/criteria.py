"""Checks that tell when not to believe a damage.

A measured damage is only as good as the attack behind it, and damage that an attack failed to find
looks like robustness. Each function below tests for one mistake and returns a `Check`; a failed
check is a finding about the numbers, not an error. docs/checks explains what each means and what to
do when it fails.

Attacks are compared by the mean KL(perturbed || clean), which the strongest attack climbs and all
curves show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from spurious.audit.curves import Curve, Curves
from spurious.audit.gradient_check import Agreement
from spurious.audit.saturation import Saturation
from spurious.config.audit import Thresholds

FOLDER = "docs/checks"
ROUNDING = 1e-5  # relative, of an RMS in float32
NOTHING = 1e-4  # nats: smaller means are float32's rounding, and are not compared
MAIN = "strongest_linf"  # the curve that checks of one attack look at


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: of the check and of its page.
        passed: None if the check was skipped.
        value: the number compared; None if there is no finite one.
        threshold: the number it is compared with.
        sentence: the finding, for a reader who does not know the check.
        values: the parts of `value`, by name.
    """

    name: str
    passed: bool | None
    value: float | None
    threshold: float
    sentence: str
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def page(self) -> str:
        """What the check means, below the project's folder."""
        return f"{FOLDER}/{self.name}.md"

    def as_json(self) -> dict[str, Any]:
        """All of it, the page included."""
        return {**asdict(self), "values": dict(self.values), "page": self.page}


def iterative_beats_single(curves: Curves, limits: Thresholds) -> Check:
    """Many small steps do at least as well as a single large one, at every budget."""
    many, one = curves[MAIN], curves["fgsm"]
    leads = _leads(many.damages, one.damages, [_std(curves, b) for b in many.budgets])
    worst = _least(leads)
    return _check(
        "iterative_beats_single",
        worst >= -limits.tolerance,
        worst,
        -limits.tolerance,
        f"many steps do at least {_percent(worst)} more damage than one of the same budget",
        leads,
    )


def monotone(curves: Curves, limits: Thresholds) -> Check:
    """A larger budget never does less damage."""
    falls = {}
    for curve in curves.curves:
        if not curve.control and len(curve.points) > 1:
            steps = _leads(curve.damages[:-1], curve.damages[1:])
            falls[curve.name] = _largest(steps) if steps else np.nan
    worst = _largest(falls)
    return _check(
        "monotone",
        worst <= limits.tolerance,
        worst,
        limits.tolerance,
        f"at most {_percent(max(worst, 0.0))} of the damage is lost when the budget grows",
        falls,
    )


def saturates(strongest: Mapping[str, Saturation], limits: Thresholds) -> Check:
    """Within no kind of limit do twice the steps, or another and longer attack, change much.

    Args:
        strongest: what was found within each, by name.
        limits: thresholds.
    """
    values: dict[str, float] = {}
    for name, one in strongest.items():
        enough = max(one.found.mean(), one.twice.mean(), one.reference.mean()) > NOTHING
        values[f"{name}: gain of twice the steps"] = one.gain if enough else np.nan
        values[f"{name}: missing to the reference"] = 1 - one.share if enough else np.nan
    worst = _largest({name: abs(value) for name, value in values.items()})
    return _check(
        "saturates",
        worst <= limits.saturation,
        worst,
        limits.saturation,
        f"within {_listed(strongest)}, twice the steps or another, long attack change the damage "
        f"by at most {_percent(worst)}",
        values,
    )


def full_damage(curves: Curves, limits: Thresholds) -> Check:
    """The largest budget changes every map's posterior completely.

    That is a KL above sigmas^2 / 2, as of a Gaussian shifted by so many standard deviations: a
    posterior within a narrow prior may have no room to shift, but it can collapse at its edge.
    """
    point = curves[MAIN].points[-1]
    share = float(np.mean(point.target.kl > limits.sigmas**2 / 2))
    values = {
        "smallest KL": float(point.target.kl.min()),
        "moved": float(np.mean(point.target.shift > limits.sigmas)),
    }
    return _check(
        "full_damage",
        share >= limits.full and bool(np.isfinite(point.target.kl).all()),
        share,
        limits.full,
        f"{_percent(share)} of the maps are as far off as by a shift of {limits.sigmas:g} σ at "
        f"{_std(curves, point.budget)}",
        values,
    )


def beats_noise(curves: Curves, limits: Thresholds) -> Check:
    """The attack does more damage than noise of the same size, at every budget."""
    pairs = {MAIN: "random_sign", "strongest_l2": "noise", "strongest_bounded": "bounded_noise"}
    leads: dict[str, float] = {}
    for name, control in pairs.items():
        each = _leads(curves[name].damages, curves[control].damages)
        leads |= {name: _least(each)} if each else {}
    worst = _least(leads)
    return _check(
        "beats_noise",
        worst > limits.tolerance,
        worst,
        limits.tolerance,
        f"noise of the same size does at least {_percent(worst)} less damage",
        leads,
    )


def beats_transfer(
    white: np.ndarray, transferred: Mapping[str, np.ndarray], limits: Thresholds
) -> Check:
    """The attack does more damage than one that was made on another posterior.

    Args:
        white: the target's KL(perturbed || clean) by the attack made on itself, nats, (n,).
        transferred: the same by attacks made on others, by name.
        limits: thresholds.
    """
    name = "beats_transfer"
    if not transferred:
        return Check(name, None, None, limits.tolerance, "left out: no other posterior is given")
    others = [float(kl.mean()) for kl in transferred.values()]
    leads = _leads([float(white.mean())] * len(others), others, list(transferred))
    worst = _least(leads)
    return _check(
        name,
        worst > limits.tolerance,
        worst,
        limits.tolerance,
        f"attacks made on {' and '.join(transferred)} do at least {_percent(worst)} less damage",
        leads,
    )


def gradient_agrees(found: Agreement, limits: Thresholds) -> Check:
    """Finite differences confirm the gradient."""
    share = float(np.mean(found.error <= limits.gradient_error))
    return _check(
        "gradient_agrees",
        share >= limits.gradient_maps,
        share,
        limits.gradient_maps,
        f"finite differences confirm the gradient of {_percent(share)} of the maps to "
        f"{_percent(limits.gradient_error)}",
        {"median error": float(np.median(found.error)), "largest error": float(found.error.max())},
    )


def gradient_not_zero(found: Agreement, limits: Thresholds) -> Check:
    """Every map has a gradient to follow."""
    worst = float(found.zeros.max())
    lost = float(np.mean(found.zeros == 1))
    return _check(
        "gradient_not_zero",
        worst <= limits.zero_pixels,
        worst,
        limits.zero_pixels,
        f"at most {_percent(worst)} of the pixels of a map have a gradient of zero",
        {"maps without any": lost, "mean over maps": float(found.zeros.mean())},
    )


def restarts_agree(ends: np.ndarray, limits: Thresholds) -> Check:
    """The attack does the same damage from every start.

    Args:
        ends: KL(perturbed || clean) from each random start, nats, (starts, n).
        limits: thresholds.
    """
    spreads = _leads(ends.max(axis=0), ends.min(axis=0))
    spread = float(np.mean(list(spreads.values()) or np.nan))
    return _check(
        "restarts_agree",
        spread <= limits.spread,
        spread,
        limits.spread,
        f"{len(ends)} random starts differ by {_percent(spread)} of a map's damage, on average",
        {f"start {i}": float(mean) for i, mean in enumerate(ends.mean(axis=1), start=1)},
    )


def budget_respected(curves: Curves, limits: Thresholds) -> Check:
    """No map was changed by more than its attack was allowed."""
    used = {curve.name: _used(curve, limits.cosmic) for curve in curves.curves if not curve.control}
    worst = _largest(used)
    return _check(
        "budget_respected",
        worst <= 1,
        worst,
        1.0,
        f"no map was changed by more than {_percent(worst)} of its budget and rounding",
        used,
    )


def planted_found(planted: np.ndarray, reached: np.ndarray, limits: Thresholds) -> Check:
    """The attack finds a weakness that is known to exist.

    Args:
        planted: KL(perturbed || clean) by the planted pattern, nats, (n,).
        reached: the same by the attack, (n,).
        limits: thresholds.
    """
    share = float(np.mean(reached >= limits.planted * planted))
    return _check(
        "planted_found",
        share >= limits.planted_maps,
        share,
        limits.planted_maps,
        f"in {_percent(share)} of the maps at least {_percent(limits.planted)} of the damage of a "
        "planted pattern was found",
        {"planted": float(planted.mean()), "reached": float(reached.mean())},
    )


def _used(curve: Curve, cosmic: float) -> float:
    """Largest share of the budget that any map of a curve used; above 1 is too much."""
    shares = []
    for point in curve.points:
        size, radius = point.size, curve.rms if curve.rms is not None else point.budget
        change = size.linf if curve.family == "linf" else size.rms
        shares.append(change / (radius * (1 + ROUNDING) + size.rounding))
        shares.append(1 + np.maximum(-size.least, 0) - (size.least >= 0))  # 0, or above 1
        if curve.family == "cosmic":
            shares.append(size.cosmic / (point.budget + cosmic))
    return float(np.max(shares))


def _check(
    name: str,
    passed: bool,
    value: float,
    threshold: float,
    sentence: str,
    values: Mapping[str, float] | None = None,
) -> Check:
    """A check whose numbers are finite or None, for JSON."""
    numbers = {key: float(one) for key, one in (values or {}).items() if np.isfinite(one)}
    finite = float(value) if np.isfinite(value) else None
    return Check(name, bool(passed), finite, float(threshold), sentence, numbers)


def _leads(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    names: Sequence[str] | None = None,
) -> dict[str, float]:
    """By how much the first are larger, relative to the larger size, -2 to 2.

    Pairs that are both next to nothing are left out; of what is not finite, NaN.
    """
    leads: dict[str, float] = {}
    pairs = zip(first, second, strict=True)
    for name, (one, other) in zip(names or map(str, range(len(first))), pairs, strict=True):
        size = np.maximum(abs(one), abs(other))
        if not size <= NOTHING:
            leads[name] = float((one - other) / size) if np.isfinite(size) else float("nan")
    return leads


def _least(values: Mapping[str, float]) -> float:
    """NaN, with which every comparison fails, if there is none or one is NaN."""
    return float(np.min(list(values.values()))) if values else float("nan")


def _largest(values: Mapping[str, float]) -> float:
    return float(np.max(list(values.values()))) if values else float("nan")


def _listed(names: Mapping[str, Any]) -> str:
    """Names for a sentence."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _std(curves: Curves, counts: float) -> str:
    return f"{counts / curves.std:.3g} std"


def _percent(share: float) -> str:
    return "no number" if not np.isfinite(share) else f"{100 * share:.3g} %"
