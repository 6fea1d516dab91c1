"""Goals and fences of the search: independent numbers, and central differences in double."""

from typing import Annotated

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter
from slow import slow_but

from spurious import config, damage
from spurious.densities.divergences import mixture
from spurious.description.lookup import OneOf
from spurious.description.section import Entry
from spurious.perturbations.objectives import ShiftS8
from spurious.perturbations.response import Logistic
from spurious.search.families import build_families
from spurious.search.fences import FENCES
from spurious.search.goals import (
    FractionMoved,
    MeanKL,
    MeanShift,
    MeanShiftS8,
    SymmetrisedKL,
    build_goal,
)
from spurious.search.objective import Evaluation, Objective
from spurious.search.observed import Observed

BOX = 128.0
GOAL = TypeAdapter(Annotated[str | Entry, OneOf("goal", names=True)])
PAPER = Logistic.KNOWN[0]
NAMES = ("omega_m", "sigma_8")
FAMILIES = build_families(
    config.Search.model_validate(
        {
            "fences": {"power": 0.05},
            "families": {
                "calibration": {"kind": "calibration", "knots": [0, 20, 60, 150, 400]},
                **{kind: {"kind": kind} for kind in ("logistic", "beam", "baryons")},
            },
        }
    ),
    BOX,
)
POINTS = {
    "logistic": [FAMILIES["logistic"].point(PAPER), np.array([0.3, 0.4, 0.2])],
    "calibration": [np.array([0.6, 0.45, 0.55, 0.4])],
    "beam": [np.array([0.4])],
    "baryons": [np.array([0.7, 0.2])],
}
CASES = [(name, point) for name, points in POINTS.items() for point in points]
COUNT, CONFIDENCE = 20, 0.9
FENCED = {name: [f for f in FENCES if f != "scattering"] for name in POINTS}
FENCED["beam"] = list(FENCES)  # it takes long to build that one's program
GROUPS = np.arange(COUNT) // 2  # two maps of each simulation
LABELS = np.random.default_rng(7).uniform(size=(COUNT, 2))
GOALS = {
    "kl": MeanKL(),
    "symmetrised": SymmetrisedKL(),
    "s8": MeanShiftS8(-1, NAMES),
    "shift": MeanShift({"omega_m": 1.0, "sigma_8": -2.0}),
    "fraction": FractionMoved(0.3),
}


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(COUNT, 16)


@pytest.fixture(scope="module")
def objectives(maps, linear_posterior):
    return {
        name: Objective(
            maps,
            linear_posterior,
            BOX,
            family,
            fences=FENCED[name],
            confidence=CONFIDENCE,
            groups=GROUPS,
            labels=LABELS,
        )
        for name, family in FAMILIES.items()
    }


@pytest.fixture(scope="module")
def logistic(maps, linear_posterior, breathing_posterior):
    """Objectives of the logistic by goal and posterior; each compiles once for all tests."""
    posteriors = {"linear": linear_posterior, "breathing": breathing_posterior}

    known = {}

    def made(goal, posterior="linear"):
        key = repr(goal), posterior  # a direction is a mapping, which no cache takes
        if key not in known:
            family = FAMILIES["logistic"]
            known[key] = Objective(maps, posteriors[posterior], BOX, family, goal)
        return known[key]

    return made


def in_double(family, point, maps, posterior):
    """Mean KL of the linear-Gaussian posterior, and the fences' values, in double precision."""
    density = maps.astype(np.float64)
    perturbed = family.effect(point)(density).numpy()
    shift = (posterior.means(perturbed) - posterior.means(density)) / posterior.scale
    before = Observed(tf.constant(density), BOX, GROUPS, LABELS)
    after = Observed(tf.constant(perturbed), BOX)
    names = FENCED[family.name]
    each = 1 - (1 - CONFIDENCE) / len(names)  # so that all of them hold with the confidence
    fences = {name: FENCES[name].values(after, before, each).numpy() for name in names}
    return 0.5 * np.sum(shift**2, axis=1).mean(), fences


@pytest.mark.parametrize(("name", "point"), [CASES[0], *slow_but((), CASES[1:])])
def test_gradients_match_central_differences(name, point, objectives, maps, linear_posterior):
    """Goal and every fence, by every coordinate: a swapped axis or a sign would show."""
    found, family, step = objectives[name](point), FAMILIES[name], 1e-5
    for i in range(family.dimension):
        along = step * np.eye(family.dimension)[i]
        (kl_up, up), (kl_down, down) = (
            in_double(family, at, maps, linear_posterior) for at in (point + along, point - along)
        )
        wanted = (kl_up - kl_down) / (2 * step)
        assert found.gradient[i] == pytest.approx(wanted, rel=1e-3, abs=1e-4 * found.kl)
        for fence, value in found.fences.items():
            column = (up[fence] - down[fence]) / (2 * step)
            near = 3e-4 * np.abs(value.jacobian).max() + FENCES[fence].tolerance
            np.testing.assert_allclose(value.jacobian[:, i], column, rtol=2e-3, atol=near)
            worst = np.abs(value.values).argmax()
            assert value.gradient[i] == pytest.approx(
                np.sign(value.values[worst]) * column[worst], rel=2e-3, abs=near
            )


@pytest.mark.parametrize(("name", "point"), CASES)
def test_values_match_those_in_double(name, point, objectives, maps, linear_posterior):
    found = objectives[name](point)
    kl, fences = in_double(FAMILIES[name], point, maps, linear_posterior)
    assert found.value == found.kl == found.reported == pytest.approx(kl, rel=1e-4)
    for fence, values in fences.items():
        scale = 1 + abs(values).max() if fence.endswith("chi2") else 1
        error = np.abs(found.fences[fence].values - values).max()
        assert error < FENCES[fence].tolerance * scale
    unclipped = FAMILIES[name].effect(point).unclipped(maps).numpy()
    assert found.least_density == pytest.approx(unclipped.min(), abs=1e-4)


def test_the_second_logistic_is_clipped(objectives):
    assert objectives["logistic"](POINTS["logistic"][1]).least_density < -1


@pytest.mark.parametrize("name", GOALS)
def test_goals_match_independent_numbers(name, maps, breathing_posterior, logistic):
    """On a posterior whose width changes, so that a KL the wrong way round would show."""
    family, point = FAMILIES["logistic"], POINTS["logistic"][0]
    found = logistic(GOALS[name], "breathing")(point)
    perturbed = family.effect(point)(maps).numpy()
    measured = damage.measure(maps, perturbed, breathing_posterior, BOX)
    clean, after = (breathing_posterior(x) for x in (maps, perturbed))
    moved = after.mean().numpy() - clean.mean().numpy()
    covariance = clean.covariance().numpy()
    direction = np.array([1.0, -2.0])
    along = np.einsum("i,bij,j->b", direction, covariance, direction)
    distance = np.sqrt(np.einsum("bi,bij,bj->b", moved, np.linalg.inv(covariance), moved))
    wanted = {
        "kl": measured.kl_perturbed_clean.mean(),
        "symmetrised": measured.kl_symmetrised.mean(),
        "s8": -ShiftS8(1.0, NAMES).shift(after, clean).numpy().mean(),
        "shift": (moved @ direction / np.sqrt(along)).mean(),
        "fraction": np.mean(distance > 0.3),
    }[name]
    assert found.reported == pytest.approx(wanted, rel=1e-4)
    assert found.kl == pytest.approx(measured.kl_perturbed_clean.mean(), rel=1e-4)
    if name == "kl":
        reverse = measured.kl_clean_perturbed.mean()
        assert abs(reverse / found.kl - 1) > 0.02


def test_the_smoothed_fraction_is_a_sigmoid_of_the_distance(maps, linear_posterior, logistic):
    family, point = FAMILIES["logistic"], POINTS["logistic"][0]
    found = logistic(GOALS["fraction"])(point)
    perturbed = family.effect(point)(maps).numpy()
    shift = (linear_posterior.means(perturbed) - linear_posterior.means(maps)) / (
        linear_posterior.scale
    )
    distance = np.sqrt(np.sum(shift**2, axis=1))
    assert found.value == pytest.approx(
        np.mean(1 / (1 + np.exp(-(distance - 0.3) / 0.5))), rel=1e-4
    )
    assert 0 < found.reported < 1
    assert found.value != found.reported


@pytest.mark.parametrize("name", GOALS)
def test_gradients_of_goals_match_central_differences(name, maps, breathing_posterior, logistic):
    family, goal = FAMILIES["logistic"], GOALS[name]
    point, step, density = POINTS["logistic"][0], 1e-5, maps.astype(np.float64)
    found = logistic(goal, "breathing")(point)

    def value(at):
        perturbed = breathing_posterior(family.effect(at)(density))
        return float(goal(perturbed, breathing_posterior(density)))

    for i in range(3):
        up, down = (value(point + s * step * np.eye(3)[i]) for s in (1, -1))
        wanted = (up - down) / (2 * step)
        assert found.gradient[i] == pytest.approx(wanted, rel=2e-3, abs=1e-4 * abs(found.value))


def test_shifts_have_the_sign_that_was_asked_for(logistic):
    point = POINTS["logistic"][0]
    more, less = (logistic(MeanShiftS8(sign, NAMES))(point) for sign in (1, -1))
    assert more.value == pytest.approx(-less.value)
    assert not more.quadratic
    np.testing.assert_allclose(more.gradient, -less.gradient, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "goal"),
    [
        ("kl", MeanKL()),
        ("kl_symmetrised", SymmetrisedKL()),
        ({"kind": "shift_s8", "sign": -1}, MeanShiftS8(-1, NAMES)),
        ({"kind": "shift", "direction": {"sigma_8": 2.0}}, MeanShift({"sigma_8": 2.0}, NAMES)),
        ({"kind": "fraction_moved"}, FractionMoved(2.0)),
    ],
)
def test_goals_are_built_from_their_settings(settings, goal):
    assert build_goal(GOAL.validate_python(settings), NAMES) == goal


def test_goals_that_need_another_parameter_say_which():
    with pytest.raises(ValueError, match=r"direction\.h must be one of omega_m, sigma_8"):
        build_goal(GOAL.validate_python({"kind": "shift", "direction": {"h": 1.0}}), NAMES)
    with pytest.raises(ValueError, match="needs omega_m and sigma_8"):
        build_goal(GOAL.validate_python({"kind": "shift_s8"}), ("omega_m", "h"))


def test_values_alone_and_fences_alone_are_the_same_numbers(objectives):
    objective, point = objectives["baryons"], POINTS["baryons"][0]
    found, values, fences = objective(point), objective.value_only(point), objective.fences(point)
    assert values.gradient is None
    assert values.value == pytest.approx(found.value, rel=1e-5)
    for name, fence in found.fences.items():
        assert values.fences[name].jacobian is None
        np.testing.assert_allclose(values.fences[name].values, fence.values, atol=2e-6)
        np.testing.assert_allclose(fences[name].jacobian, fence.jacobian, rtol=1e-4, atol=1e-5)


def test_of_several_posteriors_the_mean_is_climbed(
    maps, linear_posterior, breathing_posterior, logistic
):
    """Goal, gradient, KL and what is told: means over both; each KL stays to be seen."""
    both = (linear_posterior, breathing_posterior)
    family, point = FAMILIES["logistic"], POINTS["logistic"][0]
    for goal in (MeanKL(), FractionMoved(0.3)):
        one, other = (logistic(goal, name)(point) for name in ("linear", "breathing"))
        objective = Objective(maps, both, BOX, family, goal)
        found, value = objective(point), objective.value_only(point)
        assert found.kls == pytest.approx((one.kl, other.kl), rel=1e-5)
        assert one.kl < 0.98 * other.kl
        for name in ("value", "kl", "reported"):
            wanted = (getattr(one, name) + getattr(other, name)) / 2
            assert getattr(found, name) == pytest.approx(wanted, rel=1e-5)
            assert getattr(value, name) == pytest.approx(wanted, rel=1e-5)
        gradient = (one.gradient + other.gradient) / 2
        np.testing.assert_allclose(found.gradient, gradient, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            found.fences["power"].jacobian, one.fences["power"].jacobian, rtol=1e-4, atol=1e-6
        )
        assert objective.work == 2 * 4
    with pytest.raises(ValueError, match="at least one posterior"):
        Objective(maps, (), BOX, family)


def test_in_another_cube_the_same_systematic_has_the_same_numbers(objectives):
    """Bounds move the points and scale the gradients, and nothing else."""
    narrow = FAMILIES["logistic"]
    wide = build_families(
        config.Search.model_validate(
            {
                "fences": {"power": 0.05},
                "families": {"wide": {"kind": "logistic", "beta": {"low": -300, "high": 100}}},
            }
        ),
        BOX,
    )["wide"]
    objective = objectives["logistic"]
    before, other = objective.work, objective.of(wide)
    here = objective(POINTS["logistic"][0])
    there = other(wide.point(PAPER))
    assert (objective.work, other.work) == (before + 3, 3)
    assert there.value == pytest.approx(here.value, rel=1e-4)
    share = narrow.widths / wide.widths
    assert share[2] < 0.8
    np.testing.assert_allclose(here.gradient, there.gradient * share, rtol=1e-3, atol=1e-5)
    for name, fence in here.fences.items():
        np.testing.assert_allclose(
            fence.jacobian,
            there.fences[name].jacobian * share,
            rtol=1e-2,
            atol=1e-3 * np.abs(fence.jacobian).max(),
        )


def test_network_work_is_counted(maps, linear_posterior):
    objective = Objective(maps, linear_posterior, BOX, FAMILIES["beam"])
    assert objective.work == 0
    objective.value_only(np.array([0.4]))
    assert objective.work == 1
    objective(np.array([0.4]))
    assert objective.work == 4
    objective.fences(np.array([0.4]))
    assert objective.work == 4


def test_the_network_is_called_as_often_as_is_counted(maps, linear_posterior):
    """Counted while the program is built: one pass over the maps in either program."""
    calls = []

    class Counting:
        names = NAMES

        def __call__(self, x):
            calls.append(len(x))
            return linear_posterior(x)

    objective = Objective(
        maps, Counting(), BOX, FAMILIES["logistic"], fences=FENCED["logistic"], labels=LABELS
    )
    assert calls == [COUNT]  # the clean maps
    objective(POINTS["logistic"][0])
    assert calls == [COUNT] * 2
    objective.value_only(POINTS["logistic"][0])
    assert calls == [COUNT] * 3
    objective.fences(POINTS["logistic"][0])
    assert calls == [COUNT] * 3


def test_a_mixture_has_gradients_too(objectives, maps, linear_posterior):
    """Two equal components are one Gaussian; 1024 draws know its KL and slope to a tenth."""

    class Twice:
        def __call__(self, x):
            one = linear_posterior(x)
            means, scales = (tf.stack([v, v], axis=1) for v in (one.mean(), one.stddev()))
            return mixture(means, scales, tf.zeros_like(means[:, :, 0]))

    point = POINTS["logistic"][0]
    sampled = Objective(maps, Twice(), BOX, FAMILIES["logistic"])(point)
    exact = objectives["logistic"](point)
    assert sampled.kl == pytest.approx(exact.kl, rel=0.1)
    np.testing.assert_allclose(sampled.gradient, exact.gradient, rtol=0.1, atol=0.05)


def test_feasible_is_finite_and_within_every_limit(objectives):
    found: Evaluation = objectives["logistic"](POINTS["logistic"][0])
    heights = {name: fence.height for name, fence in found.fences.items()}
    assert found.is_feasible(heights)
    assert found.excess({"rms": 1.0}) == {"rms": pytest.approx(heights["rms"] - 1.0)}
    assert not found.is_feasible(heights | {"rms": 0.99 * heights["rms"]})
    assert not found._replace(value=np.nan).is_feasible(heights)
    assert not found._replace(gradient=np.array([np.inf, 0, 0])).is_finite
    broken = found.fences["power"]._replace(values=np.array([np.nan]))
    assert not found._replace(fences=found.fences | {"power": broken}).is_finite
