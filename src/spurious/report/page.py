"""The report as HTML, and the values that its template needs besides the findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from spurious.figures import pretty
from spurious.report.findings import (
    PAPER_KL,
    PLAIN,
    Rows,
    detector,
    detectors,
    interval,
    number,
    percent,
)
from spurious.report.pictures import encoded, pictures
from spurious.search.fences import FENCES

SYMBOLS = {"omega_m": Markup("Ω<sub>m</sub>"), "sigma_8": Markup("σ<sub>8</sub>")}
HURT = "kl_perturbed_clean"
DAMAGING, ESCAPING = 4, 3  # rows of a table that is not folded
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


# Names of the templates and ids on the page -> titles.
SECTIONS = {
    "maps": "One map, and what was done to it",
    "damage": "How much the answer moves",
    "notice": "Who would notice?",
    "trust": "Can these numbers be believed?",
    "search": "The worst systematics found",
    "defences": "Defences",
    "network": "The network and the simulator",
    "provenance": "Provenance",
}


def render(
    context: Mapping[str, Any], images: Mapping[str, bytes], dark: Mapping[str, bytes]
) -> str:
    """The report as HTML that needs no network.

    Args:
        context: all that the templates need.
        images: PNGs, by name, which are embedded.
        dark: the same for a dark page, of some; the others' colours are inverted there.

    Raises:
        jinja2.UndefinedError: a template asks for a value that `context` lacks.
    """
    about = pictures(images, context["scale"], context["target"], bool(context["own"]))
    frames = [
        {**frame, "text": typeset(frame["text"])}
        for frame in (context["flip"] or {"frames": []})["frames"]
    ]
    return _filled(
        "report.html.j2",
        {
            **context,
            "images": {name: encoded(png) for name, png in images.items()},
            "dark": {name: encoded(png) for name, png in dark.items()},
            "pictures": about,
            "frames_json": htmlsafe_json_dumps(frames),
        },
    )


def render_markdown(context: Mapping[str, Any], images: Iterable[str]) -> str:
    """The same findings as Markdown, with links to the figures beside it."""
    about = pictures(images, context["scale"], context["target"], bool(context["own"]))
    text = _filled("report.md.j2", {**context, "pictures": about})
    return text.replace("&#39;", "'").replace("&lt; ", "< ")  # a source that people read


def _filled(template: str, context: Mapping[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("spurious.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "interval": interval,
        "percent": percent,
        "detectors": detectors,
        "detector": detector,
        "pretty": pretty,
        "typeset": typeset,
        "moment": moment,
        "hundredfold": lambda found: {key: 100 * found[key] for key in ("mean", "low", "high")},
        "first_verdicts": first_verdicts,
        "symbol": lambda name: SYMBOLS.get(name, name),
    }
    return environment.get_template(template).render(
        **context,
        sections=SECTIONS,
        metric_labels=METRICS,
        paper_kl={} if context["own"] else PAPER_KL,
        fences={name: fence.meaning for name, fence in FENCES.items()},
    )


def typeset(text: str) -> Markup:
    """A sentence with the parameters' subscripts, all else escaped."""
    found = escape(text)
    for name, symbol in SYMBOLS.items():
        found = found.replace(PLAIN[name], symbol)
    return found


def moment(seconds: float) -> str:
    """Seconds since 1970 as date and time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def grouped(
    attacks: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Rows by group and name."""
    groups: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, row in attacks.items():
        groups.setdefault(row["group"], {})[name] = row
    return groups


def transfer_columns(families: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The posteriors on which winners were tried, the same for every family."""
    return list(next((row["transfer"] for row in families.values() if "transfer" in row), {}))


def verdicts(rows: Rows, judged: Rows) -> list[dict[str, Any]]:
    """Perturbations with the verdict of detection on each, by decreasing damage.

    Those that were made on too few maps to judge come last: their numbers of maps differ.
    """
    found = [
        {**judged[name], "name": name, "kl": rows[name]["kl_perturbed_clean"]} for name in judged
    ]
    return sorted(found, key=lambda row: (row["verdict"] == "too few maps", -row["kl"]["mean"]))


def first_verdicts(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of `verdicts` that matter most: the most damaging, and the worst that escape."""
    escaping = [row for row in rows if row["verdict"] == "escapes"][:ESCAPING]
    return [row for row in rows if row in rows[:DAMAGING] or row in escaping]


def reasons(
    attacks: Mapping[str, Mapping[str, Any]], target: str
) -> list[tuple[str, Mapping[str, float]]]:
    """Choices that the paper leaves open, changed one at a time, with the KL that each gives."""
    found = []
    for name, weaker in (("bim", "bim_weak"), ("systematic", None)):
        if name not in attacks:
            continue
        row = attacks[name]
        found.append((f"{pretty(name)} on {pretty(target)}", row["kl_perturbed_clean"]))
        if weaker and weaker in attacks:
            label = f"unit: a smaller step, {pretty(weaker)}"
            found.append((label, attacks[weaker]["kl_perturbed_clean"]))
        if "retrained" in row:
            label = f"seed: the maps of {pretty(name)} on other trainings"
            found.append((label, row["retrained"]["kl_perturbed_clean"]))
        found += [
            (f"{what}: the maps of {pretty(name)} on {other}", row["others"][other][HURT])
            for other, what in (("resnet", "layers"), ("contrast", "normalisation"))
            if other in row["others"]
        ]
    return found


def others(attacks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The other posteriors on which damage was measured."""
    return list(next(iter(attacks.values()))["others"])


def differences(attacks: Mapping[str, Mapping[str, Any]], std: float) -> list[str]:
    """Why numbers differ from the paper's: what it leaves open, and our choices.

    Args:
        attacks: rows of damage with their `parameters`.
        std: standard deviation of the training maps' pixels, counts.
    """
    lines = [
        "The paper’s systematic switches at −b/a = 60, which only bites if a pixel holds the sum "
        "of 64 cells of mean 1. That unit is used here throughout.",
        "The paper’s layers, its normalisation, its number of particle-mesh steps and its linear "
        "power spectrum are not given; ours are in the parameters below. The network is another "
        "one, and how easily it is fooled depends on the network.",
        "The paper says that the power spectrum changes by less than 0.1 %. The systematic adds a "
        "nearly constant β to all pixels below its switch, which lowers the fluctuations; the "
        "change is given above as measured, raw and of the contrast, beside the cosmic variance.",
        "Networks of one kind differ in how far they are fooled. Intervals are over independent "
        "trainings and maps (docs/intervals.md); the paper has one network and no interval.",
    ]
    if (alpha := attacks.get("bim", {}).get("parameters", {}).get("alpha")) is not None:
        lines.insert(
            0,
            "The paper gives the step size of its white-box attack, α = 0.01, without a unit. "
            f"Here BIM takes α = {number(alpha / std)} standard deviations of all pixels, which is "
            f"{number(alpha)} counts a step. How steeply the damage depends on that reading is "
            "seen by comparing it with the weaker one; docs/explained.md tries other units.",
        )
    return lines
