"""One pattern for all maps: trained on some, applied to others."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.data.maps import Standardiser
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.perturbations.objectives import Toward
from spurious.perturbations.universal import Pattern, Universal, laid
from spurious.posteriors.trained import NetworkPosterior
from spurious.training.augmentation import augment


def size(change, norm):
    change = np.asarray(change, np.float64)
    return np.abs(change).max() if norm == "linf" else np.sqrt(np.mean(change**2))


@pytest.fixture(scope="module")
def training(make_maps):
    return make_maps(48, 16, seed=1)


@pytest.fixture(scope="module")
def others(make_maps):
    return make_maps(16, 16, seed=2)


@pytest.fixture(scope="module")
def network():
    ranges = {"omega_m": (0.0, 1.5), "sigma_8": (0.0, 2.0)}
    model = Compact(width=0.25).model(16, HeadLayer(ranges, name=HEAD), Standardiser(64.0, 40.0), 3)
    return NetworkPosterior(model)


@pytest.mark.parametrize(("norm", "objective"), [("linf", "kl"), ("l2", "nll")])
def test_it_fools_maps_that_it_has_never_seen(network, training, others, norm, objective):
    truth = network(training).mean().numpy()
    attack = Universal(
        network, 4.0, training, truth, norm=norm, objective=objective, steps=30, batch_size=16
    )
    assert attack.pattern.shape == (16, 16)
    assert attack.pattern.dtype == np.float32
    assert size(attack.pattern, norm) == pytest.approx(4.0, rel=1e-4)

    def moved(pattern):
        changed = network(Pattern(pattern)(others))
        return changed.kl_divergence(network(others)).numpy().mean()

    noise = np.random.default_rng(0).choice([-4.0, 4.0], (8, 16, 16)).astype(np.float32)
    assert moved(attack.pattern) > 5 * np.mean([moved(one) for one in noise])


def test_the_pattern_is_the_same_for_all_and_densities_stay_possible(network, training, others):
    attack = Universal(network, 30.0, training, steps=5, objective="kl", upper=900.0)
    changed = attack(others)
    np.testing.assert_array_equal(changed, np.clip(others + attack.pattern, 0, 900))
    assert np.any(changed == 0)
    np.testing.assert_array_equal(attack.perturbation(others), changed)


def test_it_is_right_on_a_linear_posterior(linear_posterior, training):
    """Toward a target far away in Omega_m, J rises along that parameter's weights for any map."""
    target = Toward((9.0, 0.8))
    attack = Universal(
        linear_posterior, 2.0, training.astype(np.float64), objective=target, steps=60, norm="l2"
    )
    weights = linear_posterior.weights[0]
    overlap = np.sum(attack.pattern * weights)
    overlap /= np.linalg.norm(attack.pattern) * np.linalg.norm(weights)
    assert overlap > 0.99


def test_maps_are_laid_as_the_augmentation_lays_them(training):
    """Rolls, flips and rotations: nothing but a reordering that keeps neighbours."""
    generator = np.random.default_rng(3)
    expected = augment(training, np.random.default_rng(3))
    n, side = training.shape[:2]
    offset = generator.integers(side, size=(2, n, 1))
    sign = generator.choice((-1, 1), size=(2, n, 1))
    rows, columns = (offset + sign * np.arange(side)) % side
    turn = generator.random(n) < 0.5
    found = laid(tf.constant(training), *(tf.constant(x) for x in (rows, columns, turn)))
    np.testing.assert_array_equal(found, expected)


def test_every_map_is_seen_equally_often_in_all_positions(linear_posterior, training):
    attack = Universal(linear_posterior, 1.0, training, objective="kl", steps=60, batch_size=16)
    chosen, order, turn = attack._batches()
    assert np.bincount(chosen.ravel()).tolist() == [20] * 48
    assert all(len(set(one)) == 16 for one in order.reshape(-1, 16))
    assert len(set(order[..., 0].ravel())) == 16
    steps = (order[..., 1] - order[..., 0]) % 16
    assert set(steps.ravel()) == {1, 15}
    assert 0.4 < turn.mean() < 0.6


def test_seeds(linear_posterior, training):
    def pattern(seed):
        return Universal(
            linear_posterior, 2.0, training, objective="kl", steps=3, seed=seed
        ).pattern

    np.testing.assert_array_equal(pattern(1), pattern(1))
    assert np.any(pattern(1) != pattern(2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": -1.0},
        {"alpha": -1.0},
        {"steps": 0},
        {"norm": "l1"},
        {"batch_size": 0},
        {"training_maps": np.zeros((0, 16, 16))},
        {"objective": "nll"},
        {"objective": "mse"},
    ],
)
def test_impossible_settings_are_refused(linear_posterior, training, wrong):
    settings = {"epsilon": 1.0, "training_maps": training, "objective": "kl"} | wrong
    with pytest.raises(ValueError, match=r"epsilon|alpha|norm|maps|objective|steps"):
        Universal(linear_posterior, **settings)


def test_maps_of_another_size_are_refused(linear_posterior, training):
    with pytest.raises(ValueError, match=r"\(8, 8\)"):
        Pattern(np.zeros((16, 16), np.float32))(training[:, :8, :8])
