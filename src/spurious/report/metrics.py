"""The numbers of a run that are read at a glance: what `dvc metrics show` and `diff` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spurious.report.findings import PAPER_KL, Rows, parameters

DIGITS = 4  # significant; more would not be read at a glance


def select_metrics(
    rows: Rows,
    judged: Rows,
    search: Mapping[str, Any],
    assessed: Mapping[str, Any],
    checks: Rows,
    defended: Mapping[str, Any] | None,
) -> dict[str, float]:
    """About fifteen numbers; one that this run does not have is left out.

    Args:
        rows: damage of every attack and of every winner of the search, by name.
        judged: the verdict of detection on each, by name.
        search: `search.json`.
        assessed: `assess.json`.
        checks: of the attacks, by name.
        defended: `defences.json`; None if no defence was compared.

    Returns:
        Damage in nat (`kl_...`), detection (`auroc_...`, `n_escaped`), accuracy and calibration of
        the target (`rmse_...`, `z_rms_...`, `nll`), `checks_failed`, and of the best defence the
        damage and the information that are left, as fractions of the target's.
    """
    named = {name: row for name, row in rows.items() if name in PAPER_KL}
    found = {f"kl_{name}": _kl(row) for name, row in named.items()}
    found |= _largest("kl_strongest", {n: r for n, r in rows.items() if r["group"] == "strongest"})
    found |= _searched(search) | _detection(rows, judged, named)
    found |= _accuracy(assessed["posteriors"][assessed["target"]])
    found["checks_failed"] = sum(check["passed"] is False for check in checks.values())
    found |= _defence(defended)
    return {name: _rounded(value) for name, value in found.items()}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")


def _kl(row: Mapping[str, Any]) -> float:
    return float(row["kl_perturbed_clean"]["mean"])


def _largest(name: str, rows: Rows) -> dict[str, float]:
    return {name: max(map(_kl, rows.values()))} if rows else {}


def _searched(search: Mapping[str, Any]) -> dict[str, float]:
    """The worst systematic that keeps within its fences, on maps that the search did not see."""
    kept = [family for family in search["families"].values() if family.get("holds")]
    return {"kl_searched": max(f["kl_confirmed"]["mean"] for f in kept)} if kept else {}


def _detection(rows: Rows, judged: Rows, named: Rows) -> dict[str, float]:
    """What escapes all detectors, and how well the best one sees the paper's perturbations."""
    escaped = {name: rows[name] for name in judged if judged[name]["verdict"] == "escapes"}
    best = {f"auroc_{n}": judged[n]["auroc"]["mean"] for n in named if n in judged}
    return _largest("kl_escaped", escaped) | {"n_escaped": len(escaped)} | best


def _accuracy(target: Mapping[str, Any]) -> dict[str, float]:
    found = {"nll": target["nll"]["mean"]}
    for metric in ("rmse", "z_rms"):
        names = parameters(target, "", f"_{metric}")
        found |= {f"{metric}_{name}": target[f"{name}_{metric}"]["mean"] for name in names}
    return found


def _defence(defended: Mapping[str, Any] | None) -> dict[str, float]:
    if defended is None or defended["winner"] is None:
        return {}
    row = defended["defences"][defended["winner"]]
    return {"defence_damage": row["damage_left"], "defence_information": row["information"]["mean"]}
