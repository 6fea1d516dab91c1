"""Systematics and controls as entries of params.yaml: accepted, refused, built."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from spurious.config import systematics as cfg
from spurious.errors import UserError
from spurious.maps import MapSet
from spurious.perturbations import systematics as effects
from spurious.perturbations.controls import ShuffledPhases, ShuffledPixels
from spurious.perturbations.noise import CorrelatedNoise, GaussianNoise
from spurious.stages.systematics import CLASSES, build_systematic

ENTRY = TypeAdapter(cfg.Systematic)
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
    assert build_systematic(settings, linear_posterior, test_maps, 5) == expected
    assert ENTRY.validate_python(settings.model_dump()) == settings


def test_every_section_can_be_built():
    kinds = {entry["kind"] for entry, _ in ENTRIES}
    assert len(ENTRIES) == len(kinds) == len(CLASSES) + 2


@pytest.mark.parametrize("kind", ["beam", "baryons", "correlated_noise", "gain_drift"])
@pytest.mark.parametrize("other", [BIM, LOGISTIC], ids=["bim", "logistic"])
def test_matched_entries_change_as_much_as_the_other(kind, other, test_maps, linear_posterior):
    entry = dict(next(e for e, _ in ENTRIES if e["kind"] == kind))
    name = CLASSES[type(ENTRY.validate_python(entry))].AMPLITUDE
    settings = ENTRY.validate_python(entry | {name: {"match": other}})
    assert ENTRY.validate_python(settings.model_dump()) == settings
    found = build_systematic(settings, linear_posterior, test_maps, 5)
    control = ENTRY.validate_python({"kind": "shuffled_pixels", "of": other})
    original = build_systematic(control, linear_posterior, test_maps, 5).of
    sizes = [
        np.mean((np.asarray(p(test_maps.maps, test_maps.labels)) - test_maps.maps) ** 2)
        for p in (found, original)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-4)


def test_the_sign_of_a_matched_amplitude(test_maps, linear_posterior):
    entry = {"kind": "beam", "mismatch": {"match": LOGISTIC, "sign": -1}, "fwhm": LENGTH}
    found = build_systematic(ENTRY.validate_python(entry), linear_posterior, test_maps, 5)
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
        build_systematic(ENTRY.validate_python(entry), linear_posterior, test_maps, 5)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"kind": "beam", "mismatch": 3, "fwhm": LENGTH}, "between -0.5 and 1, not 3"),
        ({"kind": "beam", "mismatch": 0, "fwhm": {"value": 60, "unit": "Mpc/h"}}, "not 60"),
        ({"kind": "beam", "mismatch": 0, "fwhm": {"value": 6, "unit": "deg"}}, "Mpc/h"),
        ({"kind": "beam", "mismatch": {"match": {"kind": "bim"}}, "fwhm": LENGTH}, "alpha: Field"),
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


def test_ranges_name_limits_and_units():
    assert cfg.ranges(cfg.Baryons) == {
        "amplitude": (-0.5, 0.5, ""),
        "scale": (0, 20, "Mpc/h"),
        "threshold": (0, 1e5, "count"),
    }


@pytest.mark.parametrize("section", CLASSES, ids=lambda section: section.__name__)
def test_plausible_amplitudes_are_possible(section):
    effect = CLASSES[section]
    low, high, _ = cfg.ranges(section).get(effect.AMPLITUDE, (*effect.LIMITS, ""))
    assert effect.LIMITS[0] <= low < high <= effect.LIMITS[1]


@pytest.mark.parametrize("section", CLASSES, ids=lambda section: section.__name__)
def test_the_page_shows_every_range(section):
    page = (Path(__file__).parents[2] / "docs" / "systematics.md").read_text()
    kind = get_args(section.model_fields["kind"].annotation)[0]
    table = page.split(f"| `{kind}` |")[1].split("| `")[0:2]
    rows = [[cell.strip() for cell in row.split("|")] for row in "".join(table).splitlines()]
    for name, (low, high, unit) in cfg.ranges(section).items():
        shown = [r[-3:-1] for r in rows if any(c.strip("*").startswith(name) for c in r)]
        assert [f"{low:.6g} to {high:.6g}", unit] in shown
