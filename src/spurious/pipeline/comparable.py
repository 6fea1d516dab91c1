"""What every perturbation logs, so that runs can be compared: a few parameters and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spurious.description.fields import described
from spurious.description.quantities import Quantity

SIZES = ("epsilon", "alpha", "largest", "sigmas")  # fields that limit an attack, the first counts


def parameters(
    group: str, kind: str, one: type, given: Any, used: Mapping[str, Any]
) -> dict[str, Any]:
    """Parameters of a perturbation's run.

    Args:
        group: its group.
        kind: its kind.
        one: its class.
        given: its entry in params.yaml.
        used: numbers that describe it after budgets and matching, in the units of its class.

    Returns:
        "group", "kind", and its "budget" with the "unit": as it is given, or what it was matched
        to; "none" where nothing limits it.
    """
    budget, unit = _size(one, given, used)
    return {"group": group, "kind": kind, "budget": budget, "unit": unit}


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of a perturbation's run: damage in nat, and to whom; changes of P(k) and pixels.

    Args:
        row: of damage.
    """
    found = {
        "damage": _kl(row),
        "power_change": row["mean_power_change_contrast"]["mean"],
        "rms_counts": row["rms_counts"]["mean"],
    }
    found |= {f"damage to/{name}": _kl(one) for name, one in row.get("others", {}).items()}
    trainings = enumerate(row.get("trainings", []), start=1)
    return found | {f"trainings/{number}": _kl(one) for number, one in trainings}


def noticed(judgement: Mapping[str, Any] | None) -> dict[str, float | str]:
    """What detection adds to a run: the best detector's AUROC and the verdict, where known."""
    if judgement is None:
        return {}
    return {"auroc": judgement["auroc"]["mean"], "verdict": judgement["verdict"]}


def _kl(row: Mapping[str, Any]) -> float:
    return float(row["kl_perturbed_clean"]["mean"])


def _size(one: type, given: Any, used: Mapping[str, Any]) -> tuple[Any, str]:
    """The first field that says how large a perturbation may be, and its unit."""
    fields = {field.name: field for field in described(one)}
    for name in (getattr(one, "AMPLITUDE", ""), *SIZES):
        value = getattr(given, name, None)
        if isinstance(value, Quantity):
            steps = getattr(given, "steps", 1) if name == "alpha" else 1  # how far they may go
            return round(getattr(value, "value", 0.0) * steps, 12), getattr(value, "unit", "")
        if not isinstance(value, int | float):  # matched, or found by a search
            value = used.get(name)
        if name in fields and value is not None:
            return value, fields[name].unit or "1"
    return "none", "none"
