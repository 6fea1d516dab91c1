"""The search's objective against the damage table and central differences."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit

from spurious import damage, spectra
from spurious.config import Bounds, Range
from spurious.inference.distributions import mixture
from spurious.perturbations.systematics import Logistic
from spurious.search.objective import Cube, Objective

BOX = 128.0
CUBE = Cube(
    Bounds.model_validate(
        {
            "a": {"low": 0.01, "high": 2.0},
            "transition": {"low": 5.0, "high": 400.0},
            "beta": {"low": -30.0, "high": 30.0},
        }
    )
)
POINTS = [CUBE.point(Logistic(0.25, -15.0, 3.0)), np.array([0.3, 0.4, 0.2])]


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(12, 16)


@pytest.fixture(scope="module")
def objective(maps, linear_posterior):
    return Objective(maps, linear_posterior, BOX, CUBE)


def test_cube_and_systematic_are_inverse():
    for systematic in (Logistic(0.25, -15.0, 3.0), Logistic(0.01, -0.05, -30.0)):
        back = CUBE.systematic(CUBE.point(systematic))
        assert (back.a, back.b, back.beta) == pytest.approx(
            (systematic.a, systematic.b, systematic.beta)
        )
    corner = CUBE.systematic(np.ones(3))
    assert (corner.a, corner.b, corner.beta) == pytest.approx((2.0, -800.0, 30.0))


def test_bounds_without_a_logarithm_are_refused():
    bounds = CUBE.bounds.model_copy(update={"transition": Range(low=0.0, high=400.0)})
    with pytest.raises(ValueError, match="> 0"):
        Cube(bounds)


def test_tensor_and_number_give_the_same_systematic():
    point = np.array([0.2, 0.7, 0.9])
    numbers, tensors = CUBE.systematic(point), CUBE.systematic(tf.constant(point))
    for name in ("a", "b", "beta"):
        assert float(getattr(tensors, name)) == pytest.approx(getattr(numbers, name), rel=1e-12)


@pytest.mark.parametrize("point", POINTS)
def test_agrees_with_the_damage_table(objective, maps, linear_posterior, point):
    systematic = CUBE.systematic(point)
    perturbed = systematic(maps).numpy()
    row = damage.measure(maps, perturbed, linear_posterior, BOX).row(seed=0)
    found = objective(point)
    assert found.kl == pytest.approx(row["kl_perturbed_clean"]["mean"], rel=1e-4)
    change = row["mean_power_change_contrast"]["mean"]
    assert found.max_change == pytest.approx(change, rel=1e-4)
    np.testing.assert_allclose(
        found.change, row["spectrum"]["contrast"]["mean_change"], rtol=1e-3, atol=1e-5
    )
    assert found.least_density == pytest.approx(systematic.unclipped(maps).numpy().min(), abs=1e-4)


def test_kl_is_perturbed_from_clean(maps, breathing_posterior):
    found = Objective(maps, breathing_posterior, BOX, CUBE)(POINTS[0])
    perturbed = CUBE.systematic(POINTS[0])(maps).numpy()
    measured = damage.measure(maps, perturbed, breathing_posterior, BOX)
    right, wrong = measured.kl_perturbed_clean.mean(), measured.kl_clean_perturbed.mean()
    assert abs(wrong / right - 1) > 0.02
    assert found.kl == pytest.approx(right, rel=1e-4)


def test_a_mixture_has_gradients_too(objective, maps, linear_posterior):
    """Two equal components are one Gaussian; 1024 draws know its KL and slope to a tenth."""

    class Twice:
        def __call__(self, x):
            one = linear_posterior(x)
            means, scales = (tf.stack([v, v], axis=1) for v in (one.mean(), one.stddev()))
            return mixture(means, scales, tf.zeros_like(means[:, :, 0]))

    sampled, exact = Objective(maps, Twice(), BOX, CUBE)(POINTS[0]), objective(POINTS[0])
    assert sampled.kl == pytest.approx(exact.kl, rel=0.1)
    np.testing.assert_allclose(sampled.kl_gradient, exact.kl_gradient, rtol=0.1, atol=0.05)


def test_the_second_point_is_clipped(objective):
    assert objective(POINTS[1]).least_density < -1


def in_double_precision(point, maps, posterior):
    """KL and relative change of the mean contrast spectrum, by NumPy."""
    systematic, density = CUBE.systematic(point), maps.astype(np.float64)
    added = systematic.beta * expit(-(systematic.a * density + systematic.b))
    perturbed = np.maximum(density + added, 0)
    shift = (posterior.means(perturbed) - posterior.means(density)) / posterior.scale
    before, after = (
        spectra.power(x, BOX, contrast=True).numpy().mean(0) for x in (density, perturbed)
    )
    return 0.5 * np.sum(shift**2, axis=1).mean(), after / before - 1


@pytest.mark.parametrize("point", POINTS)
def test_gradients_match_central_differences(objective, maps, linear_posterior, point):
    """Differences in double precision, where a small step loses no digits."""
    found = objective(point)
    step = 1e-5
    for i in range(3):
        (kl_up, up), (kl_down, down) = (
            in_double_precision(point + s * step * np.eye(3)[i], maps, linear_posterior)
            for s in (1, -1)
        )
        kl, change = (kl_up - kl_down) / (2 * step), (up - down) / (2 * step)
        assert found.kl_gradient[i] == pytest.approx(kl, rel=1e-4)
        np.testing.assert_allclose(
            found.change_jacobian[:, i], change, rtol=1e-3, atol=1e-4 * np.abs(change).max()
        )


def test_gradient_of_the_largest_change_is_that_of_its_bin(objective):
    point = POINTS[0]
    found = objective(point)
    for i in range(3):
        up, down = (objective(point + s * 1e-3 * np.eye(3)[i]) for s in (1, -1))
        slope = (up.max_change - down.max_change) / 2e-3
        assert found.max_change_gradient[i] == pytest.approx(slope, rel=1e-2, abs=1e-3)
