"""The numbers that `dvc metrics show` prints."""

import json
from pathlib import Path

import pytest

from spurious.report.metrics import select_metrics

ROOT = Path(__file__).parents[2]


def mean(value):
    return {"mean": value, "low": value / 2, "high": value * 2}


def row(kl, group):
    return {"kl_perturbed_clean": mean(kl), "group": group}


ROWS = {
    "bim": row(4.08325, "paper"),
    "fgsm": row(0.02, "paper"),
    "stripes": row(0.01, "systematics"),
    "strongest_l2": row(1.8, "strongest"),
    "strongest_linf": row(6.5, "strongest"),
}
JUDGED = {
    "bim": {"verdict": "noticed", "auroc": mean(0.92)},
    "fgsm": {"verdict": "escapes", "auroc": mean(0.51)},
    "stripes": {"verdict": "escapes", "auroc": mean(0.5)},
}
SEARCH = {
    "families": {
        "logistic": {"holds": True, "kl_confirmed": mean(0.01)},
        "calibration": {"holds": True, "kl_confirmed": mean(0.14)},
        "beam": {"holds": False, "kl_confirmed": mean(3.0)},
        "saturation": {"feasible": False},
    }
}
TARGET = {
    "nll": mean(-3.5),
    **{f"{name}_{metric}": mean(0.07) for name in ("omega_m", "sigma_8") for metric in ("rmse",)},
    **{f"{name}_z_rms": mean(1.05) for name in ("omega_m", "sigma_8")},
}
ASSESSED = {"target": "compact", "posteriors": {"compact": TARGET, "resnet": {}}}
CHECKS = {"a": {"passed": True}, "b": {"passed": False}, "c": {"passed": None}}
DEFENDED = {
    "winner": "adversarial",
    "defences": {
        "compact": {"damage_left": 1.0, "information": mean(1.0)},
        "adversarial": {"damage_left": 0.33, "information": mean(0.57)},
    },
}


def found(**changes):
    parts = {"rows": ROWS, "judged": JUDGED, "search": SEARCH, "assessed": ASSESSED}
    return select_metrics(**parts | {"checks": CHECKS, "defended": DEFENDED} | changes)


def test_about_fifteen_numbers_each_from_where_it_is_measured():
    assert found() == {
        "kl_bim": 4.083,
        "kl_strongest": 6.5,
        "kl_searched": 0.14,  # one that breaks a fence on unseen maps does not count
        "kl_escaped": 0.02,
        "n_escaped": 2,
        "auroc_bim": 0.92,
        "nll": -3.5,
        "rmse_omega_m": 0.07,
        "rmse_sigma_8": 0.07,
        "z_rms_omega_m": 1.05,
        "z_rms_sigma_8": 1.05,
        "checks_failed": 1,
        "defence_damage": 0.33,
        "defence_information": 0.57,
    }


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"judged": {}}, {"kl_escaped", "auroc_bim"}),
        ({"search": {"families": {"saturation": {"feasible": False}}}}, {"kl_searched"}),
        ({"defended": DEFENDED | {"winner": None}}, {"defence_damage", "defence_information"}),
        ({"rows": {"fgsm": ROWS["fgsm"]}, "judged": {}}, {"kl_bim", "kl_strongest"}),
    ],
)
def test_a_number_that_a_run_does_not_have_is_left_out(changes, gone):
    assert gone.isdisjoint(found(**changes))


def test_the_metrics_in_git_are_so_few_that_they_can_be_read():
    kept = json.loads((ROOT / "results/pilot/metrics.json").read_text())
    assert 10 <= len(kept) <= 20
    assert all(isinstance(value, int | float) for value in kept.values())
