"""One table: what every perturbation promises."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.perturbations.gradient import BIM, FGSM
from spurious.perturbations.noise import RandomSign
from spurious.perturbations.systematics import Logistic

# name -> (perturbation of a given size in counts, largest change of a pixel in sizes)
TABLE = {
    "random_sign": (lambda posterior, size: RandomSign(size, seed=1), 1),
    "fgsm": (lambda posterior, size: FGSM(posterior, size), 1),
    "fgsm_kl": (lambda posterior, size: FGSM(posterior, size, objective="kl"), 1),
    "bim": (lambda posterior, size: BIM(posterior, size, steps=4), 4),
    "bim_kl": (lambda posterior, size: BIM(posterior, size, steps=4, objective="kl"), 4),
    "bim_ball": (lambda posterior, size: BIM(posterior, size, steps=9, epsilon=2 * size), 2),
    "logistic": (lambda posterior, size: Logistic(0.25, -15.0, size), 1),
    "logistic_negative": (lambda posterior, size: Logistic(0.25, -15.0, -size), 1),
}


@pytest.fixture(params=TABLE)
def make(request, linear_posterior):
    factory, _ = TABLE[request.param]
    return lambda size: factory(linear_posterior, size)


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(5, 16)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(2).uniform([0.05, 0.5], [0.55, 1.0], size=(5, 2))


def test_shape_type_and_range(make, maps, truth):
    changed = make(2.0)(maps, truth)
    assert isinstance(changed, tf.Tensor)
    assert changed.shape == maps.shape
    assert changed.dtype == tf.float32
    assert np.all(np.isfinite(changed))
    assert np.min(changed) >= 0
    assert np.all(np.any(changed != maps, axis=(1, 2)))


def test_negative_densities_never_occur_however_large_the_budget(make, maps, truth):
    assert np.min(make(1e4)(maps, truth)) >= 0


def test_deterministic(make, maps, truth):
    np.testing.assert_array_equal(make(2.0)(maps, truth), make(2.0)(maps, truth))


def test_budget_is_respected_and_used_by_every_map(request, make, maps, truth):
    size = 0.7
    reach = TABLE[request.node.callspec.params["make"]][1] * size
    largest = np.abs(make(size)(maps, truth) - maps).max((1, 2))
    # A float32 density of up to 1000 counts is rounded by 3e-5.
    assert np.all(largest <= reach + 1e-4)
    assert np.all(largest >= 0.9 * reach)


def test_zero_budget_changes_nothing(make, maps, truth):
    np.testing.assert_array_equal(make(0.0)(maps, truth), maps)


def test_a_map_is_changed_alike_alone_and_in_company(make, maps, truth):
    together = make(2.0)(maps, truth)
    alone = make(2.0)(maps[3:4], truth[3:4])
    np.testing.assert_array_equal(alone[0], together[3])


def test_tensors_and_arrays_are_both_taken(make, maps, truth):
    np.testing.assert_array_equal(
        make(2.0)(tf.constant(maps), tf.constant(truth)), make(2.0)(maps, truth)
    )


@pytest.mark.parametrize(
    "make_wrong",
    [
        lambda p: RandomSign(-1.0, 0),
        lambda p: RandomSign(float("nan"), 0),
        lambda p: BIM(p, -1.0),
        lambda p: BIM(p, 1.0, steps=0),
        lambda p: BIM(p, 1.0, epsilon=-1.0),
        lambda p: BIM(p, 1.0, objective="mse"),
        lambda p: FGSM(p, -1.0),
        lambda p: BIM(p, 1.0)(np.ones((1, 16, 16), np.float32)),
    ],
)
def test_impossible_settings_are_refused(make_wrong, linear_posterior):
    with pytest.raises(ValueError, match=r"epsilon|alpha|objective"):
        make_wrong(linear_posterior)
