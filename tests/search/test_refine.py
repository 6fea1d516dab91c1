"""SLSQP inside the fence."""

import numpy as np
import pytest

from spurious.search.objective import Evaluation
from spurious.search.refine import Path, rank, refine

LIMIT = 0.05


def linear(point):
    """KL = (p0 + 2 p1 + p2)^2 under |0.2 p1| and |p0 - p2| <= limit: largest at p0 = p2 = 1."""
    direction = np.array([1.0, 2.0, 1.0])
    jacobian = np.array([[0.0, 0.2, 0.0], [1.0, 0.0, -1.0]])
    root = direction @ point
    return Evaluation(root**2, 2 * root * direction, jacobian @ point, jacobian, 0.0)


@pytest.mark.parametrize("start", [(0.1, 0.1, 0.1), (0.9, 0.9, 0.2)])
def test_reaches_a_known_optimum_and_stays_feasible(start):
    path = Path(linear)
    refine(path, np.array(start), LIMIT, steps=20)
    best = path.best(LIMIT)
    assert best.evaluation.max_change <= LIMIT
    # The margin holds p1 back by a thousandth of the limit, the tolerance by some more.
    np.testing.assert_allclose(best.point, [1.0, 0.25, 1.0], atol=2e-3)
    assert len(path.steps) < 20


def test_stays_in_the_cube_and_within_the_budget():
    path = Path(linear)
    refine(path, np.array([2.0, -1.0, 0.5]), LIMIT, steps=2)
    points = np.array([step.point for step in path.steps])
    assert points.min() >= 0
    assert points.max() <= 1
    assert len(points) <= 12


def test_each_point_is_evaluated_once_and_a_known_start_not_at_all():
    calls = []

    def counted(point):
        calls.append(tuple(point))
        return linear(point)

    path = Path(counted)
    path(np.full(3, 0.1))
    refine(path, np.full(3, 0.1), LIMIT, steps=5)
    assert len(set(calls)) == len(calls) == len(path.steps)


def test_nothing_feasible_gives_the_nearest():
    def fenced_out(point):
        return linear(point)._replace(change=np.array([0.2 + point[0], -0.1]))

    path = Path(fenced_out)
    for x in (0.5, 0.1, 0.3):
        path(np.array([x, 0.0, 0.0]))
    best = path.best(LIMIT)
    assert best.point[0] == 0.1
    assert best.evaluation.max_change > LIMIT


def test_ranking():
    good = Evaluation(1.0, np.zeros(3), np.array([0.04, -0.05]), np.zeros((2, 3)), 0.0)
    strong = good._replace(kl=9.0, change=np.array([0.04, -0.06]))
    broken = good._replace(kl=np.nan)
    worse = strong._replace(change=np.array([0.2, 0.0]))
    ordered = sorted([good, broken, strong, worse], key=lambda e: rank(e, LIMIT), reverse=True)
    assert [id(e) for e in ordered] == [id(e) for e in (good, strong, worse, broken)]


def test_no_change_at_all_has_a_finite_gradient():
    flat = Evaluation(-1e-9, np.zeros(3), np.zeros(2), np.zeros((2, 3)), 0.0)
    path = Path(lambda point: flat)
    refine(path, np.full(3, 0.5), LIMIT, steps=3)
    assert path.best(LIMIT).evaluation.kl == -1e-9
