"""Each check passes on good numbers and fails on numbers that something broken would give."""

import json
from dataclasses import replace

import numpy as np
import pytest

from spurious.audit import criteria
from spurious.audit.attacks import Limit
from spurious.audit.curves import TARGET, Curve, Curves, Point
from spurious.audit.gradient_check import Agreement
from spurious.audit.measurement import Response, Size
from spurious.audit.saturation import Saturation
from spurious.config.audit import Thresholds

LIMITS = Thresholds()
STD = 30.0
N = 4
FAMILIES = {
    "strongest_linf": "linf", "fgsm": "linf", "random_sign": "linf", "bim": "linf",
    "strongest_l2": "l2", "noise": "l2",
    "strongest_bounded": "cosmic", "bounded_noise": "cosmic", "strongest_phase_only": "cosmic",
}  # fmt: skip
GOOD = {
    "strongest_linf": (0.1, 1.0, 30.0), "fgsm": (0.1, 0.9, 10.0), "random_sign": (0.0, 0.01, 1.0),
    "bim": (0.9,), "strongest_l2": (0.2, 2.0), "noise": (0.0, 0.02),
    "strongest_bounded": (0.0, 1.0, 1.2), "bounded_noise": (0.0, 0.1, 0.1),
    "strongest_phase_only": (0.1,),
}  # fmt: skip


def curve(name, damages):
    """Budgets 1, 2, ... counts (or hundredths of the cosmic variance), fully used by every map."""
    family, points = FAMILIES[name], []
    for i, kl in enumerate(damages, start=1):
        budget = i / 100 if family == "cosmic" else float(i)
        kl = np.full(N, float(kl))
        used = np.full(N, 3.0 if family == "cosmic" else budget)
        power = np.full(N, budget if family == "cosmic" else 9.0)
        size = Size(used, used, np.zeros(N), power, np.full(N, 1e-5))
        points.append(Point(budget, {TARGET: Response(kl, np.sqrt(2 * abs(kl)))}, size))
    control = name in ("random_sign", "noise", "bounded_noise")
    rms = 3.0 if family == "cosmic" else None
    return Curve(name, family, control, tuple(points), rms)


def made(**losses):
    """Good curves, some of them replaced."""
    curves = tuple(curve(name, values) for name, values in {**GOOD, **losses}.items())
    return Curves(curves, np.full((10, N), 1 / N), STD, LIMITS.sigmas)


def with_size(name, **changes):
    """Good curves; the last point of one has another size."""
    curves = made()
    old = curves[name]
    last = replace(old.points[-1], size=replace(old.points[-1].size, **changes))
    new = replace(old, points=(*old.points[:-1], last))
    return replace(curves, curves=tuple(new if c is old else c for c in curves.curves))


def agreement(errors, zeros):
    return Agreement(np.array(errors, float), np.array(zeros, float))


OF_CURVES = {
    "iterative_beats_single": criteria.iterative_beats_single,
    "monotone": criteria.monotone,
    "full_damage": criteria.full_damage,
    "beats_noise": criteria.beats_noise,
    "budget_respected": criteria.budget_respected,
}


@pytest.mark.parametrize("name", OF_CURVES)
def test_good_curves_pass(name):
    check = OF_CURVES[name](made(), LIMITS)
    assert check.passed is True and check.name == name


@pytest.mark.parametrize(
    ("name", "curves", "value"),
    [
        ("iterative_beats_single", made(fgsm=(0.1, 1.25, 10)), -0.2),
        ("iterative_beats_single", made(strongest_linf=(0.1, 1.0, 5)), -0.5),
        ("iterative_beats_single", made(strongest_linf=(-0.1, 1.0, 30)), -2.0),
        ("iterative_beats_single", made(strongest_linf=(0, 0, 0), fgsm=(0, 0, 0)), None),
        ("iterative_beats_single", made(fgsm=(0.1, np.nan, 10)), None),
        ("monotone", made(strongest_linf=(0.1, 40.0, 30.0)), 0.25),
        ("monotone", made(strongest_bounded=(0.0, 1.2, 1.08)), 0.1),
        ("monotone", made(strongest_l2=(0.2, np.inf)), None),
        ("full_damage", made(strongest_linf=(0.1, 1.0, 1.9)), 0.0),
        ("full_damage", made(strongest_linf=(0.1, 1.0, np.nan)), 0.0),
        ("full_damage", made(strongest_linf=(0.1, 1.0, np.inf)), 1.0),
        ("beats_noise", made(random_sign=(0.0, 0.01, 31.0)), 30 / 31 - 1),
        ("beats_noise", made(noise=(0.2, 0.02)), 0.0),
        ("beats_noise", made(strongest_bounded=(0, 0, 0), bounded_noise=(0, 0.1, 0.1)), -1.0),
        ("budget_respected", with_size("strongest_linf", linf=np.array([3, 3, 3, 3.3])), 1.1),
        ("budget_respected", with_size("strongest_l2", rms=np.array([2, 4, 2, 2])), 2.0),
        ("budget_respected", with_size("strongest_linf", least=np.array([0, 0, -0.5, 0])), 1.5),
        ("budget_respected", with_size("strongest_bounded", cosmic=np.full(N, 0.1)), 2.0),
        ("budget_respected", with_size("strongest_phase_only", rms=np.full(N, 6.0)), 2.0),
        ("budget_respected", with_size("fgsm", linf=np.array([3, np.nan, 3, 3])), None),
    ],
)
def test_bad_curves_fail(name, curves, value):
    check = OF_CURVES[name](curves, LIMITS)
    assert check.passed is False
    assert check.value == (None if value is None else pytest.approx(value, abs=1e-3))
    json.dumps(check.as_json(), allow_nan=False)


def test_budgets_that_allow_no_damage_are_not_compared():
    # At fraction 0 a posterior of P(k) alone cannot be moved; what is left there is rounding.
    curves = made(strongest_bounded=(1e-6, 1.0, 1.2), bounded_noise=(5e-6, 0.1, 0.1))
    assert criteria.beats_noise(curves, LIMITS).passed
    assert criteria.monotone(made(strongest_bounded=(2e-6, 1e-6, 1.2)), LIMITS).passed


def test_rounding_is_no_excess():
    tight = with_size("strongest_linf", linf=np.full(N, 3.00001), rounding=np.full(N, 1e-4))
    assert criteria.budget_respected(tight, LIMITS).passed
    assert not criteria.budget_respected(
        with_size("strongest_linf", linf=np.full(N, 3.001)), LIMITS
    ).passed


def saturated(found=9.0, twice=9.1, most=9.4):
    """Two of four maps have a reference."""
    rows = np.array([0, 2])
    kl = [np.full(size, float(value)) for value, size in ((found, N), (twice, N), (most, 2))]
    return Saturation(Limit(3.0), 8, 1, *kl[:2], rows, kl[2], 100)


@pytest.mark.parametrize(
    ("change", "passed", "value"),
    [
        ({}, True, 0.4 / 9.4),
        ({"found": 4.0, "twice": 8.0, "most": 8.0}, False, 0.5),  # too few steps
        ({"twice": 5.0}, False, 4 / 9),  # it oscillates
        ({"most": 18.0}, False, 0.5),  # twice the steps agree, and both miss half
        ({"found": 0.0, "twice": 0.0, "most": 0.0}, False, None),
        ({"twice": np.nan}, False, None),
        ({"most": np.inf}, False, 1.0),
    ],
)
def test_saturation_is_asked_of_every_limit(change, passed, value):
    """The bad one is any of them."""
    good = {name: saturated() for name in ("linf", "bounded", "phase_only")}
    for name in good:
        check = criteria.saturates({**good, name: saturated(**change)}, LIMITS)
        assert check.passed is passed
        assert check.value == (None if value is None else pytest.approx(value))
        json.dumps(check.as_json(), allow_nan=False)


def test_share_and_gain_are_of_means():
    found = Saturation(
        Limit(3.0, "l2"), 8, 1, np.array([1.0, 2, 3]), np.array([1.0, 2, 5]),
        np.array([0, 2]), np.array([3.0, 5.0]), 100,
    )  # fmt: skip
    assert found.gain == pytest.approx(2 / 8) and found.share == pytest.approx(4 / 8)
    written = found.as_json(30.0, np.full((5, 3), 1 / 3))
    assert written["epsilon_std"] == pytest.approx(0.1)
    assert written["kl_perturbed_clean"]["mean"] == pytest.approx(2)
    assert written["strongest_known"]["mean"] == pytest.approx(8 / 3)
    assert written["share_of_reference"] == pytest.approx(0.5)
    assert written["reference"] == {"maps": 2, "steps": 100, "kl_perturbed_clean": 4.0}


def test_a_transferred_attack_must_do_less():
    white = np.full(N, 5.0)
    assert criteria.beats_transfer(white, {"second": np.full(N, 3.0)}, LIMITS).passed is True
    both = {"second": np.full(N, 3.0), "third": np.full(N, 6.0)}
    check = criteria.beats_transfer(white, both, LIMITS)
    assert check.passed is False and check.value == pytest.approx(-1 / 6)
    assert check.values["second"] == pytest.approx(0.4)


def test_without_other_posteriors_transfer_is_left_out():
    check = criteria.beats_transfer(np.full(N, 5.0), {}, LIMITS)
    assert check.passed is None and check.value is None and "left out" in check.sentence


@pytest.mark.parametrize(
    ("errors", "passed"),
    [([0.01] * 10, True), ([0.01] * 9 + [1.0], True), ([0.01] * 8 + [1.0] * 2, False),
     ([np.inf] * 10, False), ([np.nan] * 10, False)],
)  # fmt: skip
def test_gradients_are_counted_map_by_map(errors, passed):
    assert criteria.gradient_agrees(agreement(errors, errors), LIMITS).passed is passed


@pytest.mark.parametrize(
    ("zeros", "passed"), [([0, 0.4], True), ([0, 0.6], False), ([0, 1.0], False)]
)
def test_one_map_without_gradient_is_one_too_many(zeros, passed):
    check = criteria.gradient_not_zero(agreement([0, 0], zeros), LIMITS)
    assert check.passed is passed and check.value == max(zeros)


@pytest.mark.parametrize(
    ("losses", "passed", "spread"),
    [
        ([[1.0, 10.0], [1.05, 9.9]], True, (0.05 / 1.05 + 0.01) / 2),
        ([[1.0, 10.0], [2.0, 10.0]], False, 0.25),  # the same mean would hide it
        ([[1.0, 2.0], [2.0, 1.0]], False, 0.5),
        ([[0.0, 0.0], [0.0, 0.0]], False, None),
        ([[1.0, np.nan], [1.0, 1.0]], False, None),
    ],
)
def test_starts_are_compared_map_by_map(losses, passed, spread):
    check = criteria.restarts_agree(np.array(losses), LIMITS)
    assert check.passed is passed
    assert check.value == (None if spread is None else pytest.approx(spread))


@pytest.mark.parametrize(
    ("reached", "passed"), [([95, 120], True), ([95, 60], False), ([np.nan, np.nan], False)]
)
def test_the_planted_damage_must_be_reached_on_most_maps(reached, passed):
    check = criteria.planted_found(np.full(2, 100.0), np.array(reached, float), LIMITS)
    assert check.passed is passed


def test_thresholds_can_be_set():
    loose = Thresholds(tolerance=0.5)
    assert criteria.monotone(made(strongest_linf=(0.1, 40.0, 30.0)), loose).passed
