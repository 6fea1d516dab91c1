"""Posteriors over parameters given a map, as TensorFlow Probability distributions.

A `Posterior` is any callable from maps (batch, N, N) in counts to a distribution with
batch_shape (batch,) and event_shape (p,), differentiable in the maps: a network
(`NetworkPosterior`), a baseline, or a closed form in a test.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tqdm import tqdm

from spurious.errors import UserError
from spurious.files import replacing
from spurious.inference.network import HEAD, STANDARDISE, MixtureHead
from spurious.maps import Standardiser

tfd = tfp.distributions


class Posterior(Protocol):
    """Maps (batch, N, N) in counts to p(parameters | map)."""

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in the order of the distribution's last axis."""
        ...

    @property
    def standardiser(self) -> Standardiser:
        """The units in which the posterior sees a map."""
        ...

    def __call__(self, maps: Any) -> Any:
        """The distribution: batch_shape (batch,), event_shape (p,)."""
        ...


class NetworkPosterior:
    """The posterior of a Keras model with the outputs described in `spurious.inference.network`.

    Args:
        model: maps (batch, N, N) in counts -> (means, scales, logits) in physical units.
        names: the parameters; by default what the model's `MixtureHead` says.
        standardiser: by default what the model's layer `standardise` says.

    Raises:
        ValueError: the model's inputs or outputs have other shapes, or it carries no names or
            standardiser and none were given.
    """

    def __init__(
        self,
        model: keras.Model,
        names: Sequence[str] | None = None,
        standardiser: Standardiser | None = None,
    ) -> None:
        self.model = model
        self.names = tuple(names) if names is not None else _names(model)
        self.standardiser = standardiser or _standardiser(model)
        _check_shapes(model, len(self.names))

    def __call__(self, maps: Any) -> Any:
        """The posterior of each map; the same for the same maps, as in inference mode."""
        return mixture(*self.model(tf.cast(maps, tf.float32), training=False))

    def save(self, path: Path) -> None:
        """Write the model as one `.keras` file, whole or not at all.

        No time of day is stored: the same weights give the same bytes.
        """
        with replacing(path) as temporary:
            self.model.save(temporary)
            _forget_time(temporary)


def load(path: Path) -> NetworkPosterior:
    """Read a `.keras` file in Keras' safe mode: no code stored in it is run.

    Raises:
        UserError: the file is missing, damaged, unsafe, or no posterior.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is missing: make it with `spurious train`")
    try:
        return NetworkPosterior(keras.saving.load_model(path, compile=False, safe_mode=True))
    except Exception as error:  # Keras raises whatever the damage provokes
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is damaged or is no posterior: {reason}") from error


def mixture(means: Any, scales: Any, logits: Any) -> Any:
    """Mixture of m Gaussians with diagonal covariance, per map.

    Args:
        means: (batch, m, p).
        scales: standard deviations, (batch, m, p).
        logits: (batch, m).

    Returns:
        For m = 1 a `MultivariateNormalDiag`, whose KL divergences are exact. Otherwise a
        `MixtureSameFamily` whose samples have gradients to all three (without `reparameterize`
        and `Independent` the gradient to the logits would silently be zero).
    """
    if means.shape[1] == 1:
        return tfd.MultivariateNormalDiag(means[:, 0], scales[:, 0])
    return tfd.MixtureSameFamily(
        tfd.Categorical(logits=logits),
        tfd.Independent(tfd.Normal(means, scales), 1),
        reparameterize=True,
    )


def kl(p: Any, q: Any, n_samples: int = 1024, seed: tuple[int, int] = (0, 0)) -> tf.Tensor:
    """KL(p || q) = E_p[log p - log q] per map, shape (batch,), in nats.

    Exact where TensorFlow Probability knows the closed form (m = 1). Otherwise the mean over
    `n_samples` draws from p: the same seed draws the same random numbers, so that differences
    between two perturbations are not drowned in sampling noise.
    """
    return kl_and_error(p, q, n_samples, seed)[0]


def kl_and_error(
    p: Any, q: Any, n_samples: int = 1024, seed: tuple[int, int] = (0, 0)
) -> tuple[tf.Tensor, tf.Tensor]:
    """KL(p || q) and the standard error of its estimate (zero where it is exact), both (batch,)."""
    try:
        value = p.kl_divergence(q)
        return value, tf.zeros_like(value)
    except NotImplementedError:
        samples = p.sample(n_samples, seed=seed)
        log_ratio = p.log_prob(samples) - q.log_prob(samples)
        error = tf.math.reduce_std(log_ratio, axis=0) / n_samples**0.5
        return tf.reduce_mean(log_ratio, axis=0), error


def predict(posterior: Posterior, maps: np.ndarray, batch_size: int = 128) -> Any:
    """The posterior of many maps as one distribution, `batch_size` maps in memory at a time."""
    if len(maps) == 0:
        raise ValueError("there are no maps")
    starts = range(0, len(maps), batch_size)
    bar = tqdm(starts, desc="posteriors", unit="batch", delay=2, leave=False)
    return concatenate([posterior(maps[start : start + batch_size]) for start in bar])


def concatenate(distributions: Sequence[Any]) -> Any:
    """Join distributions along their batch axis, keeping their kind (and so their exact KL)."""
    first = distributions[0]
    if len(distributions) == 1:
        return first
    if all(isinstance(d, tfd.MultivariateNormalDiag) for d in distributions):
        means, scales = ([getattr(d, m)() for d in distributions] for m in ("mean", "stddev"))
        return tfd.MultivariateNormalDiag(tf.concat(means, 0), tf.concat(scales, 0))
    if all(_is_mixture(d) for d in distributions):
        parts = [parameters(d) for d in distributions]
        return mixture(*(tf.concat(part, 0) for part in zip(*parts, strict=True)))
    return tfd.BatchConcat(distributions, axis=0)


def parameters(distribution: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Means (batch, m, p), scales (batch, m, p) and logits (batch, m): the inverse of `mixture`."""
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        mean, scale = distribution.mean(), distribution.stddev()
        return mean[:, None], scale[:, None], tf.zeros_like(mean[:, :1])
    if _is_mixture(distribution):
        normals = distribution.components_distribution.distribution
        return normals.loc, normals.scale, distribution.mixture_distribution.logits_parameter()
    raise ValueError(f"{distribution.name} is no mixture of Gaussians with diagonal covariance")


def _is_mixture(distribution: Any) -> bool:
    """Whether `mixture` could have made it with m > 1."""
    if not isinstance(distribution, tfd.MixtureSameFamily):
        return False
    components = distribution.components_distribution
    return isinstance(components, tfd.Independent) and isinstance(
        components.distribution, tfd.Normal
    )


def _names(model: keras.Model) -> tuple[str, ...]:
    heads = [layer for layer in model.layers if isinstance(layer, MixtureHead)]
    if len(heads) != 1:
        raise ValueError(f"model {model.name} has no layer {HEAD}: give the names of its outputs")
    return tuple(heads[0].ranges)


def _standardiser(model: keras.Model) -> Standardiser:
    layers = [layer for layer in model.layers if layer.name == STANDARDISE]
    if len(layers) != 1:
        raise ValueError(f"model {model.name} has no layer {STANDARDISE}: give its standardiser")
    config = layers[0].get_config()
    return Standardiser(float(config["mean"]), float(np.sqrt(config["variance"])))


def _check_shapes(model: keras.Model, p: int) -> None:
    outputs = [tuple(output.shape) for output in model.outputs]
    m = outputs[0][1] if outputs and len(outputs[0]) == 3 else None
    if outputs != [(None, m, p), (None, m, p), (None, m)]:
        raise ValueError(
            f"model {model.name} has outputs of shapes {outputs}, expected means (None, m, {p}), "
            f"scales (None, m, {p}) and logits (None, m)"
        )


def _forget_time(path: Path) -> None:
    """Write a `.keras` archive anew without the times at which it and its members were made."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(members["metadata.json"])
    members["metadata.json"] = json.dumps({**metadata, "date_saved": ""}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
