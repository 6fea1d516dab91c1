"""Climbs within the fences, on problems whose answer is known."""

import numpy as np
import pytest

from spurious import config
from spurious.search.families import build_families
from spurious.search.fences import FenceValue
from spurious.search.objective import Evaluation, Objective
from spurious.search.projection import nearest_within, room
from spurious.search.refine import Path, rank, refine

LIMITS = {"power": 0.05, "rms": 2.0}
SLOPES = np.array([[0.0, 0.2, 0.0], [1.0, 0.0, -1.0]])


def fences(point):
    """|0.2 p1| and |p0 - p2| in `power`, p0 + p1 + p2 in `rms`."""
    point = np.asarray(point)
    return {
        "power": FenceValue.of(SLOPES @ point, SLOPES),
        "rms": FenceValue.of(np.array([point.sum()]), np.ones((1, 3))),
    }


def linear(point):
    """Value (p0 + 2 p1 + p2)^2: in the first fence alone, largest at (1, 0.25, 1)."""
    direction = np.array([1.0, 2.0, 1.0])
    root = direction @ point
    return Evaluation(root**2, 2 * root * direction, root**2, fences(point), 0.0)


@pytest.mark.parametrize("start", [(0.1, 0.1, 0.1), (0.9, 0.9, 0.2)])
def test_reaches_a_known_optimum_and_stays_feasible(start):
    path, limits = Path(linear, fences), {"power": 0.05}
    refine(path, np.array(start), limits, steps=20)
    best = path.best(limits)
    assert best.evaluation.is_feasible(limits)
    # The margin holds p1 back by a thousandth of the limit, the tolerance by some more.
    np.testing.assert_allclose(best.point, [1.0, 0.25, 1.0], atol=2e-3)
    assert len(path.steps) < 20


def test_a_second_fence_moves_the_optimum_to_where_both_are_met():
    """With p0 + p1 + p2 <= 2 as well: p1 = 0.25 still, and the rest is shared."""
    path = Path(linear, fences)
    refine(path, np.full(3, 0.1), LIMITS, steps=20)
    best = path.best(LIMITS)
    assert best.evaluation.is_feasible(LIMITS)
    assert best.point[1] == pytest.approx(0.25, abs=2e-3)
    assert best.point.sum() == pytest.approx(2.0, abs=5e-3)
    assert best.evaluation.value == pytest.approx(2.25**2, rel=5e-3)


def test_a_goal_that_is_not_quadratic_is_climbed_as_it_is():
    """It is negative at first, where a root would be flat."""

    def shift(point):
        direction = np.array([1.0, 2.0, 1.0])
        return Evaluation(direction @ point - 3, direction, 0.0, fences(point), 0.0, 0.0, False)

    path = Path(shift, fences)
    refine(path, np.full(3, 0.1), {"power": 0.05}, steps=20)
    np.testing.assert_allclose(path.best({"power": 0.05}).point, [1, 0.25, 1], atol=2e-3)


def test_the_linear_gaussian_optimum_is_in_closed_form(linear_posterior, make_maps):
    """Stripes of amplitude A move the mean by A u: KL = A^2 c, and the RMS fence is |A| itself."""
    search = config.Search.model_validate(
        {"fences": {"rms": 1.5}, "families": {"one": {"kind": "stripes", "stripes": 4}}}
    )
    maps, family = make_maps(6, 16) + np.float32(30), build_families(search, 128.0, seed=1)["one"]
    objective = Objective(maps, linear_posterior, 128.0, family, fences=("rms",))
    path = Path(objective, objective.fences)
    refine(path, np.array([0.52]), {"rms": 1.5}, steps=10)
    best = path.best({"rms": 1.5})
    pattern = family.effect([0.55])(maps).numpy()[0].astype(np.float64) - maps[0]
    shift = np.einsum("pij,ij->p", linear_posterior.weights, pattern / pattern.std())
    wanted = 0.5 * np.sum((1.5 * shift / linear_posterior.scale) ** 2)
    assert abs(family.parameters(best.point)["amplitude"]) == pytest.approx(1.5, rel=2e-3)
    assert best.evaluation.value == pytest.approx(wanted, rel=5e-3)


def test_stays_in_the_cube_and_within_the_budget():
    path = Path(linear, fences)
    refine(path, np.array([2.0, -1.0, 0.5]), {"power": 0.05}, steps=2)
    points = np.array([step.point for step in path.steps])
    assert points.min() >= 0
    assert points.max() <= 1
    assert len(points) <= 3


def test_each_point_is_evaluated_once_and_a_known_start_not_at_all():
    calls = []

    def counted(point):
        calls.append(tuple(point))
        return linear(point)

    path = Path(counted, fences)
    path(np.full(3, 0.1))
    refine(path, np.full(3, 0.1), LIMITS, steps=5)
    assert len(set(calls)) == len(calls) == len(path.steps)


def test_a_start_outside_is_moved_within_before_it_is_evaluated():
    path = Path(linear, fences)
    refine(path, np.array([0.9, 0.9, 0.1]), {"power": 0.05}, steps=0)
    assert len(path.steps) == 1
    assert path.steps[0].evaluation.is_feasible({"power": 0.05})


def test_a_fence_that_bends_is_followed_and_never_left():
    """On the unit sphere, (p0 + 2 p1 + p2)^2 is largest at (1, 2, 1) / sqrt(6), where it is 6."""

    def ball(point):
        return {"rms": FenceValue.of(np.array([point @ point]), 2 * np.asarray(point)[None])}

    limits = {"rms": 1.0}
    path = Path(lambda point: linear(point)._replace(fences=ball(point)), ball)
    refine(path, np.array([0.9, 0.1, 0.1]), limits, steps=20)
    assert all(step.evaluation.is_feasible(limits) for step in path.steps)
    best = path.best(limits)
    np.testing.assert_allclose(best.point, np.array([1, 2, 1]) / np.sqrt(6), atol=0.04)
    assert best.evaluation.value == pytest.approx(6, rel=2e-3)


def test_every_gain_is_told_and_nothing_else():
    seen = []
    path = Path(linear, fences)
    refine(path, np.full(3, 0.1), LIMITS, 20, lambda number, step: seen.append((number, step)))
    numbers, steps = zip(*seen, strict=True)
    assert list(numbers) == list(range(len(seen)))
    values = [step.evaluation.value for step in steps]
    assert values == sorted(values)
    assert values[-1] == path.best(LIMITS).evaluation.value


def test_the_nearest_point_within_is_the_projection():
    found = nearest_within(fences, np.array([0.9, 0.8, 0.3]), {"power": 0.05})
    # p1 falls to its bound; p0 and p2 meet half way, but for 0.05.
    np.testing.assert_allclose(found, [0.625, 0.25, 0.575], atol=1e-3)
    inside = np.array([0.5, 0.1, 0.5])
    np.testing.assert_array_equal(nearest_within(fences, inside, {"power": 0.05}), inside)


def test_on_step_sees_every_step_and_can_end_the_climb():
    seen = []

    def stop(number, step):
        seen.append((number, step.evaluation.value))
        return number == 2

    path = Path(linear, fences)
    refine(path, np.array([0.1, 0.05, 0.1]), {"power": 0.05}, steps=20, on_step=stop)
    assert [number for number, _ in seen] == [0, 1, 2]
    assert seen[0][1] == pytest.approx(0.3**2)
    assert seen[-1][1] == path.steps[-1].evaluation.value


@pytest.mark.parametrize("broken", ["value", "kl", "gradient", "fence"])
def test_a_point_that_is_not_finite_is_avoided(broken):
    """Beyond p0 = 0.5 nothing is defined: the climb ends before it, and never reports it."""

    def partly(point):
        found = linear(point)
        if point[0] <= 0.5:
            return found
        if broken == "fence":
            undefined = found.fences["power"]._replace(values=np.full(2, np.nan), height=np.nan)
            return found._replace(fences={**found.fences, "power": undefined})
        bad = np.full(3, np.inf) if broken == "gradient" else np.nan
        return found._replace(**{broken: bad})

    path, limits = Path(partly, lambda point: partly(point).fences), {"power": 0.05}
    refine(path, np.array([0.3, 0.1, 0.3]), limits, steps=20)
    best = path.best(limits)
    assert best.evaluation.is_feasible(limits)
    assert best.evaluation.value > linear(np.array([0.3, 0.1, 0.3])).value
    # An undefined fence is seen without the network, and is never shown to it.
    assert any(not step.evaluation.is_finite for step in path.steps) == (broken != "fence")


def test_a_start_that_is_not_finite_ends_at_once():
    path = Path(lambda point: linear(point)._replace(value=np.nan), fences)
    refine(path, np.full(3, 0.1), LIMITS, steps=5)
    assert len(path.steps) == 1
    assert not path.best(LIMITS).evaluation.is_feasible(LIMITS)


def test_nothing_feasible_gives_the_nearest():
    def fenced_out(point):
        values = np.array([0.2 + point[0], -0.1])
        return linear(point)._replace(fences={"power": FenceValue.of(values, SLOPES)})

    path = Path(fenced_out, fences)
    for x in (0.5, 0.1, 0.3):
        path(np.array([x, 0.0, 0.0]))
    best = path.best({"power": 0.05})
    assert best.point[0] == 0.1
    assert not best.evaluation.is_feasible({"power": 0.05})


def test_ranking():
    def made(value, power, rms=0.0):
        values = {"power": power, "rms": rms}
        found = {n: FenceValue.of(np.array([v]), np.zeros((1, 3))) for n, v in values.items()}
        return Evaluation(value, np.zeros(3), value, found, 0.0)

    good, strong = made(1.0, 0.05), made(9.0, -0.06)
    broken, worse, other = made(np.nan, 0.0), made(9.0, 0.2), made(9.0, 0.01, rms=3.0)
    ordered = sorted([good, broken, strong, worse, other], key=lambda e: rank(e, LIMITS))
    assert [id(e) for e in ordered] == [id(e) for e in (broken, worse, other, strong, good)]


def test_no_change_at_all_has_a_finite_gradient():
    flat = {"power": FenceValue.of(np.zeros(2), np.zeros((2, 3)))}
    path = Path(lambda point: Evaluation(-1e-9, np.zeros(3), -1e-9, flat, 0.0), lambda point: flat)
    refine(path, np.full(3, 0.5), {"power": 0.05}, steps=3)
    assert path.best({"power": 0.05}).evaluation.value == -1e-9


def test_the_margin_of_a_low_fence_is_what_rounding_may_move():
    """The tolerance of `power` is 1e-5: a hundredth of this limit."""
    found = {"power": FenceValue.of(np.array([0.0, -9e-4]), None)}
    np.testing.assert_allclose(room(found, {"power": 1e-3}), [0.99, 1.89, 0.99, 0.09])
    np.testing.assert_allclose(room(found, {"power": 1.0}), np.array([1, 1.0009, 1, 0.9991]) - 2e-4)
