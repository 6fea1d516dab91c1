"""Points of a cube and the systematics that they stand for."""

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from spurious import config
from spurious.perturbations.systematics import Calibration, Logistic
from spurious.search.families import Coordinate, build_families

PAPER = Logistic.KNOWN[0]

KINDS = (
    "logistic",
    "calibration",
    "saturation",
    "gain_drift",
    "stripes",
    "masked",
    "beam",
    "baryons",
    "correlated_noise",
)
EVERYTHING = {
    "saturation": {"sharpness": 4.0},
    "beam": {"fwhm": {"low": 1.0, "high": 8.0}},
    "baryons": {"threshold": {"low": 0.0, "high": 500.0}},
}


def families(**given):
    given = {name: {"kind": name} | more for name, more in given.items()}
    search = config.Search.model_validate({"fences": {"power": 0.05}, "families": given})
    return build_families(search, box_size=128.0, seed=3)


ALL = families(**{kind: EVERYTHING.get(kind, {}) for kind in KINDS})


@pytest.mark.parametrize("name", KINDS)
def test_points_parameters_and_coordinates_are_inverse(name):
    family = ALL[name]
    point = np.random.default_rng(1).uniform(size=family.dimension)
    np.testing.assert_allclose(family.point(family.parameters(point)), point, atol=1e-12)
    np.testing.assert_allclose(
        family.from_coordinates(family.coordinate_values(point)), point, atol=1e-12
    )
    assert list(family.coordinate_values(point)) == [one.name for one in family.coordinates]
    assert len(family.parameters(point)) == family.dimension  # what is fixed is not reported


@pytest.mark.parametrize("name", KINDS)
def test_corners_of_the_cube_are_the_bounds(name):
    family = ALL[name]
    for place, end in ((0.0, "low"), (1.0, "high")):
        values = family.coordinate_values(np.full(family.dimension, place))
        for one in family.coordinates:
            assert values[one.name] == pytest.approx(getattr(one, end), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_a_tensor_gives_the_same_maps_as_numbers(name, make_maps):
    family, maps = ALL[name], make_maps(2, 16).astype(np.float64)
    point = np.random.default_rng(2).uniform(0.2, 0.8, family.dimension)
    numbers = family.effect(point)(maps).numpy()
    assert np.abs(numbers - maps).max() > 1e-3
    np.testing.assert_allclose(family.effect(tf.constant(point))(maps).numpy(), numbers, rtol=1e-9)


def test_the_logistic_is_the_papers_formula(make_maps):
    family, maps = ALL["logistic"], make_maps(2, 16).astype(np.float64)
    for a, b, beta in ((0.25, -15.0, 3.0), (0.05, -10.0, -7.0)):
        effect = family.effect(family.point({"a": a, "b": b, "beta": beta}))
        expected = np.maximum(maps + beta / (1 + np.exp(a * maps + b)), 0)
        np.testing.assert_allclose(effect(maps).numpy(), expected, rtol=1e-10)


def test_the_logistic_starts_at_the_papers_and_switches_where_it_says():
    family = ALL["logistic"]
    assert family.known == (PAPER,) == ({"a": 0.25, "b": -15.0, "beta": 3.0},)
    point = family.point(PAPER)
    assert family.coordinate_values(point)["transition"] == pytest.approx(60.0)
    steeper = point + np.array([0.3, 0, 0])
    found = family.parameters(steeper)
    assert found["a"] > 0.25
    assert -found["b"] / found["a"] == pytest.approx(60.0)


def test_a_parameter_that_stands_for_another_may_be_fixed():
    family = families(logistic={"transition": 60.0})["logistic"]
    assert [one.name for one in family.coordinates] == ["a", "beta"]
    point = np.array([0.3, 0.8])
    effect = family.effect(point)
    assert -effect.b / effect.a == pytest.approx(60.0)
    assert family.parameters(point) == {"a": effect.a, "b": effect.b, "beta": effect.beta}
    np.testing.assert_allclose(family.point(family.parameters(point)), point)


def test_coordinates_have_the_scale_that_they_say():
    log, asinh = (Coordinate("x", 0.1, 10.0, s, "count") for s in ("log", "asinh"))
    assert log.at(0.5) == pytest.approx(1.0)
    assert asinh.at(0.5) == pytest.approx(np.sinh((np.arcsinh(0.1) + np.arcsinh(10.0)) / 2))
    assert Coordinate("x", -1.0, 3.0, "linear", "").at(0.25) == 0.0


def test_widths_turn_gradients_into_those_by_the_scaled_parameters():
    family = ALL["logistic"]
    low, high = (family.coordinate_values(np.full(3, place)) for place in (0.0, 1.0))
    expected = [
        np.log(high["a"] / low["a"]),
        np.log(high["transition"] / low["transition"]),
        np.arcsinh(high["beta"]) - np.arcsinh(low["beta"]),
    ]
    np.testing.assert_allclose(family.widths, expected)


def test_what_lies_on_an_end_of_its_range_is_named():
    family = ALL["logistic"]
    assert family.at_bound(np.array([0.0, 0.5, 1.0])) == ["a", "beta"]
    assert family.at_bound(np.array([0.002, 0.9995, 0.998])) == ["transition"]
    # Through the reported parameters, which are not the coordinates.
    point = family.point(family.parameters(np.array([1.0, 0.3, 0.5])))
    assert family.at_bound(point) == ["a"]


def test_scaled_coordinates_give_the_systematic_of_the_point(make_maps):
    family, maps = ALL["logistic"], make_maps(2, 16).astype(np.float64)
    point = np.array([0.7, 0.4, 0.2])
    scaled = family.scaled(point)
    values = family.coordinate_values(point)
    np.testing.assert_allclose(
        scaled, [np.log(values["a"]), np.log(values["transition"]), np.arcsinh(values["beta"])]
    )
    np.testing.assert_allclose(
        family.scaled_effect(tf.constant(scaled))(maps), family.effect(point)(maps), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("logistic", {}, {"a": (0.001, 20.0), "transition": (0.5, 4000.0), "beta": (-300, 300)}),
        ("calibration", {"log_slopes": {"low": -0.3, "high": 0.05}}, {"log_slopes": (-1, 0.5)}),
        ("saturation", {"sharpness": 4.0}, {"strength": (1e-4, 1), "threshold": (1, 20000)}),
        ("beam", {}, {"mismatch": (-0.5, 1.0)}),
        ("correlated_noise", {}, {"rms": (0, 200), "index": (-4, 2)}),
        ("stripes", {"amplitude": {"low": 2, "high": 9}}, {"amplitude": (0.2, 90)}),
        ("stripes", {"amplitude": {"low": -9, "high": -2}}, {"amplitude": (-90, -0.2)}),
    ],
)
def test_wider_ranges_reach_ten_times_as_far_as_is_plausible(name, given, wanted):
    search = config.Search.model_validate(
        {"fences": {"power": 0.05}, "families": {name: {"kind": name} | given}}
    )
    wide = search.families[name].widened(10)
    for key, bounds in wanted.items():
        assert (wide.free[key].low, wide.free[key].high) == pytest.approx(bounds), key
    assert type(wide).model_validate(wide.model_dump()) == wide


def test_the_calibration_has_at_least_six_slopes_in_order(make_maps):
    family = ALL["calibration"]
    assert family.dimension >= 6
    values = {one.name: 0.1 * i for i, one in enumerate(family.coordinates)}
    effect = family.effect(family.from_coordinates(values))
    assert isinstance(effect, Calibration)
    np.testing.assert_allclose(effect.log_slopes, list(values.values()), atol=1e-12)
    assert effect.amplitude == 1


def test_fixed_parameters_stay_and_draws_follow_the_seed(make_maps):
    maps = make_maps(2, 16)
    assert ALL["saturation"].effect(np.array([0.5, 0.5])).sharpness == 4.0
    assert [one.name for one in ALL["saturation"].coordinates] == ["strength", "threshold"]
    assert ALL["beam"].effect(np.array([0.5, 0.5])).box_size == 128.0
    same, again = (families(stripes={})["stripes"].effect([0.9])(maps).numpy() for _ in range(2))
    np.testing.assert_array_equal(same, again)
    search = config.Search.model_validate(
        {"fences": {"power": 0.05}, "families": {"stripes": {"kind": "stripes"}}}
    )
    other = build_families(search, 128.0, seed=4)["stripes"].effect([0.9])(maps).numpy()
    assert np.abs(other - same).max() > 1


def test_one_family_twice_under_two_names():
    low, high = {"low": 0.01, "high": 0.1}, {"low": 0.1, "high": 2.0}
    search = config.Search.model_validate(
        {
            "fences": {"power": 0.05},
            "families": {
                "smooth": {"kind": "logistic", "a": low},
                "steep": {"kind": "logistic", "a": high},
            },
        }
    )
    built = build_families(search)
    assert [family.name for family in built.values()] == ["smooth", "steep"]
    assert isinstance(built["steep"].effect(np.zeros(3)), Logistic)
    assert built["steep"].parameters(np.zeros(3))["a"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ({"kind": "logistic", "a": {"low": 0.0, "high": 1.0}}, r"a\.low = 0\.0 must be greater"),
        ({"kind": "logistic", "beta": {"low": 3, "high": -3}}, "low = 3.0 must be less"),
        ({"kind": "logistic", "a": 0.2, "transition": 60, "beta": 3}, "no parameter is free"),
        ({"kind": "logistic", "b": -15.0}, "unknown key, must be one of kind, a, transition, beta"),
        ({"kind": "saturation", "strength": {"low": 0.5, "high": 1.5}}, "between 0 and 1"),
        ({"kind": "saturation", "strength": 0.1, "threshold": 50, "sharpness": 4}, "no parameter"),
        ({"kind": "calibration", "log_slopes": {"low": -3, "high": 1}}, "between -1 and 1"),
        ({"kind": "calibration", "knots": [0, 50, 20]}, "must increase from 0"),
        ({"kind": "masked", "fraction": 0.9}, "must be between 0 and 0.5, not 0.9"),
        ({"kind": "correlated_noise", "rms": {"low": -1, "high": 1}}, "at least 0"),
        ({"kind": "beam", "width": 3}, "unknown key"),
        ({"kind": "weather"}, "must be one of 'logistic', 'calibration'.*, or the import path"),
        ({"kind": "bim"}, "must be one of 'logistic', 'calibration'"),
        ({"kind": ["bim"]}, "must be one of 'logistic', 'calibration'"),
        ("logistic", "must be a mapping with a kind, which must be one of 'logistic'"),
    ],
)
def test_families_that_cannot_be_are_refused(family, message):
    given = {"fences": {"power": 0.05}, "families": {"one": family}}
    with pytest.raises(ValidationError, match=message):
        config.Search.model_validate(given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fences": {}}, "at least one of power, cosmic, chi2"),
        ({"fences": {"power": 0}}, "must be between 0.0001 and 10, not 0"),
        ({"fences": {"entropy": 1}}, "unknown key, must be one of power"),
        ({"families": {}}, "at least 1 item"),
        ({"goal": "nll"}, "must be one of 'kl', 'kl_symmetrised'.*, or a section of kind 'shift'"),
        ({"goal": {"kind": "entropy"}}, "must be one of 'kl', 'kl_symmetrised'.*, or a section"),
        ({"goal": {"kind": "shift", "direction": {"omega_m": 0}}}, "component that is not 0"),
        ({"front": {"power": [0.1, 0.01]}}, r"power: \[0\.1, 0\.01\] must increase"),
    ],
)
def test_searches_that_cannot_be_are_refused(changes, message):
    given = {"fences": {"power": 0.05}, "families": {"one": {"kind": "logistic"}}} | changes
    with pytest.raises(ValidationError, match=message):
        config.Search.model_validate(given)
