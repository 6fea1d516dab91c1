"""The tables of docs/explained.md, from what `scripts/explain.py` has found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spurious.report.findings import PAPER_KL, interval, number, percent

Row = Mapping[str, Any]
HEAD = [
    "x in the attack", "Clip", "x in the systematic", "β", "KL, attack", "KL, systematic",
    "symmetrised KL between them", "P(k), attack", "P(k), systematic", "within a factor of",
]  # fmt: skip
DAMAGES = (0.1, 0.5, 1.0)  # nats
SPECTRA = ("raw", "contrast")


def readings(rows: Sequence[Row], network: str, clip: str) -> tuple[list[str], list[list[str]]]:
    """Head and body: all readings on one network with one clip, the nearest first."""
    found = [one for one in _all(rows) if one[0]["network"] == network and one[0]["clip"] == clip]
    return HEAD, [_line(*one) for one in sorted(found, key=_distance)]


def agreeing(rows: Sequence[Row], network: str) -> tuple[list[str], list[list[str]]]:
    """Head and body: readings on one network whose intervals hold the paper's two mean KLs."""
    found = [
        one
        for one in _all(rows)
        if one[0]["network"] == network
        and _holds(one[0]["bim"]["kl_perturbed_clean"], PAPER_KL["bim"])
        and _holds(one[0][one[1]]["systematic"]["kl_perturbed_clean"], PAPER_KL["systematic"])
    ]
    return HEAD, [_line(*one) for one in sorted(found, key=_distance)]


def _holds(ends: Mapping[str, float], value: float) -> bool:
    return ends["low"] <= value <= ends["high"]


def nearest(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Head and body: of each network the reading that comes nearest."""
    names = dict.fromkeys(row["network"] for row in rows)
    body = []
    for name in names:
        row, beta = min((one for one in _all(rows) if one[0]["network"] == name), key=_distance)
        body.append([f"{name} ({row['n_trainings']})", *_line(row, beta)])
    return ["network (trainings)", *HEAD], body


def least_changes(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Head and body: how little of P(k) changes in all that has so large a mean KL."""
    made = [row["bim"] for row in rows] + [row[beta]["systematic"] for row, beta in _all(rows)]
    body = []
    for damage in DAMAGES:
        found = [one for one in made if one["kl_perturbed_clean"]["mean"] >= damage]
        least = [
            percent(min(one[f"mean_power_change_{spectrum}"]["mean"] for one in found))
            for spectrum in SPECTRA
        ]
        cosmic = min(one["mean_power_change_cosmic_contrast"] for one in found)
        body.append([f"{damage:g} nat", *least, f"{number(cosmic, 2)} σ"])
    return ["mean KL of at least", "P(k), raw", "of the contrast", "over cosmic variance"], body


def _all(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    return ((row, beta) for row in rows for beta in ("fixed", "matched"))


def _distance(one: tuple[Row, str]) -> float:
    row, beta = one
    return float(row[beta]["distance"])


def _line(row: Row, beta: str) -> list[str]:
    made = row[beta]
    attack = row["attack"] if row["alpha"] == 0.01 else f"{row['attack']} ({row['alpha']:.2g})"
    return [
        attack,
        row["clip"].replace("|", "❘"),
        row["systematic"],
        "3" if beta == "fixed" else "matched",
        interval(row["bim"]["kl_perturbed_clean"]),
        interval(made["systematic"]["kl_perturbed_clean"]),
        interval(made["pair"]),
        _power(row["bim"]),
        _power(made["systematic"]),
        number(math.exp(min(made["distance"], 700)), 3),
    ]


def _power(damage: Row) -> str:
    """Largest change of the mean P(k), raw and of the contrast, and that over cosmic variance."""
    raw, contrast = (percent(damage[f"mean_power_change_{one}"]["mean"]) for one in SPECTRA)
    return f"{raw}, {contrast} ({number(damage['mean_power_change_cosmic_contrast'], 2)} σ)"
