"""What every perturbation logs in the same way."""

import pytest

from spurious.description.lookup import class_of
from spurious.pipeline import comparable


def of(config, name, used):
    group = config.attacked[name]
    given = config.attacks[group][name]
    return comparable.parameters(group, given.kind, given.CLASS, given, used)


@pytest.mark.parametrize(
    ("name", "used", "budget", "unit"),
    [
        ("fgsm", {}, 0.01, "std"),
        ("bim", {}, 0.1, "std"),  # ten steps of 0.01
        ("bounded", {}, 0.1, "std"),
        ("strongest_l2", {}, 0.05, "std"),
        ("systematic", {}, 3.0, "count"),
        ("systematic_matched", {"beta": 5.1}, 5.1, "count"),
        ("gain_drift", {}, 0.03, "1"),
        ("gaussian_noise", {"rms": 3.6}, 3.6, "count"),
        ("shuffled_pixels", {}, "none", "none"),
    ],
)
def test_the_budget_is_what_limits_a_perturbation_in_the_unit_it_is_given_in(
    config, name, used, budget, unit
):
    found = of(config, name, used)
    assert (found["budget"], found["unit"]) == (budget, unit)
    assert found["group"] == config.attacked[name] and len(found) == 4


def test_a_winner_has_the_amplitude_that_was_found():
    found = comparable.parameters(
        "search", "logistic", class_of("perturbation", "logistic"), None, {"beta": -2.0}
    )
    assert found == {"group": "search", "kind": "logistic", "budget": -2.0, "unit": "count"}


def test_numbers_are_means_and_say_to_whom():
    def kl(value):
        return {"kl_perturbed_clean": {"mean": value, "low": 0.0, "high": 9.0}}

    row = kl(4.0) | {"rms_counts": {"mean": 3.0}, "mean_power_change_contrast": {"mean": 0.03}}
    few = {"damage": 4.0, "power_change": 0.03, "rms_counts": 3.0}
    assert comparable.numbers(row) == few
    row |= {"others": {"resnet": kl(2.0)}, "trainings": [kl(5.0), kl(3.0)]}
    more = {"damage to/resnet": 2.0, "trainings/1": 5.0, "trainings/2": 3.0}
    assert comparable.numbers(row) == few | more


def test_detection_adds_the_best_detector_where_it_looked():
    assert comparable.noticed(None) == {}
    judgement = {"auroc": {"mean": 0.9}, "verdict": "noticed", "best": "network"}
    assert comparable.noticed(judgement) == {"auroc": 0.9, "verdict": "noticed"}
