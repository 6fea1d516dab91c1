"""The verdict of a run: one plain sentence, and three numbers that support it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from spurious.config import winner
from spurious.figures import pretty
from spurious.report.findings import DETECTORS, FOOLED, PLAIN, Rows, interval, number, parameters

ESCAPES, TOO_FEW = "escapes", "too few maps"
SEARCHED = winner("")


@dataclass(frozen=True)
class Number:
    """A number of the first screen.

    Attributes:
        label: what it is.
        value: with its 95 % interval: `mean`, `low` and `high`, as in the file; None: unknown.
        percent: whether to show it as percent.
        unit: behind the number.
        note: how to read it.
        source: the file, relative to the report, and the key.
    """

    label: str
    value: Mapping[str, float] | None
    unit: str
    note: str
    source: str
    percent: bool = False

    @property
    def shown(self) -> str:
        """The mean as text."""
        return self._text(self.value["mean"]) if self.value else "–"

    @property
    def ends(self) -> str:
        """The interval as text."""
        if not self.value:
            return ""
        return f"{self._text(self.value['low'])} … {self._text(self.value['high'])}"

    def _text(self, value: float) -> str:
        return number(100 * value if self.percent else value)


@dataclass(frozen=True)
class Verdict:
    """What the first screen says.

    Attributes:
        name: the perturbation that it is about.
        sentence: in plain words.
        numbers: damage, what the power spectrum saw, and the best detector.
    """

    name: str
    sentence: str
    numbers: tuple[Number, Number, Number]


def verdict(rows: Rows, judged: Rows, informed: Collection[str] = ()) -> Verdict:
    """The verdict on the perturbation that moved the posterior most and escapes all detectors.

    If nothing escapes, it is on the one that moved it most.

    Args:
        rows: damage of every attack and of every winner of the search, by name.
        judged: the verdict of detection on each that has enough maps, by name.
        informed: names of those that are made with knowledge of the network.
    """
    escaped = [name for name in judged if judged[name]["verdict"] == ESCAPES]
    decided = [name for name in judged if judged[name]["verdict"] != TOO_FEW]
    name = max(escaped or decided or rows, key=lambda name: damage(rows[name]))
    who = called(name, name in informed)
    sentence = _sentence(name, who, rows, judged, decided, bool(escaped))
    return Verdict(name, sentence, _numbers(name, rows[name], judged.get(name)))


def damage(row: Mapping[str, Any]) -> float:
    """Mean KL(perturbed ‖ clean), nat."""
    return float(row["kl_perturbed_clean"]["mean"])


def shift(row: Mapping[str, Any]) -> tuple[str, Mapping[str, float]]:
    """The parameter that moved most, and its mean |shift| in clean σ with the interval."""
    names = parameters(row, "abs_shift_")
    name = max(names, key=lambda name: row[f"abs_shift_{name}"]["mean"])
    return name, row[f"abs_shift_{name}"]


def plain(parameter: str) -> str:
    """A parameter in a sentence."""
    return PLAIN.get(parameter, parameter)


def called(name: str, informed: bool = False) -> str:
    """A perturbation in words."""
    if name.startswith(SEARCHED):
        return f"the worst “{pretty(name.removeprefix(SEARCHED))}” that the search found"
    return (
        f"“{pretty(name)}” (made by an attacker who knows the network)"
        if informed
        else (f"“{pretty(name)}”")
    )


def _sentence(
    name: str, who: str, rows: Rows, judged: Rows, decided: list[str], escapes: bool
) -> str:
    parameter, moved = shift(rows[name])
    by = f"{plain(parameter)} by {number(moved['mean'], 2)} σ"
    if not decided:
        return (
            "No change was made on enough maps to say who would notice it; the most damaging, "
            f"{who}, moved this network’s {by}."
        )
    n = len(judged[name]["detectors"])
    if not escapes:
        return (
            f"Nothing escaped: every change was noticed by at least one of {n} detectors, also the "
            f"most damaging, {who}, which moved this network’s {by}."
        )
    if damage(rows[name]) >= FOOLED:
        return f"A change that none of {n} detectors noticed, {who}, moved this network’s {by}."
    rest = f"the worst that escaped them all, {who}, moved its {by}"
    if not any(damage(rows[one]) >= FOOLED for one in decided):
        return (
            f"No change that {n} detectors could judge moved this network’s answer by as much as "
            f"1 σ; {rest}."
        )
    unjudged = any(damage(row) >= FOOLED for one, row in rows.items() if one not in decided)
    which = "could be judged and moved" if unjudged else "moved"
    return (
        f"Every change that {which} this network’s answer by as much as 1 σ was noticed by at "
        f"least one of {n} detectors; {rest}."
    )


def _numbers(
    name: str, row: Mapping[str, Any], judgement: Mapping[str, Any] | None
) -> tuple[Number, Number, Number]:
    """Damage, the change of the mean P(k), the best detector."""
    parameter, moved = shift(row)
    single = interval(row["power_change_cosmic_contrast"], 2)
    file = "search.json" if name.startswith(SEARCHED) else f"attacks/{row['group']}/{name}.json"
    return (
        Number(
            "Damage",
            row["kl_perturbed_clean"],
            "nat",
            f"mean KL(perturbed ‖ clean); {FOOLED} nat is a shift by 1 σ. {plain(parameter)} moves "
            f"by {interval(moved, 2)} σ.",
            file,
        ),
        Number(
            "What the power spectrum saw",
            row["mean_power_change_contrast"],
            "%",
            "largest change of any bin of the mean P(k) of the contrast; for one map, "
            f"{single} cosmic variances.",
            file,
            percent=True,
        ),
        _best(judgement),
    )


def _best(judgement: Mapping[str, Any] | None) -> Number:
    if judgement is None:
        return Number("Best detector", None, "", "too few maps to judge", "detection.json")
    best = judgement["best"]
    return Number(
        "Best detector",
        judgement["auroc"],
        "AUROC",
        f"for one map, by {DETECTORS.get(best, pretty(best))}; 0.5 is chance, and "
        f"{number(judgement['least_auroc'], 2)} would be noticed in nine of ten cases.",
        "detection.json",
    )
