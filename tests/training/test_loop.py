"""Training: the loss, the augmentation stream, resuming after a kill, and faults."""

import json
import math
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from scipy import special, stats

from spurious import config, seeds
from spurious.data import maps
from spurious.data.splits import Split, split
from spurious.errors import UserError
from spurious.networks.head_layer import HeadLayer
from spurious.networks.mixture import MixtureHead
from spurious.posteriors.trained import NetworkPosterior
from spurious.training import loop

NETWORK = config.Network(kind="network")
SETTINGS = config.Training(epochs=4, batch_size=8, learning_rate=2e-3, weight_decay=0.01)
UNCLIPPED = SETTINGS.model_copy(update={"clip_norm": 1e9})
SEED = 11


def make_data(n=44, size=16):
    """White noise whose amplitude is label 0 and whose skewness grows with label 1."""
    draw = np.random.default_rng(8)
    labels = draw.uniform(0.2, 0.8, (n, 2))
    noise = draw.standard_normal((n, size, size))
    shape = noise + labels[:, 1, None, None] * (noise**2 - 1)
    return maps.MapSet(
        maps=(64 + 30 * labels[:, 0, None, None] * shape).astype(np.float32),
        labels=labels,
        seeds=np.arange(n, dtype=np.uint64),
        index=np.arange(n),
        axis=np.full(n, 2),
        box_size=128.0,
    )


PARTS = split(np.arange(44), 0.25, 0.2, SEED)
EVEN = Split(PARTS.train, PARTS.validation[:6], PARTS.test)


def run(
    folder, settings=SETTINGS, callbacks=(), seed=SEED, data=None, parts=PARTS, network=NETWORK
):
    data = make_data() if data is None else data
    return loop.train(data, parts, network, settings, seed, folder, callbacks, progress=False)


class Killed(Exception):
    """Stands for whatever ends a training early."""


class KillAfter(keras.callbacks.Callback):
    """End in epoch `epoch` before its checkpoint: by an exception, or by the kernel."""

    def __init__(self, epoch, brutally=False):
        super().__init__()
        self.epoch = epoch
        self.brutally = brutally

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch and self.brutally:
            os.kill(os.getpid(), signal.SIGKILL)
        if epoch == self.epoch:
            raise Killed


class Record(keras.callbacks.Callback):
    """What any other callback sees."""

    def __init__(self):
        super().__init__()
        self.epochs = []
        self.logs = []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(epoch)
        self.logs.append(dict(logs))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "checkpoints"
    network, history = run(folder)
    assert not folder.exists()
    return network, history


def assert_same(one, two):
    assert one[1] == two[1]
    for a, b in zip(one[0].get_weights(), two[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_is_scipys_negative_log_likelihood_of_what_the_head_says():
    draw = np.random.default_rng(0)
    head = HeadLayer({"a": (0.0, 1.0), "b": (1.0, 5.0)}, MixtureHead(components=3))
    features, labels = draw.normal(size=(5, 15)), draw.normal(size=(5, 2))
    means, scales, logits = (np.float64(t) for t in head(features.astype(np.float32)))
    normal = stats.norm.logpdf(labels[:, None], means, scales).sum(axis=2)
    expected = -special.logsumexp(normal + special.log_softmax(logits, axis=1), axis=1)
    loss = loop.negative_log_likelihood(head)
    found = loss(labels.astype(np.float32), features.astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_history_has_every_epoch_and_the_network_is_the_best_one(uninterrupted):
    network, history = uninterrupted
    assert set(history) == {"loss", "val_loss", "learning_rate"}
    assert {len(values) for values in history.values()} == {SETTINGS.epochs}
    assert history["learning_rate"][-1] == pytest.approx(0.01 * SETTINGS.learning_rate, rel=1e-3)
    validation = make_data().take(PARTS.validation)
    posterior = NetworkPosterior(network)(validation.maps)
    nll = -np.mean(posterior.log_prob(validation.labels.astype(np.float32)))
    assert nll == pytest.approx(min(history["val_loss"]), abs=1e-5)


def test_training_loss_is_the_mean_over_all_maps_of_the_epoch(tmp_path):
    """With a vanishing learning rate the loss of an epoch is that of the first weights."""
    still = SETTINGS.model_copy(update={"learning_rate": 1e-12, "epochs": 1, "augment": False})
    network, history = run(tmp_path, still)
    train = make_data().take(PARTS.train)
    assert len(train) % still.batch_size != 0
    log_prob = NetworkPosterior(network)(train.maps).log_prob(train.labels.astype(np.float32))
    assert history["loss"][0] == pytest.approx(-np.mean(log_prob), abs=1e-5)


def test_units_and_ranges_come_from_the_training_maps_alone(uninterrupted):
    posterior = NetworkPosterior(uninterrupted[0])
    train = make_data().take(PARTS.train)
    expected = maps.Standardiser.fit(train.maps)
    assert posterior.standardiser.mean == pytest.approx(expected.mean, rel=1e-12)
    assert posterior.standardiser.std == pytest.approx(expected.std, rel=1e-12)
    ranges = np.array(list(uninterrupted[0].layers[-1].ranges.values()))
    np.testing.assert_array_equal(ranges.T, [train.labels.min(axis=0), train.labels.max(axis=0)])


@pytest.mark.slow
def test_killed_training_goes_on_exactly(tmp_path, uninterrupted):
    """A real SIGKILL in the third epoch of another process; then the same call again."""
    script = (
        "import importlib.util, pathlib, sys\n"
        "spec = importlib.util.spec_from_file_location('killed', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "module.run(pathlib.Path(sys.argv[2]), callbacks=[module.KillAfter(2, brutally=True)])\n"
    )
    command = [sys.executable, "-c", script, __file__, str(tmp_path / "checkpoints")]
    assert subprocess.run(command, timeout=120).returncode == -signal.SIGKILL
    record = Record()
    resumed = run(tmp_path / "checkpoints", callbacks=[record])
    assert record.epochs == [2, 3]
    assert_same(resumed, uninterrupted)
    assert not (tmp_path / "checkpoints").exists()


def test_checkpoint_of_another_training_is_not_used(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, callbacks=[KillAfter(1)])
    (tmp_path / "notes.txt").write_text("not ours")
    record = Record()
    other = SETTINGS.model_copy(update={"weight_decay": 0.02, "epochs": 1})
    _, history = run(tmp_path, other, callbacks=[record])
    assert record.epochs == [0]
    assert [logs["loss"] for logs in record.logs] == history["loss"]
    assert [logs["learning_rate"] for logs in record.logs] == history["learning_rate"]
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_damaged_checkpoint_is_one_line(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, callbacks=[KillAfter(1)])
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"{path.name} is damaged: remove it"):
        run(tmp_path)


def test_seed_matters(tmp_path, uninterrupted):
    _, history = run(tmp_path, SETTINGS.model_copy(update={"epochs": 1}), seed=SEED + 1)
    assert history["loss"][0] != uninterrupted[1]["loss"][0]


def test_every_epoch_shows_every_map_once_in_another_order():
    data = make_data().take(PARTS.train)
    plain = SETTINGS.model_copy(update={"augment": False})
    shown = [labels.numpy() for _, labels in loop._batches(data, plain, SEED, 0)]
    steps = math.ceil(len(data) / SETTINGS.batch_size)
    assert len(shown) == steps * SETTINGS.epochs
    epochs = [np.concatenate(shown[i * steps : (i + 1) * steps]) for i in range(SETTINGS.epochs)]
    expected = np.sort(data.labels[:, 0].astype(np.float32))
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch[:, 0]), expected)
    assert not np.array_equal(epochs[0], epochs[1])


def test_batches_are_augmented_afresh_and_depend_on_epoch_and_step_alone():
    data = make_data().take(PARTS.train)
    whole = list(loop._batches(data, SETTINGS, SEED, 0))
    steps = math.ceil(len(data) / SETTINGS.batch_size)
    for (one, two), (three, four) in zip(
        whole[2 * steps :], loop._batches(data, SETTINGS, SEED, 2), strict=True
    ):
        np.testing.assert_array_equal(one, three)
        np.testing.assert_array_equal(two, four)
    by_label = [
        {float(y[0]): x.numpy() for xs, ys in whole[e : e + steps] for x, y in zip(xs, ys)}  # noqa: B905
        for e in (0, steps)
    ]
    for label, one in by_label[0].items():
        two = by_label[1][label]
        np.testing.assert_array_equal(np.sort(one.ravel()), np.sort(two.ravel()))
        assert not np.array_equal(one, two)


@pytest.mark.slow
def test_a_few_maps_can_be_learnt_by_heart(tmp_path):
    """The error falls far below the prior's standard deviation of 0.6 / sqrt(12) = 0.17."""
    few = np.arange(8)
    parts = Split(np.tile(few, 20), few, few)
    settings = SETTINGS.model_copy(update={"epochs": 15, "augment": False})
    network, _ = run(tmp_path, settings, parts=parts)
    data = make_data().take(few)
    error = NetworkPosterior(network)(data.maps).mean().numpy() - data.labels
    assert np.sqrt(np.mean(error**2)) < 0.04


def test_loss_that_is_not_finite_is_one_line(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.set_weights([w * np.nan for w in self.model.get_weights()])

    with pytest.raises(UserError) as error:
        run(tmp_path, callbacks=[Spoil()])
    assert str(error.value) == (
        "training.learning_rate = 0.002: the loss is not finite in epoch 2; "
        "try a lower one, such as 0.0007"
    )


def test_maps_that_are_not_finite_are_refused(tmp_path):
    data = make_data()
    data.maps[PARTS.train[3], 2, 5] = np.nan
    with pytest.raises(UserError, match=r"1 of 26 maps hold values that are not finite"):
        run(tmp_path, data=data)


def test_a_constant_label_is_refused(tmp_path):
    data = make_data()
    data.labels[:, 1] = 0.8
    with pytest.raises(UserError, match=r"sigma_8 is 0\.8 in all training maps"):
        run(tmp_path, data=data)


def test_empty_parts_are_refused(tmp_path):
    empty = Split(np.arange(10), np.arange(0), np.arange(10, 44))
    with pytest.raises(ValueError, match="must not be empty"):
        run(tmp_path, parts=empty)


def test_one_progress_bar(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("CI", raising=False)  # nothing is shown where it is set
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    settings = SETTINGS.model_copy(update={"epochs": 1})
    loop.train(make_data(), PARTS, NETWORK, settings, seeds.integer(1, "bar"), tmp_path)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "training" in captured.err and "0 of 1 epochs" in captured.err


NARROW = {"kind": "compact", "width": 0.25}
PRESETS = {
    "resnet": config.Network(kind="network", preset={"kind": "resnet", "width": 0.25}),
    "power_spectrum": config.Network(kind="network", preset="power_spectrum"),
    "full covariance": config.Network(
        kind="network", preset=NARROW, head={"kind": "mixture", "covariance": "full"}
    ),
    "flow": config.Network(kind="network", preset=NARROW, head={"kind": "flow", "bins": 4}),
    "contrast": config.Network(kind="network", preset=NARROW, input="contrast"),
}


@pytest.mark.slow
@pytest.mark.parametrize("network", PRESETS.values(), ids=PRESETS)
def test_every_preset_and_head_learns(tmp_path, network):
    """Better than the best that knows no map: a uniform density of 1 / 0.36 in each parameter."""
    settings = SETTINGS.model_copy(update={"epochs": 12})
    found, history = run(tmp_path, settings, network=network)
    assert min(history["val_loss"]) < history["val_loss"][0]
    data = make_data().take(PARTS.train)
    log_prob = NetworkPosterior(found)(data.maps).log_prob(data.labels.astype(np.float32))
    assert -np.mean(log_prob) < 2 * np.log(0.6), -np.mean(log_prob)


@pytest.mark.slow
def test_a_published_network_with_batch_normalisation_resumes_exactly(tmp_path):
    network = config.Network(kind="network", preset="horowitz2022")
    data, settings = make_data(24, 54), SETTINGS.model_copy(update={"epochs": 2})
    parts = split(np.arange(24), 0.25, 0.2, SEED)
    whole = run(tmp_path / "a", settings, data=data, parts=parts, network=network)
    with pytest.raises(Killed):
        run(tmp_path / "b", settings, [KillAfter(1)], data=data, parts=parts, network=network)
    assert_same(run(tmp_path / "b", settings, data=data, parts=parts, network=network), whole)


def test_another_seed_of_the_entry_is_another_network(tmp_path, uninterrupted):
    other = NETWORK.model_copy(update={"seed": 1})
    _, history = run(tmp_path, SETTINGS.model_copy(update={"epochs": 1}), network=other)
    assert history["loss"][0] != uninterrupted[1]["loss"][0]


class Worsen(keras.callbacks.Callback):
    """Spoil the weights from epoch 2 on, so that only the first two are any good."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= 2:
            self.model.set_weights([w + 0.3 for w in self.model.get_weights()])


def test_patience_ends_a_training_that_gets_no_better(tmp_path):
    settings = SETTINGS.model_copy(update={"epochs": 9, "patience": 2})
    network, history = run(tmp_path, settings, [Worsen()])
    losses = history["val_loss"]
    assert len(losses) == int(np.argmin(losses)) + 3 < 9
    validation = make_data().take(PARTS.validation)
    log_prob = NetworkPosterior(network)(validation.maps).log_prob(np.float32(validation.labels))
    assert -np.mean(log_prob) == pytest.approx(min(losses), abs=1e-5)


def test_a_training_killed_after_its_patience_ran_out_is_over(tmp_path):
    """The checkpoint says that nothing is left to do: no epoch is added to it."""
    settings = SETTINGS.model_copy(update={"epochs": 9, "patience": 1})
    kept = loop.Checkpoint.remove

    def killed(self):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Checkpoint, "remove", killed)
        with pytest.raises(Killed):
            run(tmp_path, settings, [Worsen()])
    assert loop.Checkpoint.remove is kept
    record = Record()
    _, history = run(tmp_path, settings, [record])
    assert record.epochs == []
    assert len(history["val_loss"]) == int(np.argmin(history["val_loss"])) + 2


def test_mixed_precision_trains_and_gives_back_a_float32_network(tmp_path, uninterrupted):
    settings = SETTINGS.model_copy(update={"precision": "mixed_bfloat16"})
    network, history = run(tmp_path, settings)
    assert history["loss"] == pytest.approx(uninterrupted[1]["loss"], abs=0.1)
    assert history["loss"] != uninterrupted[1]["loss"]
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.slow
def test_two_devices_share_each_batch(tmp_path):
    """Two logical CPUs under tf.distribute, killed and resumed: as on one, up to rounding.

    Without clipping, which each device does to the gradient of its own share.
    """
    script = (
        "import importlib.util, json, pathlib, sys\n"
        "import tensorflow as tf\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "two = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(cpu, two)\n"
        "spec = importlib.util.spec_from_file_location('distributed', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "devices = tf.config.list_logical_devices('CPU')\n"
        "strategy = module.loop._strategy\n"
        "module.loop._strategy = lambda gpus: strategy(devices)\n"
        "assert strategy(devices).num_replicas_in_sync == 2\n"
        "folder = pathlib.Path(sys.argv[2])\n"
        "try:\n"
        "    module.run(folder, module.UNCLIPPED, [module.KillAfter(1)], parts=module.EVEN)\n"
        "except module.Killed:\n"
        "    network, history = module.run(folder, module.UNCLIPPED, parts=module.EVEN)\n"
        "    print(json.dumps(history['val_loss']))\n"
    )
    command = [sys.executable, "-c", script, __file__, str(tmp_path / "checkpoints")]
    done = subprocess.run(command, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    _, history = run(tmp_path / "one", UNCLIPPED, parts=EVEN)
    assert found == pytest.approx(history["val_loss"], abs=0.01)


def test_maps_too_small_for_the_preset_are_one_line(tmp_path):
    network = config.Network(kind="network", preset="horowitz2022")
    with pytest.raises(UserError, match=r"preset = 'horowitz2022': n = 16 must be at least 54"):
        run(tmp_path, network=network)
