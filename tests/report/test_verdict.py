"""The verdict: about the right perturbation, and no more than the numbers say."""

import pytest
from small_report import judgement, row

from spurious.report.verdict import verdict

ESCAPES, NOTICED, TOO_FEW = "escapes", "noticed", "too few maps"


def found(*cases):
    """The verdict on perturbations a, b, ...: pairs of KL and what detection says, if anything."""
    names = "abcdef"[: len(cases)]
    rows = {name: row(kl, "paper") for name, (kl, _) in zip(names, cases, strict=True)}
    judged = {
        name: judgement(said, 0.6)
        for name, (_, said) in zip(names, cases, strict=True)
        if said is not None
    }
    return verdict(rows, judged)


@pytest.mark.parametrize(
    ("cases", "name", "said"),
    [
        (
            [(4, NOTICED), (2, ESCAPES), (3, ESCAPES)],
            "c",
            "A change that none of 3 detectors noticed",
        ),
        ([(4, NOTICED), (0.1, ESCAPES)], "b", "Every change that moved this network’s"),
        (
            [(4, TOO_FEW), (0.6, NOTICED), (0.1, ESCAPES)],
            "c",
            "Every change that could be judged and moved",
        ),
        (
            [(4, None), (0.6, NOTICED), (0.1, ESCAPES)],
            "c",
            "Every change that could be judged and moved",
        ),
        ([(0.4, NOTICED), (0.1, ESCAPES)], "b", "No change that 3 detectors could judge moved"),
        ([(0.4, NOTICED), (3, NOTICED)], "b", "Nothing escaped: every change was noticed"),
        ([(0.4, TOO_FEW), (3, None)], "b", "No change was made on enough maps"),
    ],
)
def test_the_verdict_is_on_what_escapes_and_moved_most(cases, name, said):
    one = found(*cases)
    assert (one.name, said in one.sentence) == (name, True)
    assert one.sentence.endswith("σ.") and f"“{name}”" in one.sentence


def test_it_says_that_an_attacker_knows_the_network():
    rows, judged = {"a": row(2, "paper")}, {"a": judgement(ESCAPES, 0.6)}
    known = "“a” (made by an attacker who knows the network)"
    assert known in verdict(rows, judged, {"a"}).sentence
    assert known not in verdict(rows, judged).sentence


def test_it_says_how_far_the_parameter_moved_that_moved_most():
    assert "Ω_m by 1.4 σ" in found((2, ESCAPES)).sentence


def test_without_a_judgement_there_is_no_auroc():
    damage, power, best = found((3, None)).numbers
    assert (damage.shown, power.shown, best.shown, best.ends) == ("3", "1", "–", "")
    assert damage.source == "attacks/paper/a.json"


def test_a_parameter_of_any_name_may_have_moved_most():
    moved = {"mean": 2.5, "low": 2.0, "high": 3.0}
    one = {**row(2.0, "paper"), "abs_shift_a_agn": moved}
    said = verdict({"a": one}, {"a": judgement(ESCAPES, 0.6)})
    assert (
        "a_agn by 2.5 σ" in said.sentence and "a_agn moves by 2.5 [2, 3] σ" in said.numbers[0].note
    )
