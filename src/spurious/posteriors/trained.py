"""Posteriors over parameters given a map: maps to TensorFlow Probability distributions."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from spurious.data.maps import Standardiser
from spurious.densities.divergences import concatenate, pooled
from spurious.errors import UserError
from spurious.files import replacing
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.model_files import finish, read_identity, read_model, reason
from spurious.networks.preset import STANDARDISE
from spurious.posteriors import likelihood  # noqa: F401, registers its layers for loading
from spurious.posteriors.posterior import Posterior
from spurious.posteriors.temperature import fit_temperature
from spurious.progress import tqdm


class NetworkPosterior(Posterior):
    """The posterior of a Keras model that ends in a `spurious.networks.head_layer.HeadLayer`.

    Args:
        model: maps (batch, N, N) in counts -> the head's outputs.
        standardiser: by default what the model's layer `standardise` says.
        identity: what the model is, kept in its file: which posterior and training, of which data
            and settings. Whatever JSON can say.

    Raises:
        ValueError: the model has no head, or no standardiser and none was given.
    """

    def __init__(
        self,
        model: keras.Model,
        standardiser: Standardiser | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.identity = dict(identity or {})
        self.head = _head(model)
        self.names = tuple(self.head.ranges)
        self.standardiser = standardiser or standardiser_of(model)

    # Keras needs no AutoGraph, which reads the source of every layer each time a graph is traced.
    @tf.autograph.experimental.do_not_convert
    def __call__(self, maps: Any) -> Any:
        """The posterior of each map; the same for the same maps, as in inference mode."""
        # What does not fit is left to Keras, which says why.
        if isinstance(maps, np.ndarray) and maps.shape[1:] == self.model.inputs[0].shape[1:]:
            outputs = self.head(self._features_of(maps.astype(np.float32)))
        else:
            outputs = self.model(tf.cast(maps, tf.float32), training=False)
        return self.head.distribution(*(outputs if len(self.model.outputs) > 1 else [outputs]))

    @cached_property
    def _below(self) -> keras.Model:
        return keras.Model(self.model.inputs, self.head.input)

    @cached_property
    def _features_of(self) -> Callable[[np.ndarray], tf.Tensor]:
        """All below the head as one graph: twice as fast as layer by layer, for no gradient.

        Without the head, whose temperature may be set later.
        """
        signature = tf.TensorSpec(self.model.inputs[0].shape, tf.float32)
        return tf.function(partial(self._below, training=False), input_signature=[signature])

    def features(self, maps: Any) -> Any:
        """What enters the head, (batch, n_features)."""
        return self._below.predict(maps, batch_size=128, verbose=0)

    def recalibrate(self, maps: Any, truth: np.ndarray) -> None:
        """Set the head's temperature to the best for maps that were not trained on.

        Args:
            maps: (n, N, N) in counts.
            truth: their parameters, (n, p).
        """
        self.head.temperature = fit_temperature(self.head, self.features(maps), truth)

    def save(self, path: Path) -> None:
        """Write the model as one `.keras` file, whole or not at all.

        No time of day is stored: the same weights give the same bytes.
        """
        with replacing(path) as temporary:
            self.model.save(temporary)
            finish(temporary, self.identity)


class Ensemble(Posterior):
    """Several posteriors as one: their equal-weight mixture.

    A deep ensemble (Lakshminarayanan et al. 2017, arXiv:1612.01474) if they are networks that
    differ in nothing but their seeds.

    Args:
        members: posteriors over the same parameters; the first one's standardiser counts.

    Raises:
        ValueError: there are none, or their parameters differ.
    """

    def __init__(self, members: Sequence[Posterior]) -> None:
        if len({tuple(member.names) for member in members}) != 1:
            raise ValueError("an ensemble needs members, all with the same parameters")
        self.members = tuple(members)
        self.names, self.standardiser = members[0].names, members[0].standardiser

    def __call__(self, maps: Any) -> Any:
        """The mixture of the members' posteriors of each map."""
        return pooled([member(maps) for member in self.members])


class Remembered(Posterior):
    """Another posterior that is asked only once for the same array of maps.

    Many perturbations of the same maps share their clean posteriors. Tensors are passed on as they
    are, so that gradients are.

    Args:
        inner: the other posterior.
        size: how many batches of maps it remembers, the latest.
    """

    def __init__(self, inner: Posterior, size: int = 100) -> None:
        self.inner, self.names, self.standardiser = inner, inner.names, inner.standardiser
        self._size = size
        self._known: OrderedDict[bytes, Any] = OrderedDict()

    def __call__(self, maps: Any) -> Any:
        """The inner posterior's distribution."""
        if not isinstance(maps, np.ndarray):
            return self.inner(maps)
        key = hashlib.sha256(f"{maps.shape} {maps.dtype}".encode() + maps.tobytes()).digest()
        if key not in self._known:
            self._known[key] = self.inner(maps)
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def load(path: Path) -> NetworkPosterior:
    """Read a `.keras` file in Keras' safe mode: no code stored in it is run.

    Raises:
        UserError: the file is missing, damaged, unsafe, or no posterior; or a number in it is not
            finite.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is missing: make it with `spurious train`")
    model, identity = read_model(path), read_identity(path)
    try:
        posterior = NetworkPosterior(model, identity=identity)
        _check_numbers(posterior)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged or is no posterior: {reason(error)}") from error
    return posterior


def _check_numbers(posterior: NetworkPosterior) -> None:
    """A ValueError if what is no weight is not finite: the units and the ranges of the labels."""
    units, head = posterior.standardiser, posterior.head
    if not (np.isfinite([units.mean, units.std]).all() and units.std > 0):
        raise ValueError(f"its standardiser has mean = {units.mean}, std = {units.std}")
    for name, (low, high) in head.ranges.items():
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(f"its head has {name} from {low} to {high}")
    if not np.isfinite(head.temperature):
        raise ValueError(f"its head has temperature = {head.temperature}")


def predict(posterior: Posterior, maps: np.ndarray, batch_size: int = 128) -> Any:
    """The posterior of many maps as one distribution, `batch_size` maps in memory at a time."""
    if len(maps) == 0:
        raise ValueError("there are no maps")
    starts = range(0, len(maps), batch_size)
    bar = tqdm(starts, desc="posteriors", unit="batch", delay=2, leave=False)
    return concatenate([posterior(maps[start : start + batch_size]) for start in bar])


def _head(model: keras.Model) -> HeadLayer:
    last = model.layers[-1]
    if not isinstance(last, HeadLayer):
        raise ValueError(
            f"the last layer of {model.name} is no {HEAD} of spurious.networks.head_layer: "
            "bring a model of your own with spurious.Posterior.from_keras"
        )
    return last


def standardiser_of(model: keras.Model) -> Standardiser:
    """The units that the layer `standardise` of a model says.

    Raises:
        ValueError: there is none.
    """
    layers = [layer for layer in model.layers if layer.name == STANDARDISE]
    if len(layers) != 1:
        raise ValueError(f"model {model.name} has no layer {STANDARDISE}: give its standardiser")
    config = layers[0].get_config()
    return Standardiser(float(config["mean"]), float(np.sqrt(config["variance"])))
