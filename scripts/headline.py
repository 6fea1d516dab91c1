"""The headline table of the README: what the results of each scale say of the paper's claims.

It reads only what git keeps of `results/<scale>`; a scale counts as soon as it has all.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from spurious.files import read_json
from spurious.report.findings import PAPER_KL, PAPER_PAIRS, PAPER_POWER_CHANGE

FILES = (
    "attacks/paper.json", "attacks/strongest.json", "compare.json", "assess.json", "search.json",
    "attacks.csv", "detection.csv",
)  # fmt: skip
MOVED = 0.5  # nat: a shift by one sigma
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
    results = [{name: _read(folder / scale / name) for name in FILES} for scale in found]
    head = ["number", "paper", *(f"here, {scale}" for scale in found)]
    return head, [[what, paper, *map(tell, results)] for what, paper, tell in LINES]


def _read(path: Path) -> Any:
    """The object in a JSON file, or the rows of a table."""
    if path.suffix == ".json":
        return read_json(path)
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


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


def _searched(results: Results) -> str:
    """The winner of a family that does most of those that hold on unseen maps."""
    held = [one for one in results["search.json"]["families"].values() if one["holds"]]
    if not held:
        return "none"
    best = max((one["kl_confirmed"] for one in held), key=lambda kl: float(kl["mean"]))
    return f"{_interval(best)} nat"


def _verdicts(results: Results) -> dict[str, str]:
    """Of each perturbation; its rows, one a detector, repeat it."""
    return {one["perturbation"]: one["verdict"] for one in results["detection.csv"]}


def _strong(results: Results) -> str:
    """How many perturbations move the posterior by `MOVED` or more, and how many are noticed."""
    rows = results["attacks.csv"]
    strong = [one["perturbation"] for one in rows if float(one["kl_perturbed_clean"]) >= MOVED]
    noticed = [name for name in strong if _verdicts(results)[name] == "noticed"]
    return f"{len(noticed)} of {len(strong)}"


def _escaped(results: Results) -> str:
    """The most damaging that escapes every detector."""
    free = [name for name, verdict in _verdicts(results).items() if verdict == "escapes"]
    rows = [one for one in results["attacks.csv"] if one["perturbation"] in free]
    if not rows:
        return "none"
    key = "kl_perturbed_clean"
    worst = max(rows, key=lambda one: float(one[key]))
    ends = {"mean": worst[key], "low": worst[f"{key}.low"], "high": worst[f"{key}.high"]}
    name = worst["perturbation"].replace("_", " ")
    return f"{_interval({end: float(value) for end, value in ends.items()})} nat, {name}"


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
    ("KL, the strongest attack of that budget that keeps P(k) of each map", "",
     _kl("attacks/strongest.json", "strongest_bin_preserving")),
    ("… the worst systematic of the search that keeps within its fences", "", _searched),
    ("… the most damaging perturbation that escapes every detector", "", _escaped),
    (f"perturbations of {MOVED:g} nat or more that at least one detector notices", "", _strong),
    ("RMSE of the first training over that of the P(k) network, Ω_m", "", _ratio("omega_m")),
    ("… σ_8", "", _ratio("sigma_8")),
]  # fmt: skip
"""What a line says, the paper's number, and how the results of a scale say it."""
