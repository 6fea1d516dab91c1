"""Training by maximum likelihood: exact augmentation, best epoch, and resuming after a kill.

Every random number is derived from (root seed, purpose, epoch, step), and a checkpoint after
every epoch holds all state, so that a killed and restarted training follows the same curve and
ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spurious import config, seeds
from spurious.data.maps import MapSet
from spurious.data.splits import Split
from spurious.description.instance import instance, named
from spurious.errors import UserError, shown
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.preset import Preset
from spurious.networks.representations import representation
from spurious.posteriors.trained import standardiser_of
from spurious.progress import tqdm
from spurious.training.augmentation import augment
from spurious.training.callbacks import Bar, Checkpoint, History, Watch
from spurious.training.defence import Defence
from spurious.training.defended import Defended

Ranges = Mapping[str, Sequence[float]]


def train(
    data: MapSet,
    parts: Split,
    network: config.Network,
    settings: config.Training,
    root_seed: int,
    checkpoint_dir: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
    number: int = 1,
    keep_checkpoint: bool = False,
    defence: Defence | None = None,
) -> tuple[keras.Model, History]:
    """Train a network on `parts.train`; keep the weights of the epoch best on `parts.validation`.

    AdamW with a warm-up and a cosine decay, clipped gradients, and an end before the last epoch
    when `settings.patience` epochs bring nothing better. On more than one GPU each batch is shared
    out (`tf.distribute.MirroredStrategy`); one that is not a multiple of their number is filled up
    with its own first maps.

    Args:
        data: maps in counts with their labels.
        parts: row numbers; the test part is not looked at.
        network: preset, head and seed; its own training settings are already part of `settings`.
        settings: of the training.
        root_seed: with `network.seed`, of the initial weights, the shuffling and the augmentation.
        checkpoint_dir: where a killed training finds its last epoch. A checkpoint of other data
            or settings is not used. Removed at the end, unless `keep_checkpoint`.
        callbacks: any Keras callbacks; each epoch's logs hold what the history holds.
        progress: show one bar over the epochs.
        number: of this one among the independent trainings of the entry, which differ in their
            random draws alone.
        keep_checkpoint: leave it when the training ends; the next call then ends at once with the
            same weights.
        defence: what the network is trained against; none: it is not.

    Returns:
        The network (see `spurious.networks.preset`), in float32 whatever the precision of the
        training, and the history, including epochs before a resume: per epoch the mean negative
        log-likelihood in nats a map (`loss` on augmented training maps, `val_loss`) and the
        `learning_rate` at its end. With a defence both losses are its own, so that no epoch is kept
        from before it took hold, and `val_nll` is that of the validation maps as they are.

    Raises:
        UserError: the loss is no longer finite, a map holds values that are not, a label is the
            same in all training maps, or the maps are too small for the preset.
    """
    train_set, validation = data.take(parts.train), data.take(parts.validation)
    _check(train_set, validation)
    others = () if number == 1 else (number,)
    seed = seeds.integer(root_seed, "network", network.seed, *others)
    strategy = _strategy(tf.config.list_logical_devices("GPU"))
    replicas = strategy.num_replicas_in_sync
    with strategy.scope():
        with _precision(settings.precision):
            trained = build(train_set, network, seed)
        model = _trainable(trained, settings, _steps(len(train_set), settings), defence, seed)
    against = _described(network, defence)
    name = _fingerprint(train_set, validation, settings, seed, trained, against)
    checkpoint = Checkpoint(Path(checkpoint_dir) / f"training-{name}.npz", settings.patience)
    first = checkpoint.resume(model)
    bar = tqdm(
        total=settings.epochs, initial=first, desc="training", unit="epoch", disable=not progress
    )
    with bar:
        model.fit(
            _batches(train_set, settings, seed, first, replicas),
            validation_data=_validation(validation, replicas),
            validation_batch_size=256 // replicas * replicas,
            epochs=first if checkpoint.exhausted else settings.epochs,
            initial_epoch=first,
            steps_per_epoch=_steps(len(train_set), settings),
            callbacks=[Watch(settings), *callbacks, Bar(bar), checkpoint],
            shuffle=False,  # the batches already are
            verbose=0,
        )
    result = build(train_set, network, seed)
    result.set_weights(checkpoint.best)
    if not keep_checkpoint:
        checkpoint.remove()
    return result, checkpoint.history


def build(train_set: MapSet, network: config.Network, seed: int) -> keras.Model:
    """The untrained network, with units and ranges from the training maps alone.

    Raises:
        UserError: the maps are too small for the preset.
    """
    low, high = train_set.labels.min(axis=0), train_set.labels.max(axis=0)
    ranges = dict(zip(train_set.names, zip(low, high, strict=True), strict=True))
    head = HeadLayer(ranges, instance(network.head), name=HEAD, dtype="float32")
    try:
        preset: Preset = named("preset", network.preset)
        return preset.network(train_set, head, seed, representation(network.input, train_set))
    except ValueError as error:
        raise UserError(f"preset = {shown(network.preset)}: {error}") from error


def negative_log_likelihood(head: HeadLayer) -> Callable[[Any, Any], Any]:
    """The loss: -log p(labels | map) in nats, shape (batch,), of the features before the head.

    Keras computes one loss an output tensor, and the likelihood needs all of the head's at once.
    """
    return lambda labels, features: -density(head, features).log_prob(labels)


def density(head: HeadLayer, features: Any) -> Any:
    """The distribution that a head makes of the features (batch, n_features) before it."""
    outputs = head(features)
    return head.distribution(*(outputs if isinstance(outputs, tuple | list) else [outputs]))


def _check(train_set: MapSet, validation: MapSet) -> None:
    if min(len(train_set), len(validation)) == 0:
        raise ValueError("the training and the validation part must not be empty")
    for part in (train_set, validation):
        if bad := np.sum(~np.isfinite(part.maps).all(axis=(1, 2))):
            raise UserError(f"{bad} of {len(part)} maps hold values that are not finite")
    for name, labels in zip(train_set.names, train_set.labels.T, strict=True):
        if np.ptp(labels) == 0:
            raise UserError(f"{name} is {labels[0]} in all training maps: nothing to infer")


def _strategy(devices: Sequence[Any]) -> tf.distribute.Strategy:
    """All GPUs where there are several; else whatever TensorFlow does by itself."""
    if len(devices) < 2:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([device.name for device in devices])


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Layers made inside compute in this precision; their weights are float32 in all of them."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _trainable(
    network: keras.Model,
    settings: config.Training,
    steps: int,
    defence: Defence | None = None,
    seed: int = 0,
) -> keras.Model:
    """The network up to its head's features, compiled; it shares the network's weights."""
    head = network.get_layer(HEAD)
    model = keras.Model(network.inputs, head.input)
    if defence is None:
        optimizer = _optimizer(model, settings, steps)
        model.compile(optimizer, loss=negative_log_likelihood(head), jit_compile=False)
        return model
    units = standardiser_of(network)
    defended = Defended(model, partial(density, head), defence, units, seed, tuple(head.ranges))
    defended.compile(_optimizer(defended, settings, steps))
    return defended


def _optimizer(
    model: keras.Model, settings: config.Training, steps: int
) -> keras.optimizers.Optimizer:
    """AdamW over `steps` steps an epoch, for the weights of the model."""
    total = settings.epochs * steps
    warmup = total // 20
    rate = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else settings.learning_rate,
        max(total - warmup, 1),
        alpha=0.01,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=settings.weight_decay, clipnorm=settings.clip_norm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(model.trainable_variables)
    return optimizer


def _steps(n: int, settings: config.Training) -> int:
    return math.ceil(n / settings.batch_size)


def _batches(
    train_set: MapSet, settings: config.Training, seed: int, first_epoch: int, replicas: int = 1
) -> tf.data.Dataset:
    """All batches from `first_epoch` on; each depends on (seed, epoch, step) alone."""
    steps, size = _steps(len(train_set), settings), settings.batch_size
    labels = train_set.labels.astype(np.float32)

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for epoch in range(first_epoch, settings.epochs):
            order = seeds.generator(seed, "shuffle", epoch).permutation(len(train_set))
            for step in range(steps):
                rows = _filled(order[step * size : (step + 1) * size], replicas)
                maps = train_set.maps[rows]
                if settings.augment:
                    maps = augment(maps, seeds.generator(seed, "augment", epoch, step))
                yield maps, labels[rows]

    n, p = train_set.maps.shape[1], labels.shape[1]
    signature = (tf.TensorSpec((None, n, n)), tf.TensorSpec((None, p)))
    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)


def _validation(validation: MapSet, replicas: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps and labels, so many that all replicas have as many."""
    rows = _filled(np.arange(len(validation)), replicas)
    return validation.maps[rows], validation.labels[rows].astype(np.float32)


def _filled(rows: np.ndarray, replicas: int) -> np.ndarray:
    """The rows, the first of them again until a replica's share is whole: none may be empty."""
    return np.resize(rows, math.ceil(len(rows) / replicas) * replicas)


def _described(network: config.Network, defence: Defence | None) -> str:
    """What a network is trained against: its entry, if it has one, says all but the data."""
    if network.defence is not None and defence is None:
        raise ValueError("the entry has a defence: build it with spurious.defences.build")
    return repr(defence) if network.defence is None else network.defence.model_dump_json()


def _fingerprint(
    train_set: MapSet,
    validation: MapSet,
    settings: config.Training,
    seed: int,
    network: keras.Model,
    defence: str,
) -> str:
    """Name of all that decides the course of a training."""
    digest = hashlib.md5(usedforsecurity=False)
    versions = (keras.__version__, tf.__version__)
    text = [settings.model_dump_json(), seed, versions, network.to_json(), defence]
    digest.update(json.dumps(text).encode())
    for part in (train_set, validation):
        digest.update(part.maps.tobytes())
        digest.update(part.labels.tobytes())
    return digest.hexdigest()
