"""The main findings of a run, as sentences with its own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spurious.figures import pretty

Rows = Mapping[str, Mapping[str, Any]]

# Horowitz & Melchior 2022 (arXiv:2211.14788), Section 4: mean KL(perturbed || clean) over the
# test set, and the mean symmetrised KL between the two perturbations' posteriors. Caption of
# Figure 1: the change of the power spectrum.
PAPER_KL = {"bim": 1.05, "systematic": 0.98}
PAPER_PAIRS = {("bim", "systematic"): 0.67}
PAPER_POWER_CHANGE = 1e-3
NOT_COMPARED = (
    "The paper’s numbers are left out: they are about other maps, in other units, than these."
)
FOOLED = 0.5  # nat: as much as a shift by one sigma
LEAST_SHARE = 1e-5  # below it, changes of float32 spectra are rounding
PLAIN = {"omega_m": "Ω_m", "sigma_8": "σ_8"}
DETECTORS = {
    "log_power": "P(k)",
    "pdf": "the PDF",
    "peaks": "peaks",
    "equilateral": "equilateral bispectra",
    "squeezed": "squeezed bispectra",
    "minkowski": "Minkowski functionals",
    "scattering": "a scattering transform",
    "mmd": "MMD of them all",
    "network": "a network that learns from examples",
    "network_contrast": "the same network on the contrast",
}
"""In a sentence; `SHORT` is in a table."""
SHORT = {
    "log_power": "P(k)",
    "pdf": "PDF",
    "minkowski": "Minkowski",
    "mmd": "MMD",
    "network_contrast": "network on the contrast",
}


def number(value: float | None, digits: int = 3) -> str:
    """`value` with this many significant digits."""
    return "–" if value is None else f"{value:.{digits}g}"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as percent; what only rounding makes is not shown as a number."""
    if value is None:
        return "–"
    least = 100 * LEAST_SHARE
    return f"< {least:g} %" if 0 < abs(value) < LEAST_SHARE else f"{100 * value:.{digits}g} %"


def interval(found: Mapping[str, float], digits: int = 3) -> str:
    """A mean with its interval."""
    return (
        f"{number(found['mean'], digits)} "
        f"[{number(found['low'], digits)}, {number(found['high'], digits)}]"
    )


def findings(
    rows: Rows,
    judged: Rows,
    search: Mapping[str, Any],
    assessed: Mapping[str, Any],
    checks: Rows,
    own: bool = False,
) -> dict[str, list[str]]:
    """The findings of a run, by section of the report.

    Args:
        rows: damage of every attack and of every winner of the search, by name.
        judged: the verdict of detection on each, by name; see `spurious.detection.verdicts`.
        search: `search.json`.
        assessed: `assess.json`.
        checks: of the attacks, by name.
        own: whether the maps are not simulated here, so that the paper's numbers mean nothing.
    """
    return {
        "damage": [NOT_COMPARED] if own else reproduction(rows),
        "notice": [escaping(rows, judged), *undecided(rows, judged)],
        "trust": [checked(checks)],
        "search": searched(search),
        "network": [calibrated(assessed), *beyond_power(assessed)],
    }


def detectors(judged: Rows) -> str:
    """The detectors that were used, in words."""
    names = next(iter(judged.values()))["detectors"] if judged else []
    return ", ".join(DETECTORS.get(name, pretty(name)) for name in names)


def detector(name: str) -> str:
    """A detector's name in a table."""
    return SHORT.get(name, pretty(name))


def escaping(rows: Rows, judged: Rows) -> str:
    """Which strong perturbations escape all detectors, and how sensitive these are."""
    strong = [name for name in judged if rows[name]["kl_perturbed_clean"]["mean"] >= FOOLED]
    decided = [name for name in strong if judged[name]["verdict"] != "too few maps"]
    escaped = [name for name in decided if judged[name]["verdict"] == "escapes"]
    if not decided:
        return f"No perturbation moves the posterior by {FOOLED} nat or more."
    listed = ", ".join(
        f"{pretty(name)} ({interval(rows[name]['kl_perturbed_clean'])} nat)" for name in escaped
    )
    first = judged[decided[0]]
    seen = (
        f"the detectors are {detectors(judged)}; with {first['n_maps']} maps they see an AUROC of "
        f"{number(first['least_auroc'], 2)} or more in nine of ten cases"
    )
    if not escaped:
        return (
            f"Each of the {len(decided)} perturbations that move the posterior by {FOOLED} nat or "
            f"more is noticed by at least one detector ({seen}).{_most_escaping(rows, judged)}"
        )
    return (
        f"Of {len(decided)} perturbations that move the posterior by {FOOLED} nat or more, "
        f"{len(escaped)} escape all detectors: {listed} ({seen})."
    )


def _most_escaping(rows: Rows, judged: Rows) -> str:
    """The most damaging perturbation that escapes, if any does."""
    escaped = [name for name in judged if judged[name]["verdict"] == "escapes"]
    if not escaped:
        return " Nothing escapes them all."
    worst = max(escaped, key=lambda name: rows[name]["kl_perturbed_clean"]["mean"])
    kl = interval(rows[worst]["kl_perturbed_clean"])
    return f" The most damaging that escapes them all is {pretty(worst)}, with {kl} nat."


def undecided(rows: Rows, judged: Rows) -> list[str]:
    """Strong perturbations with too few maps to say who would notice."""
    names = [
        f"{pretty(name)} ({judged[name]['n_maps']} maps)"
        for name in judged
        if judged[name]["verdict"] == "too few maps"
        and rows[name]["kl_perturbed_clean"]["mean"] >= FOOLED
    ]
    return [f"Too few maps to say who would notice: {', '.join(names)}."] if names else []


def reproduction(rows: Rows) -> list[str]:
    """Whether the paper's two perturbations have the effects that the paper reports."""
    return [
        _reproduced(name, rows[name], paper) for name, paper in PAPER_KL.items() if name in rows
    ]


def _reproduced(name: str, row: Mapping[str, Any], paper: float) -> str:
    kl, change = row["kl_perturbed_clean"], row["mean_power_change_contrast"]["mean"]
    within, unseen = kl["low"] <= paper <= kl["high"], change < PAPER_POWER_CHANGE
    damage = "agrees" if within else "disagrees"
    power = "agrees" if unseen else "disagrees"
    joined = "and so does" if within == unseen else "but"
    end = "" if within == unseen else f" {power}"
    return (
        f"The damage of the paper’s {pretty(name)} {damage}, with a mean KL of {interval(kl)} nat "
        f"here and {paper} there, {joined} its change of P(k){end}: up to {percent(change)} in the "
        f"mean of the contrast here, and less than {percent(PAPER_POWER_CHANGE)} there."
    )


def searched(search: Mapping[str, Any]) -> list[str]:
    """The worst systematic of each family, and whether it keeps its fences on unseen maps."""
    lines = []
    for name, family in search["families"].items():
        if "parameters" not in family:
            continue
        kl = f"{interval(family['kl_confirmed'])} nat on maps that the search never saw"
        if not family["feasible"]:
            lines.append(f"Search, {pretty(name)}: nothing within the fences was found.")
        elif not family["holds"]:
            broken = ", ".join(pretty(fence) for fence in family["beyond"])
            lines.append(
                f"Search, {pretty(name)}: the worst within the fences has a mean KL of {kl}, but "
                f"there it is beyond the fence on {broken}: it does not count as feasible."
            )
        else:
            bounds = family.get("at_bound") or []
            at = f" At an end of their range: {', '.join(bounds)}." if bounds else ""
            lines.append(
                f"Search, {pretty(name)}: the worst within the fences has a mean KL of {kl}.{at}"
            )
    return lines


def calibrated(assessed: Mapping[str, Any]) -> str:
    """Whether the target's widths match its errors."""
    network = assessed["posteriors"][assessed["target"]]
    names = parameters(network, "", "_z_rms")
    scores = [f"{network[f'{p}_z_rms']['mean']:.2f} in {PLAIN.get(p, p)}" for p in names]
    listed = " and ".join([*([", ".join(scores[:-1])] if scores[:-1] else []), scores[-1]])
    return f"The network’s z-scores have an RMS of {listed} (1 if calibrated)."


def parameters(row: Mapping[str, Any], before: str, after: str = "") -> list[str]:
    """The parameters of which a row has numbers: what stands between these parts of its keys."""
    found = [key for key in row if key.startswith(before) and key.endswith(after)]
    return [key[len(before) : len(key) - len(after)] for key in found]


def beyond_power(assessed: Mapping[str, Any]) -> list[str]:
    """The target's errors relative to estimators that see only the power spectrum."""
    lines = []
    for baseline, ratios in assessed["ratios"].items():
        if assessed["target"] in ratios:
            found = ratios[assessed["target"]].items()
            parts = (f"{PLAIN.get(name, name)} {interval(ratio, 2)}" for name, ratio in found)
            lines.append(
                f"Its RMSE over that of {pretty(baseline)}, an estimator that sees only P(k): "
                f"{', '.join(parts)}."
            )
    return lines


def checked(checks: Rows) -> str:
    """Whether the attacks passed their own checks."""
    failed = [pretty(name) for name, check in checks.items() if check["passed"] is False]
    made = sum(check["passed"] is not None for check in checks.values())
    return f"Of {made} checks of the attacks themselves, " + (
        f"these failed: {', '.join(failed)}." if failed else "none failed."
    )


def pairs(compared: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pairs of attacks with the symmetrised KL between their posteriors, the paper's first."""
    rows = [
        {**pair, "paper": PAPER_PAIRS.get((pair["first"], pair["second"]))} for pair in compared
    ]
    return sorted(rows, key=lambda row: row["paper"] is None)
