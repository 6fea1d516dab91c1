"""The headline table of the README: what the results of each scale say of the paper's claims.

It reads only what git keeps, `results/<scale>/*.json`; a scale counts as soon as it has all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spurious.files import read_json
from spurious.report.findings import PAPER_KL, PAPER_PAIRS, PAPER_POWER_CHANGE

FILES = ("attacks/paper.json", "attacks/strongest.json", "compare.json", "assess.json")
SCALES = ("pilot", "paper")
Results = Mapping[str, Any]


def scales(folder: Path) -> list[str]:
    """The scales whose results are complete."""
    return [one for one in SCALES if all((folder / one / name).is_file() for name in FILES)]


def rows(folder: Path) -> tuple[list[str], list[list[str]]]:
    """Head and body of the table; an interval of 95 % in brackets.

    Args:
        folder: has a folder for each scale.
    """
    found = scales(folder)
    results = [{name: read_json(folder / scale / name) for name in FILES} for scale in found]
    head = ["number", "paper", *(f"here, {scale}" for scale in found)]
    return head, [[what, paper, *map(tell, results)] for what, paper, tell in LINES]


def _kl(file: str, attack: str) -> Callable[[Results], str]:
    return lambda results: f"{_interval(results[file][attack]['kl_perturbed_clean'])} nat"


def _power(attack: str) -> Callable[[Results], str]:
    def tell(results: Results) -> str:
        change = results["attacks/paper.json"][attack]["mean_power_change_contrast"]
        return f"{_interval(change, 100)} %"

    return tell


def _pair(first: str, second: str) -> Callable[[Results], str]:
    def tell(results: Results) -> str:
        wanted = {first, second}
        pairs = results["compare.json"]["pairs"]
        found = [one for one in pairs if {one["first"], one["second"]} == wanted]
        return f"{_interval(found[0]['kl_symmetrised'])} nat" if found else ""

    return tell


def _ratio(parameter: str) -> Callable[[Results], str]:
    def tell(results: Results) -> str:
        assess = results["assess.json"]
        return _interval(assess["ratios"]["power_spectrum"][assess["target"]][parameter])

    return tell


def _interval(one: Mapping[str, float], factor: float = 1.0) -> str:
    mean, low, high = (f"{factor * one[key]:.3g}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


LARGEST = f"< {100 * PAPER_POWER_CHANGE:g} %"
LINES: list[tuple[str, str, Callable[[Results], str]]] = [
    ("KL(perturbed ‖ clean), the paper's white-box attack", f"{PAPER_KL['bim']} nat",
     _kl("attacks/paper.json", "bim")),
    ("… with α = 0.003 instead of 0.01", "", _kl("attacks/paper.json", "bim_weak")),
    ("… the paper's systematic", f"{PAPER_KL['systematic']} nat",
     _kl("attacks/paper.json", "systematic")),
    ("… the same, as large as the white-box attack", "",
     _kl("attacks/paper.json", "systematic_matched")),
    ("… the strongest attack of the white-box attack's budget", "",
     _kl("attacks/strongest.json", "strongest_linf")),
    ("symmetrised KL between white-box attack and systematic",
     f"{PAPER_PAIRS['bim', 'systematic']} nat", _pair("bim", "systematic")),
    ("change of the mean P(k) of the contrast, white-box attack", LARGEST, _power("bim")),
    ("… the paper's systematic", LARGEST, _power("systematic")),
    ("RMSE of the first training over that of the P(k) network, Ω_m", "", _ratio("omega_m")),
    ("… σ_8", "", _ratio("sigma_8")),
]  # fmt: skip
"""What a line says, the paper's number, and how the results of a scale say it."""
