"""A Keras model that is trained with a defence (`spurious.training.defence`).

The network that comes out has the same layers and the same file as without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spurious import seeds
from spurious.data.maps import NAMES, Standardiser
from spurious.posteriors.posterior import Posterior
from spurious.training.defence import Defence

PURPOSE, FIXED = "defence", "defence on validation maps"


@dataclass(frozen=True)
class Trainee:
    """A Keras model as a `Network`.

    Args:
        model: maps in counts to the outputs that `density` wants.
        density: the model's outputs -> a distribution over the parameters.
        standardiser: see `Network`.
        names: see `Network`.
        training: the mode of the present step.
    """

    model: keras.Model
    density: Callable[[Any], Any]
    standardiser: Standardiser
    names: tuple[str, ...] = NAMES
    training: bool = False

    def __call__(self, maps: Any, training: bool | None = None) -> Any:
        """See `Network`."""
        mode = self.training if training is None else training
        return self.density(self.model(maps, training=mode))


class Defended(keras.Model):
    """A functional Keras model whose training uses a defence; it shares the layers that it is of.

    ```python
    defended = Defended(model, density, defence, Standardiser.fit(maps), seed=1)
    defended.compile(keras.optimizers.Adam(1e-3))
    defended.fit(maps, truth, epochs=20)  # trains `model`
    ```

    The loss that `fit` shows is the defence's. On validation maps it is that with the same random
    draws in every epoch, so that epochs can be compared, and beside it stands the `nll`, the mean
    of -log q(truth | map) of the maps as they are.

    The draws of a step follow from the seed and the optimizer's count of steps alone.

    Args:
        model: maps (batch, N, N) in counts to outputs.
        density: these outputs -> a distribution with batch_shape (batch,) and event_shape (p,).
        defence: what it is trained on.
        standardiser: of the training maps.
        seed: root of the defence's random draws.
        names: the p parameters; only some objectives need them.
    """

    def __init__(
        self,
        model: keras.Model,
        density: Callable[[Any], Any],
        defence: Defence,
        standardiser: Standardiser,
        seed: int,
        names: Sequence[str] = NAMES,
    ) -> None:
        outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
        super().__init__(model.inputs[0], outputs)
        self.defence = defence
        self._parts = density, standardiser, tuple(names)
        self._seeds = seeds.stateless(seed, PURPOSE), seeds.stateless(seed, FIXED)
        self._means = [keras.metrics.Mean(name="loss"), keras.metrics.Mean(name="nll")]

    def compile(self, optimizer: Any, **options: Any) -> None:
        """As Keras does, without a loss; by default not by XLA, which attacks may not allow."""
        super().compile(optimizer, **{"jit_compile": False, **options})

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """What is set back when an epoch begins."""
        return list(self._means)

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step downhill on the defence's loss."""
        maps, truth, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            each = self.defence.loss(self._network(True), maps, truth, self._step_seed())
            loss = tf.reduce_mean(each)
            # Gradients of replicas are summed.
            share = loss / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(share)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, weights), weights, strict=True))
        return self._running_means({"loss": each})

    def test_step(self, data: Any) -> dict[str, Any]:
        """The defence's loss with fixed draws, and the plain one."""
        maps, truth, _ = keras.utils.unpack_x_y_sample_weight(data)
        network = self._network(False)
        each = self.defence.loss(network, maps, truth, tf.constant(self._seeds[1]))
        return self._running_means({"loss": each, "nll": -network(maps).log_prob(truth)})

    def _network(self, training: bool) -> Trainee:
        return Trainee(self, *self._parts, training)

    def _step_seed(self) -> tf.Tensor:
        """Another pair in each step and on each replica."""
        fold = tf.random.experimental.stateless_fold_in
        step = fold(tf.constant(self._seeds[0]), tf.cast(self.optimizer.iterations, tf.int64))
        context = tf.distribute.get_replica_context()
        return fold(step, context.replica_id_in_sync_group if context else 0)

    def _running_means(self, values: dict[str, tf.Tensor]) -> dict[str, Any]:
        """The means over the epoch so far of values (batch,), with these added."""
        means = {mean.name: mean for mean in self._means if mean.name in values}
        for name, mean in means.items():
            mean.update_state(values[name])
        return {name: mean.result() for name, mean in means.items()}


@dataclass(frozen=True)
class Finished:
    """A posterior that is trained no further, as a `Network`."""

    posterior: Posterior

    @property
    def names(self) -> tuple[str, ...]:
        """See `Network`."""
        return self.posterior.names

    @property
    def standardiser(self) -> Standardiser:
        """See `Network`."""
        return self.posterior.standardiser

    def __call__(self, maps: Any, training: bool | None = None) -> Any:
        """See `Network`."""
        return self.posterior(maps)


def maps_shown(
    defence: Defence,
    posterior: Posterior,
    maps: np.ndarray,
    truth: np.ndarray,
    seed: int,
    batch_size: int = 256,
) -> np.ndarray:
    """Maps as a defence shows them to a posterior that is trained, with its fixed draws.

    Args:
        defence: what the posterior was trained against.
        posterior: as it is now.
        maps: (n, N, N), counts.
        truth: their parameters, (n, p).
        seed: root of the draws.
        batch_size: maps at a time, which sets the memory.

    Returns:
        (n, N, N), counts.
    """
    pair, network = tf.constant(seeds.stateless(seed, FIXED)), Finished(posterior)
    one = tf.function(
        lambda maps, truth: defence.shown(network, maps, truth, pair), autograph=False
    )
    rows = [slice(first, first + batch_size) for first in range(0, len(maps), batch_size)]
    parts = [one(tf.constant(maps[r]), tf.constant(truth[r], maps.dtype)) for r in rows]
    return np.concatenate([part.numpy() for part in parts])
