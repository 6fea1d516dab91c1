"""The Pareto front: monotone, no worse than starts from cold, and right where it is known."""

import numpy as np
import pytest

from spurious import config, figures
from spurious.pipeline.family_search import _bests
from spurious.search.families import build_families
from spurious.search.front import front
from spurious.search.objective import Objective
from spurious.search.refine import Path, refine
from spurious.search.result import Found, Result

HEIGHTS = [0.001, 0.02, 0.1]
LIMITS = {"power": 0.05, "mean_shift": 0.05}
STEPS = 8


@pytest.fixture(scope="module")
def objective(make_maps, linear_posterior):
    family = {"kind": "calibration", "knots": [0, 20, 60, 150, 400]}
    search = config.Search.model_validate({"fences": LIMITS, "families": {"one": family}})
    built = build_families(search)["one"]
    return Objective(make_maps(8, 16), linear_posterior, 128.0, built, fences=tuple(LIMITS))


@pytest.fixture(scope="module")
def starts():
    return np.random.default_rng(3).uniform(0.3, 0.7, size=(2, 4))


@pytest.fixture(scope="module")
def points(objective, starts):
    return front(objective, starts, "power", HEIGHTS[::-1], LIMITS, STEPS)


def test_the_front_never_falls_and_keeps_within_every_fence(points):
    assert [point.height for point in points] == HEIGHTS
    values = [point.value for point in points]
    assert values == sorted(values)
    assert values[-1] > 2 * values[0] > 0
    for point in points:
        assert point.feasible
        assert point.fence == "power"
        assert point.heights["power"] <= point.height
        assert point.heights["mean_shift"] <= LIMITS["mean_shift"]


def test_parameters_are_those_of_the_values(objective, points):
    for point in points:
        found = objective(objective.family.point(point.parameters))
        assert found.kl == pytest.approx(point.kl, rel=1e-3)
        assert found.fences["power"].height == pytest.approx(point.heights["power"], rel=1e-2)


def test_a_warm_start_is_never_worse_than_a_cold_one(objective, starts, points):
    for point in points:
        limits = LIMITS | {"power": point.height}
        for start in starts:
            path = Path(objective, objective.fences)
            refine(path, start, limits, STEPS)
            cold = path.best(limits).evaluation
            # The order of float32 sums may differ from call to call.
            assert not cold.is_feasible(limits) or cold.value <= point.value * (1 + 1e-4)


def test_a_front_that_is_known(linear_posterior, make_maps):
    """Stripes have KL = c h^2 at the height h of the RMS fence."""
    search = config.Search.model_validate(
        {"fences": {"rms": 1.0}, "families": {"one": {"kind": "stripes", "stripes": 4}}}
    )
    maps, family = make_maps(4, 16) + np.float32(30), build_families(search)["one"]
    objective = Objective(maps, linear_posterior, 128.0, family, fences=("rms",))
    found = front(objective, [np.array([0.6])], "rms", [0.5, 1.0, 2.0], {}, STEPS)
    np.testing.assert_allclose([one.value / found[0].value for one in found], [1, 4, 16], rtol=1e-2)


def test_a_front_begins_at_the_best_trials_that_lie_apart(objective):
    family = objective.family
    places = {0.5: 1.0, 0.55: 3.0, 0.7: 2.0, 0.9: 9.0}  # the last is infeasible

    def found(place, value):
        parameters = family.parameters(np.full(4, place))
        excess = 1.0 if value == 9.0 else -0.5
        return Found(
            0, 0, "refined", parameters, value, value, value, {}, excess, 0.0, excess <= 0, False
        )

    history = tuple(found(*one) for one in places.items())
    starts = _bests(family, Result("name", "one", LIMITS, history))
    np.testing.assert_allclose(starts, [[0.55] * 4, [0.7] * 4], atol=1e-6)
    (closest,) = _bests(family, Result("name", "one", LIMITS, history[3:]))
    np.testing.assert_allclose(closest, [0.9] * 4, atol=1e-6)
    assert _bests(family, Result("name", "one", LIMITS, ())) == []


def test_what_cannot_keep_within_a_fence_is_said_so(linear_posterior, make_maps):
    family = {"kind": "stripes", "stripes": 4, "amplitude": {"low": 2.0, "high": 9.0}}
    search = config.Search.model_validate({"fences": {"rms": 1.0}, "families": {"one": family}})
    built = build_families(search)["one"]
    maps = make_maps(4, 16) + np.float32(30)
    objective = Objective(maps, linear_posterior, 128.0, built, fences=("rms",))
    low, high = front(objective, [np.array([0.6])], "rms", [1.0, 4.0], {}, STEPS)
    assert (low.feasible, high.feasible) == (False, True)
    assert low.parameters["amplitude"] == pytest.approx(2.0, rel=1e-3)
    assert (low.at_bound, high.at_bound) == (("amplitude",), ())


def test_a_front_without_a_start_is_refused(objective):
    with pytest.raises(ValueError, match="at least one start"):
        front(objective, [], "power", HEIGHTS, LIMITS, STEPS)


def test_the_figure_shows_families_references_and_the_fence():
    curves = {"power": {"one": [(0.1, 3.0), (0.01, 1.0)], "none": []}, "cosmic": {"one": [(1, 2)]}}
    beside = {"power": {"keeps the norm": (0.02, 5.0), "phase only": (0.0, 2.5)}}
    figure = figures.fronts(curves, {"power": {"paper": (0.12, 0.4)}}, beside, {"power": 0.05})
    power, cosmic = figure.axes
    lines = {line.get_label(): line for line in power.get_lines()}
    np.testing.assert_allclose(lines["one"].get_xdata(), [1.0, 10.0])  # in per cent, in order
    np.testing.assert_allclose(lines["one"].get_ydata(), [1.0, 3.0])
    assert "none" not in lines
    assert list(lines["phase only"].get_ydata()) == [2.5, 2.5]
    reference = lines["keeps the norm"]
    np.testing.assert_allclose([reference.get_xdata()[0], reference.get_ydata()[0]], [2.0, 5.0])
    assert (reference.get_linestyle(), len(reference.get_xdata())) == ("None", 1)
    np.testing.assert_allclose(lines["fence of the search"].get_xdata(), 5.0)
    assert [line.get_xdata()[0] for line in cosmic.get_lines()] == [1.0]
    assert power.get_xscale() == "log"
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert not any("ceiling" in one for one in told)
