"""Sentences of a report: each says what its numbers say, and no more."""

import pytest

from spurious.report import findings, page


def row(kl, low=None, high=None, change=0.05):
    interval = {"mean": kl, "low": kl / 2 if low is None else low, "high": high or 2 * kl}
    change = {"mean": change, "low": change, "high": change}
    return {"kl_perturbed_clean": interval, "mean_power_change_contrast": change}


def judged(verdict, n_maps=363, by=()):
    return {
        "verdict": verdict,
        "by": list(by),
        "best": "pdf",
        "auroc": {"mean": 0.6, "low": 0.5, "high": 0.7},
        "least_auroc": 0.583,
        "n_maps": n_maps,
        "detectors": ["log_power", "pdf", "network"],
    }


ROWS = {"strong": row(2.0), "seen": row(3.0), "weak": row(0.4), "few": row(8.0)}
JUDGED = {
    "strong": judged("escapes"),
    "seen": judged("noticed", by=["pdf"]),
    "weak": judged("escapes"),
    "few": judged("too few maps", n_maps=4),
}


def test_the_headline_names_only_what_escapes_all_and_says_against_which_detectors():
    text = findings.escaping(ROWS, JUDGED)
    assert text.startswith(
        "Of 2 perturbations that move the posterior by 0.5 nat or more, 1 escape"
    )
    assert "strong (2 [1, 4] nat)" in text
    assert all(name not in text for name in ("seen (", "weak (", "few ("))
    assert "P(k), the PDF, a network that learns from examples" in text
    assert "with 363 maps they see an AUROC of 0.58 or more" in text


def test_what_is_noticed_is_not_said_to_escape():
    text = findings.escaping(ROWS, JUDGED | {"strong": judged("noticed", by=["network"])})
    assert text.startswith("Each of the 2 perturbations") and "noticed" in text
    assert text.endswith(
        "The most damaging that escapes them all is weak, with 0.4 [0.2, 0.8] nat."
    )
    text = findings.escaping({"seen": row(3.0)}, {"seen": judged("noticed", by=["pdf"])})
    assert text.endswith("Nothing escapes them all.")


def test_nothing_strong_is_no_finding():
    assert "No perturbation moves" in findings.escaping(
        {"weak": row(0.4)}, {"weak": judged("noticed")}
    )


def test_too_few_maps_is_a_verdict_of_its_own():
    assert findings.undecided(ROWS, JUDGED) == [
        "Too few maps to say who would notice: few (4 maps)."
    ]
    ordered = [one["name"] for one in page.verdicts(ROWS, JUDGED)]
    assert ordered == ["seen", "strong", "weak", "few"]


@pytest.mark.parametrize(
    ("low", "high", "change", "damage", "power"),
    [
        (0.2, 0.3, 0.12, "systematic disagrees", "and so does its change of P(k):"),
        (0.9, 1.1, 0.12, "systematic agrees", "but its change of P(k) disagrees:"),
        (0.2, 0.3, 0.0005, "systematic disagrees", "but its change of P(k) agrees:"),
        (0.9, 1.1, 0.0005, "systematic agrees", "and so does its change of P(k):"),
    ],
)
def test_damage_and_change_of_power_agree_with_the_paper_or_not(low, high, change, damage, power):
    (text,) = findings.reproduction({"systematic": row(0.24, low, high, change)})
    assert damage in text and power in text
    assert f"up to {100 * change:.2g} % in the mean of the contrast here" in text


def family(**changes):
    kl = {"mean": 0.139, "low": 0.118, "high": 0.162}
    found = {
        "parameters": {"a": 1.0}, "kl_confirmed": kl, "feasible": True, "holds": True,
        "beyond": [], "at_bound": [],
    }  # fmt: skip
    return found | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "0.139 [0.118, 0.162] nat on maps that the search never saw"),
        ({"feasible": False, "holds": False}, "nothing within the fences was found"),
        ({"holds": False, "beyond": ["power"]}, "beyond the fence on power: it does not count"),
        ({"at_bound": ["a", "beta"]}, "At an end of their range: a, beta."),
    ],
)
def test_a_winner_counts_where_its_fences_hold(changes, expected):
    (text,) = findings.searched({"families": {"logistic": family(**changes)}})
    assert expected in text
    assert ("nat" in text) == (changes.get("feasible", True))


def test_a_family_without_a_finite_value_has_no_sentence():
    assert findings.searched({"families": {"logistic": {"feasible": False}}}) == []


def test_pairs_may_have_any_names_and_the_papers_comes_first():
    """An attack may be called gain_and_drift."""
    kl = {"mean": 0.1, "low": 0.05, "high": 0.2}
    compared = [
        {"first": "gain_and_drift", "second": "bim", "kl_symmetrised": kl},
        {"first": "bim", "second": "systematic", "kl_symmetrised": kl},
    ]
    found = findings.pairs(compared)
    assert [(one["first"], one["paper"]) for one in found] == [
        ("bim", 0.67),
        ("gain_and_drift", None),
    ]


def test_failed_checks_are_named():
    checks = {"saturates": {"passed": False}, "a": {"passed": True}, "left_out": {"passed": None}}
    assert (
        findings.checked(checks)
        == "Of 2 checks of the attacks themselves, these failed: saturates."
    )
    assert findings.checked({"a": {"passed": True}}).endswith("none failed.")


def test_the_calibration_of_any_parameters_is_told():
    z = lambda value: {"mean": value}  # noqa: E731
    network = {"h_z_rms": z(1.0), "omega_m_z_rms": z(1.1), "a_agn_z_rms": z(0.9), "nll": z(3)}
    text = findings.calibrated({"target": "mine", "posteriors": {"mine": network}})
    assert "RMS of 1.00 in h, 1.10 in Ω_m and 0.90 in a_agn (1" in text


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.1234, "12 %"), (-0.5, "-50 %"), (1e-5, "0.001 %"), (4e-8, "< 0.001 %"), (0.0, "0 %"),
     (None, "–")],
)  # fmt: skip
def test_what_only_rounding_makes_is_no_percentage(share, shown):
    assert findings.percent(share) == shown
