"""The smallest change against closed forms on a linear posterior, and on a network that bends."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.data.maps import Standardiser
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.perturbations.gradient import PGD
from spurious.perturbations.minimum_norm import Displacement, MinimumNorm
from spurious.posteriors.trained import NetworkPosterior


def whitened(posterior):
    """Weights over scales, (p, N N): the distance is |whitened . change|."""
    return (posterior.weights / posterior.scale[:, None, None]).reshape(len(posterior.scale), -1)


def smallest(posterior, sigmas, norm):
    """Closed form far from the clip: the largest |A delta| at |delta| = 1 is A's operator norm.

    In L2 that is the largest singular value (RMS is the norm over N). From L-infinity to L2 it is
    max over unit u of |A^T u|_1, for p = 2 a scan over one angle.
    """
    weights = whitened(posterior)
    if norm == "l2":
        return sigmas / np.linalg.svd(weights, compute_uv=False)[0] / 16
    angle = np.linspace(0, np.pi, 20_000)
    span = np.cos(angle)[:, None] * weights[0] + np.sin(angle)[:, None] * weights[1]
    return sigmas / np.abs(span).sum(1).max()


def size(change, norm):
    change = np.asarray(change, np.float64)
    return np.abs(change).max((1, 2)) if norm == "linf" else np.sqrt(np.mean(change**2, (1, 2)))


def distance(posterior, maps, clean):
    """Mahalanobis, by NumPy."""
    before, after = posterior(clean), posterior(maps)
    shift = after.mean().numpy().astype(np.float64) - before.mean().numpy()
    inverse = np.linalg.inv(before.covariance().numpy().astype(np.float64))
    return np.sqrt(np.einsum("bi,bij,bj->b", shift, inverse, shift))


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(5, 16)


@pytest.fixture(scope="module")
def network():
    ranges = {"omega_m": (0.0, 1.5), "sigma_8": (0.0, 2.0)}
    model = Compact(width=0.25).model(16, HeadLayer(ranges, name=HEAD), Standardiser(64.0, 40.0), 3)
    return NetworkPosterior(model)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("sigmas", [0.5, 3.0])
def test_the_closed_form_is_found(linear_posterior, maps, norm, sigmas):
    maps = maps + 100  # far from the clip
    expected = smallest(linear_posterior, sigmas, norm)
    found = MinimumNorm(linear_posterior, sigmas, largest=8 * expected, norm=norm).find(maps)
    np.testing.assert_allclose(found.epsilons, expected, rtol=0.02)
    assert np.all(found.epsilons >= expected * (1 - 1e-3))  # nothing smaller exists
    np.testing.assert_allclose(found.epsilons, size(found.maps - maps, norm), rtol=1e-6)
    np.testing.assert_allclose(found.distances, sigmas, rtol=0.01)
    means = linear_posterior.means(found.maps) - linear_posterior.means(maps)
    reached = np.linalg.norm(means / linear_posterior.scale, axis=1)
    assert np.all(reached >= sigmas * (1 - 1e-4))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_budgets_that_do_not_suffice_are_inf_map_by_map(linear_posterior, maps, norm):
    """Empty maps cannot be made emptier: they need more than others."""
    maps = maps + 100
    maps[2:, :, 4:] = 0.0
    needed = smallest(linear_posterior, 3.0, norm)
    found = MinimumNorm(linear_posterior, 3.0, largest=1.1 * needed, norm=norm).find(maps)
    assert np.isfinite(found.epsilons[:2]).all()
    assert np.isinf(found.epsilons[2:]).all()
    # What failed comes back as the farthest that was reached, with the whole budget.
    assert np.all(found.distances[2:] < 3)
    assert np.all(found.distances[2:] > 1)
    assert np.all(size(found.maps - maps, norm) <= 1.1 * needed * (1 + 1e-5))
    assert np.min(found.maps) >= 0


def test_none_suffices(linear_posterior, maps):
    found = MinimumNorm(linear_posterior, 1.0, largest=0.0).find(maps)
    assert np.isinf(found.epsilons).all()
    np.testing.assert_array_equal(found.maps, maps)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_network_the_goal_is_reached_and_less_budget_does_not_suffice(network, maps, norm):
    found = MinimumNorm(network, 0.05, largest=20.0, norm=norm).find(maps)
    assert np.isfinite(found.epsilons).all()
    reached = distance(network, found.maps, maps)
    assert np.all((reached >= 0.05 * (1 - 1e-3)) & (reached < 0.05 * 1.05))
    np.testing.assert_allclose(found.distances, reached, rtol=1e-3)
    np.testing.assert_allclose(found.epsilons, size(found.maps - maps, norm), rtol=1e-5)
    assert len(set(found.epsilons)) == 5
    for i, epsilon in list(enumerate(found.epsilons))[:2]:
        attack = PGD(
            network, 0.9 * epsilon, norm=norm, objective=Displacement(), random_start=False
        )
        assert distance(network, attack(maps[i : i + 1]), maps[i : i + 1]) < 0.05


def test_the_objective_is_half_the_squared_distance(network, maps):
    other = maps[::-1].copy()
    value = Displacement()(network(other), network(maps), None)
    np.testing.assert_allclose(value, distance(network, other, maps) ** 2 / 2, rtol=1e-4)


def test_correlated_parameters_are_whitened(maps):
    """A shift along the narrow direction of a correlated posterior counts for more."""
    import tensorflow_probability as tfp

    covariance = np.array([[1.0, 0.9], [0.9, 1.0]], np.float32)
    root = np.linalg.cholesky(covariance)

    def normal(mean):
        return tfp.distributions.MultivariateNormalTriL(tf.constant([mean], tf.float32), root)

    half = [float(Displacement()(normal(m), normal([0.0, 0.0]))[0]) for m in ([1, 1], [1, -1])]
    np.testing.assert_allclose(half, [1 / 1.9, 1 / 0.1], rtol=1e-4)


def test_batches_and_companions_do_not_matter(linear_posterior, maps):
    maps = maps.astype(np.float64)
    whole = MinimumNorm(linear_posterior, 1.0, largest=5.0).find(maps)
    parts = MinimumNorm(linear_posterior, 1.0, largest=5.0, batch_size=2).find(maps)
    np.testing.assert_allclose(whole.epsilons, parts.epsilons, rtol=1e-6)
    np.testing.assert_allclose(whole.maps, parts.maps, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigmas": 0.0},
        {"sigmas": float("nan")},
        {"largest": -1.0},
        {"norm": "l1"},
        {"steps": 0},
        {"restarts": 0},
        {"bisections": -1},
    ],
)
def test_impossible_settings_are_refused(linear_posterior, wrong):
    settings = {"sigmas": 1.0, "largest": 1.0} | wrong
    with pytest.raises(ValueError, match=r"sigmas|largest|norm|steps|restarts|bisections"):
        MinimumNorm(linear_posterior, **settings)


def test_densities_above_upper_are_refused(linear_posterior, maps):
    with pytest.raises(ValueError, match=r"upper = 10\.0"):
        MinimumNorm(linear_posterior, 1.0, 1.0, upper=10.0)(maps)
