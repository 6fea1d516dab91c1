"""Real small trainings: what a defence does for a network, and what it leaves as it was."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from slow import slow_but

from spurious import config
from spurious.data.maps import Standardiser
from spurious.defences.adversarial_training import AdversarialTraining
from spurious.defences.build import build
from spurious.defences.fisher_penalty import FisherPenalty
from spurious.defences.gradient_penalty import GradientPenalty
from spurious.defences.systematics_training import SystematicsTraining
from spurious.defences.trades import Trades
from spurious.densities.divergences import kl
from spurious.perturbations.gradient import PGD
from spurious.perturbations.response import Logistic
from spurious.posteriors.trained import NetworkPosterior, load
from spurious.training import loop
from spurious.training.defence import Defence
from spurious.training.defended import Defended, maps_shown

SEED = 11
EPSILON = 2.0
NETWORK = config.Network(kind="network", preset={"kind": "compact", "width": 0.25})
QUICK = config.Network(kind="network", preset="power_spectrum")  # a dense one, for what any shows
SETTINGS = config.Training(epochs=8, batch_size=16, learning_rate=2e-3, weight_decay=0.01)
SHORT = SETTINGS.model_copy(update={"epochs": 3})
OVER_LOGISTIC = {
    "kind": "systematics_training",
    "clean": 0.1,
    "families": {
        "logistic": {
            "kind": "logistic",
            "a": {"low": 0.05, "high": 0.2},
            "transition": {"low": 80.0, "high": 150.0},
            "beta": {"low": -30.0, "high": 30.0},
        }
    },
}


@pytest.fixture(scope="module")
def fit(data, parts, tmp_path_factory):
    """A training, once for all tests that want the same."""
    found = {}

    def one(defence=None, settings=SETTINGS, network=NETWORK):
        key = repr((defence, settings, network))
        if key not in found:
            folder = tmp_path_factory.mktemp("training")
            found[key] = loop.train(
                data, parts, network, settings, SEED, folder, progress=False, defence=defence
            )
        return found[key]

    return one


@pytest.fixture(scope="module")
def test_maps(data, parts):
    return data.take(parts.test)


def damage(model, data):
    """Mean KL under an attack of more steps than any network was trained against."""
    posterior = NetworkPosterior(model)
    truth = data.labels.astype(np.float32)
    attack = PGD(posterior, epsilon=EPSILON, steps=10, objective="kl_perturbed_clean")
    return float(np.mean(kl(posterior(attack(data.maps, truth)), posterior(data.maps))))


WHITE_BOX = {
    "fast": AdversarialTraining(epsilon=EPSILON),
    "trades": Trades(epsilon=EPSILON, beta=2.0),
    "gradient": GradientPenalty(weight=1.0),
    "fisher": FisherPenalty(weight=1.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WHITE_BOX)
def test_a_defence_lowers_the_damage_of_an_attack(fit, test_maps, name):
    """Less than half of that on a network that was trained as long without it."""
    plain, defended = (damage(fit(one)[0], test_maps) for one in (None, WHITE_BOX[name]))
    assert defended < plain / 2, (plain, defended)


@pytest.mark.slow
def test_training_over_a_systematic_makes_it_harmless(fit, data, parts, test_maps):
    entry = config.Network(kind="network", defence=OVER_LOGISTIC).defence
    over = build(entry, data.take(parts.train), seed=1)
    systematic, found = Logistic(0.1, -11.0, 20.0), []
    for one in (None, over):
        posterior = NetworkPosterior(fit(one)[0])
        perturbed, clean = posterior(systematic(test_maps.maps)), posterior(test_maps.maps)
        found.append(float(np.mean(kl(perturbed, clean))))
    assert found[1] < found[0] / 2, found


@pytest.mark.slow
@pytest.mark.parametrize("name", WHITE_BOX)
def test_the_epoch_is_that_of_the_least_defended_loss(fit, data, parts, name):
    """The loss of the kept weights, from outside, with the same draws in every epoch."""
    model, history = fit(WHITE_BOX[name])
    assert set(history) == {"loss", "val_loss", "val_nll", "learning_rate"}
    best = int(np.argmin(history["val_loss"]))
    validation = data.take(parts.validation)
    nll = -NetworkPosterior(model)(validation.maps).log_prob(np.float32(validation.labels))
    assert np.mean(nll) == pytest.approx(history["val_nll"][best], abs=1e-4)
    assert history["val_loss"][best] > history["val_nll"][best]


class Killed(Exception):
    """Stands for whatever ends a training early."""


class KillAfter(keras.callbacks.Callback):
    """End in an epoch before its checkpoint is written."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


def resumed(data, parts, folder, make, network=QUICK):
    """The same training, ended in its second epoch and gone on with by a new defence object."""
    epochs = []
    record = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.append(epoch))
    one = (data, parts, network, SHORT, SEED, folder)
    with pytest.raises(Killed):
        loop.train(*one, [KillAfter(1)], progress=False, defence=make())
    found = loop.train(*one, [record], progress=False, defence=make())
    assert epochs == [1, 2]
    return found


def assert_same(one, two):
    assert one[1] == two[1]
    for a, b in zip(one[0].get_weights(), two[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("norm", slow_but(("linf",), ("linf", "l2")))
def test_a_killed_training_goes_on_exactly(fit, data, parts, tmp_path, norm):
    one = AdversarialTraining(epsilon=EPSILON, norm=norm)
    assert_same(resumed(data, parts, tmp_path, lambda: one), fit(one, SHORT, QUICK))


class Unnamed(SystematicsTraining):
    """Shows its address in memory, as objects of one's own may: another one in each process."""

    __repr__ = object.__repr__


@pytest.mark.slow
def test_a_killed_training_over_systematics_goes_on_exactly(fit, data, parts, tmp_path):
    """The entry names the checkpoint, whatever the object made of it shows of itself."""
    entry = config.Network(kind="network", defence=OVER_LOGISTIC).defence
    network = QUICK.model_copy(update={"defence": entry})
    made = []

    def make():
        made.append(Unnamed(**vars(build(entry, data.take(parts.train), seed=1))))
        return made[-1]

    whole = fit(make(), SHORT, network)
    assert_same(resumed(data, parts, tmp_path, make, network), whole)
    assert len(set(map(repr, made))) == 3


@pytest.mark.slow
def test_a_checkpoint_of_another_defence_is_not_used(fit, data, parts, tmp_path):
    with pytest.raises(Killed):
        loop.train(
            data, parts, QUICK, SHORT, SEED, tmp_path, [KillAfter(1)], progress=False,
            defence=AdversarialTraining(epsilon=1.0),
        )  # fmt: skip
    one = AdversarialTraining(epsilon=EPSILON)
    found = loop.train(data, parts, QUICK, SHORT, SEED, tmp_path, progress=False, defence=one)
    assert_same(found, fit(one, SHORT, QUICK))


def test_an_entry_with_a_defence_is_not_trained_without(data, parts, tmp_path):
    entry = config.Network(kind="network", defence={"kind": "gradient_penalty", "weight": 0.1})
    with pytest.raises(ValueError, match="the entry has a defence"):
        loop.train(data, parts, entry, SHORT, SEED, tmp_path, progress=False)


def test_a_defended_network_is_an_ordinary_file(fit, test_maps, tmp_path):
    pair = (fit(one, SHORT, QUICK)[0] for one in (None, WHITE_BOX["fast"]))
    plain, defended = map(NetworkPosterior, pair)
    assert defended.model.to_json() == plain.model.to_json()
    defended.save(tmp_path / "defended.keras")
    again = load(tmp_path / "defended.keras")
    np.testing.assert_array_equal(again(test_maps.maps).mean(), defended(test_maps.maps).mean())


def test_each_step_has_another_seed(data, parts):
    """The optimizer's count of steps makes it, whichever epoch a training goes on from."""
    model = loop.build(data.take(parts.train), QUICK, 1)
    trained = loop._trainable(model, SHORT, 5, Defence(), seed=3)
    assert isinstance(trained, Defended)
    seeds = []
    for step in (0, 1, 2, 1):
        trained.optimizer.iterations.assign(step)
        seeds.append(tuple(trained._step_seed().numpy()))
    assert len(set(seeds)) == 3 and seeds[1] == seeds[3]
    other = loop._trainable(model, SHORT, 5, Defence(), seed=4)
    assert tuple(other._step_seed().numpy()) not in seeds


def test_the_maps_shown_to_a_finished_posterior_are_those_of_validation(fit, data, parts):
    """What the widths are recalibrated on: the worst maps of this very posterior."""
    posterior = NetworkPosterior(fit(WHITE_BOX["fast"], SHORT, QUICK)[0])
    part = data.take(parts.validation)
    found = maps_shown(WHITE_BOX["fast"], posterior, part.maps, part.labels, SEED, batch_size=7)
    assert found.shape == part.maps.shape and found.dtype == np.float32
    assert np.abs(found - part.maps).max() <= EPSILON * (1 + 1e-5)
    clean, worst = (posterior(x).log_prob(np.float32(part.labels)) for x in (part.maps, found))
    assert np.mean(worst) < np.mean(clean)
    unchanged = maps_shown(FisherPenalty(weight=1.0), posterior, part.maps, part.labels, SEED)
    np.testing.assert_array_equal(unchanged, part.maps)


def test_batch_normalisation_learns_from_what_the_network_is_trained_on_alone():
    """The inner attack runs in inference mode and leaves the moving averages as they are."""
    maps = keras.Input((8, 8))
    x = keras.layers.Reshape((8, 8, 1))(maps)
    x = keras.layers.BatchNormalization(momentum=0.5, name="normalise")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = [keras.layers.Dense(2)(x), keras.layers.Dense(2, "softplus")(x)]
    model = keras.Model(maps, outputs)

    @dataclass(frozen=True)
    class Doubled(AdversarialTraining):
        def shown(self, network, maps, truth, seed):
            return 2 * super().shown(network, maps, truth, seed)

    defended = Defended(
        model,
        lambda x: tfp.distributions.MultivariateNormalDiag(x[0], 0.1 + x[1]),
        Doubled(epsilon=1e-3, steps=2),
        Standardiser(64.0, 30.0),
        seed=1,
    )
    defended.compile(keras.optimizers.SGD(1e-9))
    counts = np.random.default_rng(0).gamma(4.0, 16.0, (32, 8, 8)).astype(np.float32)
    defended.fit(counts, np.full((32, 2), 0.5, np.float32), batch_size=32, epochs=1, verbose=0)
    moving = model.get_layer("normalise").moving_mean.numpy()
    # One update, half way from 0 to the mean of what was shown.
    assert moving == pytest.approx(counts.mean(), rel=1e-3)
