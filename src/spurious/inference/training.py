"""Training by maximum likelihood: exact augmentation, best epoch, and resuming after a kill.

Every random number is derived from (root seed, purpose, epoch, step), and a checkpoint after
every epoch holds all state, so that a killed and restarted training follows the same curve and
ends with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tqdm import tqdm

from spurious import config, seeds
from spurious.errors import UserError
from spurious.files import replacing
from spurious.inference.augmentation import augment
from spurious.inference.network import compact
from spurious.inference.posterior import mixture
from spurious.maps import MapSet, Standardiser
from spurious.splitting import Split

History = dict[str, list[float]]


def train(
    data: MapSet,
    parts: Split,
    settings: config.Training,
    root_seed: int,
    checkpoint_dir: Path,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: bool = True,
) -> tuple[keras.Model, History]:
    """Train a network on `parts.train`; keep the weights of the epoch best on `parts.validation`.

    Args:
        data: maps in counts with their labels.
        parts: row numbers; the test part is not looked at.
        settings: network and training.
        root_seed: of the initial weights, the shuffling and the augmentation.
        checkpoint_dir: where a killed training finds its last epoch. A checkpoint of other data
            or settings is not used. Removed at the end.
        callbacks: any Keras callbacks; each epoch's logs hold what the history holds.
        progress: show one bar over the epochs.

    Returns:
        The network (see `spurious.inference.network`) and the history, including epochs before a
        resume: per epoch the mean negative log-likelihood in nats a map (`loss` on augmented
        training maps, `val_loss`) and the `learning_rate` at its end.

    Raises:
        UserError: the loss is no longer finite, a map holds values that are not, or a label is
            the same in all training maps.
    """
    train_set, validation = data.take(parts.train), data.take(parts.validation)
    _check(train_set, validation)
    network = _network(train_set, settings, root_seed)
    model = _trainable(network, settings, _steps(len(train_set), settings))
    name = _fingerprint(train_set, validation, settings, root_seed, network)
    checkpoint = _Checkpoint(Path(checkpoint_dir) / f"training-{name}.npz")
    first = checkpoint.resume(model)
    bar = tqdm(
        total=settings.epochs, initial=first, desc="training", unit="epoch", disable=not progress
    )
    with bar:
        model.fit(
            _batches(train_set, settings, root_seed, first),
            validation_data=(validation.maps, validation.labels.astype(np.float32)),
            validation_batch_size=256,
            epochs=settings.epochs,
            initial_epoch=first,
            steps_per_epoch=_steps(len(train_set), settings),
            callbacks=[_Watch(settings), *callbacks, _Bar(bar), checkpoint],
            shuffle=False,  # the batches already are
            verbose=0,
        )
    model.set_weights(checkpoint.best)
    checkpoint.remove()
    return network, checkpoint.history


def negative_log_likelihood(labels: Any, packed: Any) -> Any:
    """-log p(labels | map) in nats, shape (batch,), of outputs packed by `pack`."""
    p = labels.shape[-1]
    return -mixture(packed[..., :p], packed[..., p : 2 * p], packed[..., 2 * p]).log_prob(labels)


def pack(means: Any, scales: Any, logits: Any) -> Any:
    """Join a network's three outputs into one tensor (batch, m, 2p + 1).

    Keras computes one loss an output tensor, and the likelihood needs all three at once.
    """
    return ops.concatenate([means, scales, logits[..., None]], axis=-1)


def _check(train_set: MapSet, validation: MapSet) -> None:
    if min(len(train_set), len(validation)) == 0:
        raise ValueError("the training and the validation part must not be empty")
    for part in (train_set, validation):
        if bad := np.sum(~np.isfinite(part.maps).all(axis=(1, 2))):
            raise UserError(f"{bad} of {len(part)} maps hold values that are not finite")
    for name, labels in zip(train_set.names, train_set.labels.T, strict=True):
        if np.ptp(labels) == 0:
            raise UserError(f"{name} is {labels[0]} in all training maps: nothing to infer")


def _network(train_set: MapSet, settings: config.Training, root_seed: int) -> keras.Model:
    """The untrained network, with units and ranges from the training maps alone."""
    low, high = train_set.labels.min(axis=0), train_set.labels.max(axis=0)
    return compact(
        n=train_set.maps.shape[1],
        components=settings.components,
        standardiser=Standardiser.fit(train_set.maps),
        ranges=dict(zip(train_set.names, zip(low, high, strict=True), strict=True)),
        seed=seeds.integer(root_seed, "network"),
    )


def _trainable(network: keras.Model, settings: config.Training, steps: int) -> keras.Model:
    """The network with packed outputs, compiled; it shares the network's weights."""
    model = keras.Model(network.inputs, pack(*network.outputs))
    total = settings.epochs * steps
    warmup = total // 20
    rate = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else settings.learning_rate,
        max(total - warmup, 1),
        alpha=0.01,
        warmup_target=settings.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=settings.weight_decay, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss=negative_log_likelihood, jit_compile=False)
    return model


def _steps(n: int, settings: config.Training) -> int:
    return math.ceil(n / settings.batch_size)


def _batches(
    train_set: MapSet, settings: config.Training, root_seed: int, first_epoch: int
) -> tf.data.Dataset:
    """All batches from `first_epoch` on; each depends on (root seed, epoch, step) alone."""
    steps, size = _steps(len(train_set), settings), settings.batch_size
    labels = train_set.labels.astype(np.float32)

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for epoch in range(first_epoch, settings.epochs):
            order = seeds.generator(root_seed, "shuffle", epoch).permutation(len(train_set))
            for step in range(steps):
                rows = order[step * size : (step + 1) * size]
                maps = train_set.maps[rows]
                if settings.augment:
                    maps = augment(maps, seeds.generator(root_seed, "augment", epoch, step))
                yield maps, labels[rows]

    n, p = train_set.maps.shape[1], labels.shape[1]
    signature = (tf.TensorSpec((None, n, n)), tf.TensorSpec((None, p)))
    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)


def _fingerprint(
    train_set: MapSet,
    validation: MapSet,
    settings: config.Training,
    root_seed: int,
    network: keras.Model,
) -> str:
    """Name of all that decides the course of a training."""
    digest = hashlib.md5(usedforsecurity=False)
    versions = (keras.__version__, tf.__version__)
    text = [settings.model_dump_json(), root_seed, versions, network.to_json()]
    digest.update(json.dumps(text).encode())
    for part in (train_set, validation):
        digest.update(part.maps.tobytes())
        digest.update(part.labels.tobytes())
    return digest.hexdigest()


class _Watch(keras.callbacks.Callback):
    """Add the learning rate to the logs; stop when the loss is no longer finite."""

    def __init__(self, settings: config.Training) -> None:
        super().__init__()
        self.settings = settings

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            rate = self.settings.learning_rate
            raise UserError(
                f"training.learning_rate = {rate}: the loss is not finite in epoch {epoch + 1}; "
                f"try a lower one, such as {rate / 3:.1g}"
            )


class _Bar(keras.callbacks.Callback):
    """One step of a progress bar an epoch."""

    def __init__(self, bar: tqdm) -> None:
        super().__init__()
        self.bar = bar

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        losses = {"loss": f"{logs['loss']:.3f}", "validation": f"{logs['val_loss']:.3f}"}
        self.bar.set_postfix(losses, refresh=False)
        self.bar.update()


class _Checkpoint(keras.callbacks.Callback):
    """Best weights and history so far; with the current state they are on disk after each epoch.

    Keras' own BackupAndRestore keeps neither the best weights nor the history.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.best: list[np.ndarray] = []
        self.history: History = {}

    def resume(self, model: keras.Model) -> int:
        """Read the checkpoint, if there is one, into `model`; return the next epoch's number."""
        self.best = model.get_weights()
        if not self.path.is_file():
            return 0
        try:
            with np.load(self.path) as saved:
                self.history = json.loads(str(saved["history"]))
                self.best = [saved[f"best_{i}"] for i in range(len(self.best))]
                for i, variable in enumerate(_state(model)):
                    variable.assign(saved[f"state_{i}"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.path} is damaged: remove it to train anew") from error
        return len(self.history["loss"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        losses = self.history["val_loss"]
        if losses[-1] == min(losses):
            self.best = self.model.get_weights()
        self._write()

    def _write(self) -> None:
        arrays: dict[str, Any] = {f"best_{i}": value for i, value in enumerate(self.best)}
        arrays |= {f"state_{i}": v.numpy() for i, v in enumerate(_state(self.model))}
        with replacing(self.path) as temporary:
            np.savez(temporary, history=json.dumps(self.history), **arrays)

    def remove(self) -> None:
        """Remove all checkpoints of trainings in the folder, and the folder if then empty."""
        for path in self.path.parent.glob("training-*.npz"):
            path.unlink()
        with suppress(OSError):
            self.path.parent.rmdir()


def _state(model: keras.Model) -> list[keras.Variable]:
    """All that a training step changes: weights, states of random generators, optimizer."""
    return [*model.variables, *model.optimizer.variables]
