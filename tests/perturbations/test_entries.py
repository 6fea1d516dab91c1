"""Entries of params.yaml: accepted, refused, built; `test_white_box` has the other attacks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from spurious import config
from spurious.config import Perturbation
from spurious.data.maps import MapSet
from spurious.description.fields import described
from spurious.description.lookup import class_of
from spurious.errors import UserError
from spurious.kinds import GROUPS
from spurious.perturbations import systematics as effects
from spurious.perturbations.auto_pgd import AutoPGD
from spurious.perturbations.build import build, build_initial_conditions
from spurious.perturbations.controls import ShuffledPhases, ShuffledPixels
from spurious.perturbations.effect import Effect
from spurious.perturbations.initial_conditions import InitialConditions
from spurious.perturbations.minimum_norm import MinimumNorm
from spurious.perturbations.noise import CorrelatedNoise, GaussianNoise
from spurious.perturbations.objectives import ShiftS8
from spurious.perturbations.spectral import PhaseOnly

ENTRY = TypeAdapter(Perturbation)
EFFECTS = {
    kind: one
    for kind in GROUPS["perturbation"]
    if issubclass(one := class_of("perturbation", kind), Effect)
}
LENGTH = {"value": 3.0, "unit": "Mpc/h"}
STD = {"value": 0.1, "unit": "std"}
BIM = {"kind": "bim", "alpha": {"value": 0.01, "unit": "std"}, "steps": 3}
LOGISTIC = {
    "kind": "logistic",
    "a": {"value": 0.25, "unit": "1/count"},
    "b": -15.0,
    "beta": {"value": 3.0, "unit": "count"},
}
KNOTS = {"values": [0, 40, 80, 200], "unit": "count"}

# Entry -> what it makes for a box of 32 Mpc/h, a standard deviation of 30 counts and seed 5.
ENTRIES = [
    (LOGISTIC, effects.Logistic(0.25, -15.0, 3.0)),
    (
        {"kind": "calibration", "knots": KNOTS, "log_slopes": [0.2, -0.3, 0.1]},
        effects.Calibration(1.0, (0.0, 40.0, 80.0, 200.0), (0.2, -0.3, 0.1)),
    ),
    (
        {"kind": "saturation", "strength": 0.2, "threshold": {"value": 90, "unit": "count"}},
        effects.Saturation(0.2, 90.0, 4.0),
    ),
    (
        {"kind": "gain_drift", "amplitude": -0.1, "angle": {"value": 30, "unit": "deg"}},
        effects.GainDrift(-0.1, 30.0, 1),
    ),
    (
        {"kind": "stripes", "amplitude": STD, "stripes": 8, "axis": 1},
        effects.Stripes(3.0, 8, 1, 5),
    ),
    (
        {"kind": "masked", "fraction": 0.1, "radius": LENGTH},
        effects.Masked(1.0, 0.1, 3.0, 32.0, 5),
    ),
    ({"kind": "beam", "mismatch": -0.1, "fwhm": LENGTH}, effects.Beam(-0.1, 3.0, 32.0)),
    ({"kind": "baryons", "amplitude": 0.1, "scale": LENGTH}, effects.Baryons(0.1, 3.0, 32.0, 0.0)),
    ({"kind": "correlated_noise", "rms": STD, "index": -1.5}, CorrelatedNoise(3.0, -1.5, 5)),
    ({"kind": "gaussian_noise", "rms": STD}, GaussianNoise(3.0, 5)),
    (
        {"kind": "shuffled_pixels", "of": LOGISTIC},
        ShuffledPixels(effects.Logistic(0.25, -15.0, 3.0), 5),
    ),
    (
        {"kind": "shuffled_phases", "of": LOGISTIC},
        ShuffledPhases(effects.Logistic(0.25, -15.0, 3.0), 5),
    ),
]


@pytest.fixture(scope="module")
def test_maps(make_maps):
    return MapSet(
        maps=make_maps(4, 16),
        labels=np.tile([0.3, 0.8], (4, 1)),
        seeds=np.arange(4, dtype=np.uint64),
        index=np.arange(4),
        axis=np.full(4, 2, np.int8),
        box_size=32.0,
    )


@pytest.mark.parametrize(("entry", "expected"), ENTRIES, ids=[e["kind"] for e, _ in ENTRIES])
def test_entries_are_built_in_the_units_of_the_classes(
    entry, expected, test_maps, linear_posterior
):
    settings = ENTRY.validate_python(entry)
    assert build(settings, linear_posterior, test_maps, 5) == expected
    assert ENTRY.validate_python(settings.model_dump()) == settings


def test_every_effect_can_be_built():
    kinds = {entry["kind"] for entry, _ in ENTRIES}
    assert len(ENTRIES) == len(kinds) == len(EFFECTS) + 2


@pytest.mark.parametrize("kind", ["beam", "baryons", "correlated_noise", "gain_drift"])
@pytest.mark.parametrize("other", [BIM, LOGISTIC], ids=["bim", "logistic"])
def test_matched_entries_change_as_much_as_the_other(kind, other, test_maps, linear_posterior):
    entry = dict(next(e for e, _ in ENTRIES if e["kind"] == kind))
    name = EFFECTS[kind].AMPLITUDE
    settings = ENTRY.validate_python(entry | {name: {"match": other}})
    assert ENTRY.validate_python(settings.model_dump()) == settings
    found = build(settings, linear_posterior, test_maps, 5)
    control = ENTRY.validate_python({"kind": "shuffled_pixels", "of": other})
    original = build(control, linear_posterior, test_maps, 5).of
    sizes = [
        np.mean((np.asarray(p(test_maps.maps, test_maps.labels)) - test_maps.maps) ** 2)
        for p in (found, original)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-4)


def test_the_sign_of_a_matched_amplitude(test_maps, linear_posterior):
    entry = {"kind": "beam", "mismatch": {"match": LOGISTIC, "sign": -1}, "fwhm": LENGTH}
    found = build(ENTRY.validate_python(entry), linear_posterior, test_maps, 5)
    assert found.mismatch < 0


@pytest.mark.parametrize(
    "entry",
    [
        {"kind": "masked", "fraction": 0.0, "radius": LENGTH, "blend": {"match": LOGISTIC}},
        {"kind": "gaussian_noise", "rms": {"match": LOGISTIC, "sign": -1}},
    ],
)
def test_what_cannot_be_matched_is_one_line_for_the_user(entry, test_maps, linear_posterior):
    with pytest.raises(UserError, match=rf"{entry['kind']}\.(blend|rms)\.match: "):
        build(ENTRY.validate_python(entry), linear_posterior, test_maps, 5)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"kind": "beam", "mismatch": 3, "fwhm": LENGTH}, "between -0.5 and 1, not 3"),
        ({"kind": "beam", "mismatch": 0, "fwhm": {"value": 60, "unit": "Mpc/h"}}, "not 60"),
        ({"kind": "beam", "mismatch": 0, "fwhm": {"value": 6, "unit": "deg"}}, "Mpc/h"),
        (
            {"kind": "beam", "mismatch": {"match": {"kind": "bim"}}, "fwhm": LENGTH},
            r"alpha\n  Field",
        ),
        ({"kind": "beam", "mismatch": {"match": {"kind": "x"}}, "fwhm": LENGTH}, "'bim'"),
        ({"kind": "gain_drift", "amplitude": 0.1, "phase": 1}, "unknown key"),
        ({"kind": "calibration", "knots": KNOTS, "log_slopes": [0.1]}, "one fewer"),
        (
            {
                "kind": "calibration",
                "knots": {"values": [0, 3, 3], "unit": "count"},
                "log_slopes": [0.1, 0.1],
            },
            "increase",
        ),
    ],
)
def test_impossible_entries_are_refused(entry, problem):
    with pytest.raises(ValidationError, match=problem):
        ENTRY.validate_python(entry)


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
def test_plausible_amplitudes_are_possible(effect):
    (amplitude,) = (one for one in described(effect) if one.name == effect.AMPLITUDE)
    low, high = (
        (amplitude.limits.low, min(amplitude.limits.high, effect.LIMITS[1]))
        if amplitude.limits
        else effect.LIMITS
    )
    assert effect.LIMITS[0] <= low < high <= effect.LIMITS[1]


ATTACK = TypeAdapter(Perturbation)
PARAMS = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
SHIPPED = {
    name: ATTACK.validate_python(entry)
    for group in PARAMS["attacks"].values()
    for name, entry in group.items()
}
NOISE = {"value": 0.1, "unit": "noise_norm"}
ATTACKS = [
    ({"kind": "auto_pgd", "epsilon": STD}, lambda p: AutoPGD(p, 3.0, seed=5)),
    (
        {
            "kind": "auto_pgd",
            "alpha": STD,
            "norm": "l2",
            "objective": "kl",
            "random_start": False,
            "constraints": [{"kind": "phase_only"}],
            "upper": {"value": 5000, "unit": "count"},
        },
        lambda p: AutoPGD(
            p,
            None,
            3.0,
            norm="l2",
            objective="kl",
            random_start=False,
            constraints=(PhaseOnly(),),
            upper=5000.0,
            seed=5,
        ),
    ),
    (
        {"kind": "minimum_norm", "sigmas": 2, "largest": STD},
        lambda p: MinimumNorm(p, 2.0, 3.0, seed=5),
    ),
    (
        {"kind": "minimum_norm", "sigmas": 2, "largest": STD, "norm": "linf", "bisections": 9},
        lambda p: MinimumNorm(p, 2.0, 3.0, "linf", bisections=9, seed=5),
    ),
]


@pytest.mark.parametrize(("entry", "expected"), ATTACKS)
def test_attacks_are_built_in_the_units_of_the_classes(
    entry, expected, test_maps, linear_posterior
):
    settings = ATTACK.validate_python(entry)
    assert build(settings, linear_posterior, test_maps, 5) == expected(linear_posterior)
    assert ATTACK.validate_python(settings.model_dump()) == settings


def test_a_universal_pattern_is_trained_on_the_training_maps(
    test_maps, linear_posterior, make_maps
):
    training = replace(test_maps, maps=make_maps(4, 16, seed=9))
    entry = {"kind": "universal", "epsilon": STD, "norm": "l2", "steps": 7, "batch_size": 3}
    built = build(ATTACK.validate_python(entry), linear_posterior, test_maps, 5, training=training)
    found = built.epsilon, built.norm, built.steps, built.batch_size, built.objective, built.seed
    assert found == (3.0, "l2", 7, 3, "nll", 5)
    np.testing.assert_array_equal(built.training_maps, training.maps)
    np.testing.assert_array_equal(built.training_truth, training.labels)
    assert np.sqrt(np.mean(built.pattern**2)) == pytest.approx(3.0, rel=1e-4)


def test_initial_conditions_are_those_of_the_simulations(linear_posterior):
    entry = {"kind": "initial_conditions", "epsilon": NOISE, "steps": 4}
    entry["objective"] = {"kind": "shift_s8", "sigmas": 2.0}
    simulation, background = config.Simulation(n_cells=16), config.Background(h=0.7)
    built = build_initial_conditions(
        ATTACK.validate_python(entry), linear_posterior, simulation, background, 5
    )
    expected = InitialConditions(
        linear_posterior, 0.1, simulation, background, 4, ShiftS8(2.0), seed=5
    )
    assert built == expected


def test_what_attacks_lack_is_one_line_for_the_user(test_maps, linear_posterior):
    universal = ATTACK.validate_python({"kind": "universal", "epsilon": STD})
    with pytest.raises(UserError, match="kind universal: there are no training maps"):
        build(universal, linear_posterior, test_maps, 5)
    initial = ATTACK.validate_python({"kind": "initial_conditions", "epsilon": NOISE})
    flowpm = config.Simulation(engine="flowpm")
    with pytest.raises(UserError, match=r"simulation\.engine = flowpm: must be xla"):
        build_initial_conditions(initial, linear_posterior, flowpm, config.Background(), 5)
    low = {"kind": "minimum_norm", "sigmas": 1, "largest": STD}
    low["upper"] = {"value": 1.0, "unit": "count"}
    with pytest.raises(UserError, match=r"upper = 1\.0 count: must be at least"):
        build(ATTACK.validate_python(low), linear_posterior, test_maps, 5)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"kind": "auto_pgd"}, "epsilon: without one, give alpha and constraints"),
        ({"kind": "auto_pgd", "epsilon": STD, "restarts": 2, "random_start": False}, "restarts"),
        ({"kind": "auto_pgd", "epsilon": STD, "momentum": 0.5}, "unknown key"),
        ({"kind": "auto_pgd", "epsilon": NOISE}, "'std' or 'count'"),
        ({"kind": "universal"}, "Field required"),
        ({"kind": "universal", "epsilon": STD, "constraints": []}, "unknown key"),
        (
            {"kind": "minimum_norm", "sigmas": 0, "largest": STD},
            "above 0, not 0",
        ),
        ({"kind": "minimum_norm", "sigmas": 1}, "Field required"),
        ({"kind": "initial_conditions", "epsilon": STD}, "'noise_norm'"),
        ({"kind": "initial_conditions", "epsilon": {**NOISE, "value": 2}}, "less than or equal"),
    ],
)
def test_impossible_attacks_are_refused(entry, problem):
    with pytest.raises(ValidationError, match=problem):
        ATTACK.validate_python(entry)


@pytest.mark.parametrize("name", ["auto_pgd", "universal", "minimum_norm"])
def test_shipped_attacks_change_maps(name, linear_posterior, test_maps):
    attack = build(SHIPPED[name], linear_posterior, test_maps, 5, training=test_maps)
    changed = attack(test_maps.maps, test_maps.labels)
    assert np.all(np.abs(changed - test_maps.maps).max((1, 2)) > 0.1)
