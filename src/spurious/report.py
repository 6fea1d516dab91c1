"""The report: one self-contained HTML file, and the table of the paper's numbers against ours."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from spurious.figures import pretty

# Horowitz & Melchior 2022 (arXiv:2211.14788), Section 4: mean KL(perturbed || clean) over the
# test set, and the mean symmetrised KL between the two perturbations' posteriors.
PAPER_KL = {"bim": 1.05, "systematic": 0.98}
PAPER_PAIRS = {("bim", "systematic"): 0.67}
FENCES = {
    "power": "the largest relative change of a bin of the contrast’s mean P(k)",
    "cosmic": "the same in units of one map’s cosmic variance",
    "chi2": "χ² of that change against one map’s cosmic variance",
    "raw_power": "the largest relative change of a bin of the raw mean P(k), blind to the mean",
    "mean_shift": "the relative change of the mean density",
    "rms": "the RMS change in counts",
}
FOOLED = 0.5  # nat: as much as a shift by one sigma
NOTICED = 0.01  # p-value of all statistics of one perturbation together
MANY = 100  # maps, with which not to notice something means something
SYMBOLS = {"omega_m": Markup("Ω<sub>m</sub>"), "sigma_8": Markup("σ<sub>8</sub>")}
PLAIN = {"omega_m": "Ω_m", "sigma_8": "σ_8"}
METRICS = {
    "rmse": "root mean square error",
    "r2": "R²",
    "relative_error": "mean relative error",
    "sigma": "mean posterior σ",
    "z_mean": "mean z-score",
    "z_rms": "RMS z-score",
    "coverage_68": "coverage of the 68 % interval",
    "coverage_95": "coverage of the 95 % interval",
}


def render(context: Mapping[str, Any], images: Mapping[str, bytes]) -> str:
    """The report as HTML that needs no network: `images` are PNGs, by name, and are embedded.

    Raises:
        jinja2.UndefinedError: the template asks for a value that `context` lacks.
    """
    environment = Environment(
        loader=PackageLoader("spurious"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "percent": percent,
        "pretty": pretty,
        "symbol": lambda name: SYMBOLS.get(name, name),
    }
    encoded = {name: base64.b64encode(png).decode() for name, png in images.items()}
    return environment.get_template("report.html.j2").render(
        **context,
        images=encoded,
        metric_labels=METRICS,
        paper_kl=PAPER_KL,
        notice_level=NOTICED,
        fences=FENCES,
    )


def number(value: float | None, digits: int = 3) -> str:
    """`value` with so many significant digits."""
    return "–" if value is None else f"{value:.{digits}g}"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as percent."""
    return "–" if value is None else f"{100 * value:.{digits}g} %"


def findings(
    attacks: Mapping[str, Mapping[str, Any]],
    search: Mapping[str, Any],
    assessed: Mapping[str, Any],
    detection: Mapping[str, Mapping[str, Any]],
    checks: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """What a reader should take home, made of the numbers."""
    lines = [_finding(name, attacks[name]) for name in PAPER_KL if name in attacks]
    lines.append(_escaped(attacks, detection))
    if search["kl_confirmed"] is not None:
        lines.append(
            f"The worst systematic of the paper's form within the fences (P(k) of the contrast by "
            f"{percent(search['max_power_change'])}) moves the posterior by a mean KL of "
            f"{number(search['kl_confirmed'])} nat on maps that the search never saw, where it "
            f"changes P(k) by {percent(search['change_confirmed'])}."
        )
    network = assessed["posteriors"][assessed["target"]]
    lines.append(
        f"The network: z-scores have an RMS of {network['omega_m_z_rms']['mean']:.2f} in Ω_m and "
        f"{network['sigma_8_z_rms']['mean']:.2f} in σ_8 (1 if it knows its own errors)."
    )
    failed = [pretty(name) for name, check in checks.items() if check["passed"] is False]
    made = sum(check["passed"] is not None for check in checks.values())
    lines.append(
        f"Of {made} checks of the attacks themselves, "
        + (f"these failed: {', '.join(failed)}." if failed else "none failed.")
    )
    return lines + _against_power(assessed)


def grouped(
    attacks: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Rows by group and name."""
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, row in attacks.items():
        groups.setdefault(row["group"], {})[name] = row
    return groups


def transfer_columns(families: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The posteriors on which what was found was tried; the same for every family."""
    return list(next((row["transfer"] for row in families.values() if "transfer" in row), {}))


def noticed(
    attacks: Mapping[str, Mapping[str, Any]], detection: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Attacks beside the statistics that would notice them, by decreasing damage."""
    rows = []
    for name, found in detection.items():
        cells = {key: cell for key, cell in found.items() if isinstance(cell, Mapping)}
        known = {key: cell["auroc_known"]["mean"] for key, cell in cells.items() if len(cell) > 2}
        best = max(known, key=lambda key: known[key])
        rows.append(
            {
                "name": name,
                "kl": attacks[name]["kl_perturbed_clean"],
                "by": [key for key, cell in cells.items() if _is_noticed(cell, len(cells))],
                "best": best,
                "auroc": known[best],
                "n_maps": found["n_maps"],
            }
        )
    return sorted(rows, key=lambda row: -row["kl"]["mean"])


def _is_noticed(cell: Mapping[str, Any], tests: int) -> bool:
    """Whether a p-value is below NOTICED, shared out among so many tests (Bonferroni)."""
    return bool(cell["p_value"] < NOTICED / tests)


def _escaped(
    attacks: Mapping[str, Mapping[str, Any]], detection: Mapping[str, Mapping[str, Any]]
) -> str:
    escaped = [
        f"{pretty(row['name'])} ({number(row['kl']['mean'])} nat)"
        for row in noticed(attacks, detection)
        if not row["by"] and row["kl"]["mean"] >= FOOLED and row["n_maps"] >= MANY
    ]
    return (
        f"Perturbations that move the posterior by {FOOLED} nat or more and that none of the "
        f"standard statistics notices: {', '.join(escaped) or 'none'}."
    )


def _against_power(assessed: Mapping[str, Any]) -> list[str]:
    """How much less the target errs than estimators that see nothing but the power spectrum."""
    lines = []
    for baseline, ratios in assessed["ratios"].items():
        if assessed["target"] in ratios:
            told = ratios[assessed["target"]].items()
            parts = (f"{PLAIN.get(name, name)} {number(ratio['mean'], 2)}" for name, ratio in told)
            lines.append(
                f"Its RMSE over that of the estimator {pretty(baseline)}, which sees only P(k): "
                f"{', '.join(parts)}."
            )
    return lines


def _finding(name: str, row: Mapping[str, Any]) -> str:
    return (
        f"{pretty(name)}: mean KL {number(row['kl_perturbed_clean']['mean'])} nat with an RMS "
        f"change of {number(row['rms_counts']['mean'])} counts; the mean power spectrum of the "
        f"contrast changes by at most {percent(row['mean_power_change_contrast']['mean'])}."
    )


def others(attacks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The posteriors beside the target on which damage was measured."""
    return list(next(iter(attacks.values()))["others"])


def pairs(compared: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Pairs of attacks with the symmetrised KL between their posteriors, the paper's first."""
    rows = []
    for key, interval in compared.items():
        first, second = key.split("_and_")
        paper = PAPER_PAIRS.get((first, second))
        rows.append({"first": first, "second": second, "kl_symmetrised": interval, "paper": paper})
    return sorted(rows, key=lambda row: row["paper"] is None)


def differences(attacks: Mapping[str, Mapping[str, Any]], std: float) -> list[str]:
    """Why numbers differ from the paper's: what the paper leaves open, and what was chosen here.

    Args:
        attacks: rows of damage with their `parameters`.
        std: standard deviation of the training maps' pixels, counts.
    """
    lines = [
        "The paper's systematic switches at −b/a = 60, which only bites if a pixel holds the sum "
        "of 64 cells of mean 1. That unit is used here throughout.",
        "The paper's layers, its normalisation, its number of particle-mesh steps and its linear "
        "power spectrum are not given; ours are in the parameters below. The network is another "
        "one, and how far it can be fooled is a property of the network.",
        "The paper says that the power spectrum changes by less than 0.1 %. The systematic adds a "
        "nearly constant β to all pixels below its switch, which lowers the fluctuations; the "
        "change is given above as measured, raw and of the contrast, beside the cosmic variance.",
    ]
    if "bim" in attacks:
        alpha = attacks["bim"]["parameters"]["alpha"]
        lines.insert(
            0,
            "The paper gives the step size of its white-box attack, α = 0.01, without a unit. "
            f"Here BIM takes α = {number(alpha / std)} standard deviations of all pixels, which is "
            f"{number(alpha)} counts a step. How steeply the damage depends on that reading is "
            "seen by comparing it with the weaker one.",
        )
    return lines
