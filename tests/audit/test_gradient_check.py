"""Finite differences: they confirm a true gradient and find a wrong one."""

import numpy as np
import pytest

from spurious.audit.gradient_check import agreement, loss_gradient

STEPS = (0.1, 0.3, 1.0)


def test_the_gradient_is_that_of_the_closed_form(linear_posterior, maps, truth):
    residual = (linear_posterior.means(maps) - truth) / linear_posterior.scale**2
    wanted = np.einsum("bp,pij->bij", residual, linear_posterior.weights)
    found = loss_gradient(linear_posterior, maps, truth)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_a_true_gradient_is_confirmed_on_every_map(linear_posterior, maps, truth):
    found = agreement(linear_posterior, maps, truth, STEPS)
    assert found.error.shape == (len(maps),)
    assert found.error.max() < 0.01  # float32
    assert found.zeros.max() == 0


@pytest.mark.parametrize("factor", [-1.0, 0.8, 1.25])
def test_a_factor_in_the_gradient_is_found(linear_posterior, mistaken, maps, truth, factor):
    found = agreement(mistaken(linear_posterior, factor), maps, truth, STEPS)
    wanted = abs(1 - factor) / max(1, abs(factor))
    assert found.error.min() > 0.9 * wanted


def test_rounding_is_found(linear_posterior, rounded, maps, truth):
    found = agreement(rounded(linear_posterior), maps, truth, STEPS)
    np.testing.assert_array_equal(found.error, 1)
    np.testing.assert_array_equal(found.zeros, 1)


def test_pixels_near_zero_are_left_alone(linear_posterior, maps, truth):
    empty = maps.copy()
    empty[:, :8] = 0.0
    assert agreement(linear_posterior, empty, truth, STEPS).error.max() < 0.01


def test_a_posterior_that_gives_no_number_is_not_confirmed(linear_posterior, mistaken, maps, truth):
    broken = mistaken(linear_posterior, float("nan"))
    error = agreement(broken, maps, truth, STEPS).error
    assert not np.any(error <= 0.05)
