"""The interface of every posterior, and posteriors of users' own Keras models and functions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from spurious import seeds
from spurious.data.maps import Standardiser
from spurious.densities.divergences import mixture, parameters
from spurious.errors import UserError
from spurious.networks.head_layer import HeadLayer
from spurious.networks.keras_outputs import (
    as_text,
    bare,
    check_shapes,
    check_values,
    components,
    input_shape,
    listed,
)
from spurious.networks.model_files import read_model, reason
from spurious.posteriors.scaling import Scaling, check_units

tfd = tfp.distributions

Fit = tuple[np.ndarray, np.ndarray]
"""Maps (n, N, N) in counts and their parameters (n, p), of which widths are made."""

TRIAL_MAPS = 2
TRIAL_PIXELS = 64  # along a side, for models that take any
FEWEST = 8  # maps of which a width can be made: to a quarter, if the errors are Gaussian
BATCH = 128  # maps at a time, where a width is made
REPEATABLE = 1e-4  # relative difference between two calls with the same maps, above rounding


class Posterior(ABC):
    """Maps (batch, N, N) in counts to p(parameters | map), differentiable in the maps.

    Whatever is called with maps and has these two attributes can be attacked.

    Attributes:
        names: the p parameters, in the order of the distribution's last axis.
        standardiser: the units in which the posterior sees a map; budgets are given in them.
    """

    names: tuple[str, ...]
    standardiser: Standardiser

    @abstractmethod
    def __call__(self, maps: Any) -> Any:
        """The distribution over physical parameters: batch_shape (batch,), event_shape (p,).

        It has `log_prob`, `sample`, `mean`, `stddev` and `covariance`;
        `spurious.densities.divergences.kl` compares two of them.
        """

    @staticmethod
    def from_keras(path: Path | str, *, scaling: Scaling, fit: Fit | None = None) -> Posterior:
        """The posterior of any Keras 3 model; see `spurious.posteriors.posterior.from_keras`."""
        return from_keras(path, scaling=scaling, fit=fit)

    @staticmethod
    def from_callable(
        function: Callable[[Any], Any], *, names: Sequence[str], standardiser: Standardiser
    ) -> Posterior:
        """The posterior of any function; see `spurious.posteriors.posterior.from_callable`."""
        return from_callable(function, names=names, standardiser=standardiser)


class KerasPosterior(Posterior):
    """The posterior of a Keras model that gives a mixture of Gaussians in its own units.

    The model is always called in inference mode. See `from_keras` for what it must give.

    Args:
        model: as described there, or what is called like one.
        scaling: its units.
        source: what error messages call it.
        fit: maps and their parameters, of which the widths of means alone are made.
        shape: of one input; by default the model says it.

    Attributes:
        widths: those of means alone, (p,) in the model's units; None if it gives its own.

    Raises:
        UserError: the model does not fit; in a call, maps have another size than it takes.
    """

    def __init__(
        self,
        model: Any,
        scaling: Scaling,
        source: str,
        fit: Fit | None = None,
        shape: tuple[int | None, ...] | None = None,
    ) -> None:
        self.model, self.scaling, self._source = model, scaling, source
        self.names, self.standardiser = scaling.names, scaling.maps
        self._shape = input_shape(model, source) if shape is None else shape
        self.widths: np.ndarray | None = None
        self._try(fit)

    def __call__(self, maps: Any) -> Any:
        """The posterior of each map; the same for the same maps, as in inference mode."""
        means, scales, logits = components(self._complete(self._outputs(maps)))
        return mixture(*self.scaling.physical(means, scales), logits)

    def _outputs(self, maps: Any) -> list[Any]:
        maps = tf.cast(maps, tf.float32)
        n = self._shape[0] or maps.shape[-1]
        if tuple(maps.shape[1:]) != (n, n):
            raise UserError(
                f"{self._source} takes maps of {as_text(self._shape[:2])} pixels, "
                f"not {as_text(maps.shape[1:])}"
            )
        x = self.scaling.seen(maps)
        x = x[..., None] if len(self._shape) == 3 else x
        outputs = self.model(x, training=False)
        return listed(outputs, self._source, len(self.names), self.model)

    def _complete(self, outputs: list[Any]) -> list[Any]:
        """Means alone get the widths that were made for them."""
        if len(outputs) == 1 and self.widths is not None:
            return [*outputs, tf.zeros_like(outputs[0]) + self.widths]
        return outputs

    def _widths(self, fit: Fit | None) -> np.ndarray:
        """The RMS error of the means, in the model's units.

        Raises:
            UserError: there are no maps, or too few, or there is no error.
        """
        need = f"its maps and their parameters, at least {FEWEST}, make the widths"
        if fit is None:
            raise UserError(f"{self._source} gives means alone: give fit=(maps, labels); {need}")
        maps, labels = fit
        if len(maps) < FEWEST:
            raise UserError(f"{self._source} gives means alone, and there are {len(maps)}: {need}")
        starts = range(0, len(maps), BATCH)
        means = np.concatenate([self._outputs(maps[i : i + BATCH])[0] for i in starts])
        shift, scale = np.array(list(self.scaling.labels.values())).T
        found = np.sqrt(np.mean((means - (labels - shift) / scale) ** 2, axis=0))
        if not (np.isfinite(found).all() and found.min() > 0):
            raise UserError(f"{self._source} has errors of {found.tolist()}: must be finite, not 0")
        return np.asarray(found, np.float32)

    def _try(self, fit: Fit | None) -> None:
        """Refuse a model whose outputs for random maps cannot be a posterior's."""
        n = self._shape[0] or TRIAL_PIXELS
        z = seeds.generator(0, "trial maps", 0).normal(size=(TRIAL_MAPS, n, n))
        maps = tf.constant(np.maximum(self.standardiser.inverse(z), 0), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            try:
                outputs = self._outputs(maps)
            except (ValueError, tf.errors.OpError) as error:
                raise UserError(
                    f"{self._source} does not take a map of {n} x {n} pixels: {reason(error)}"
                ) from error
            total = tf.add_n([tf.reduce_sum(output) for output in outputs])
        if len(outputs) == 1:
            self.widths = self._widths(fit)
            outputs = self._complete(outputs)
        check_shapes(outputs, self.names, self._source, self.model)
        check_values(outputs, self._source)
        if tape.gradient(total, maps) is None:
            raise UserError(f"{self._source} has no gradient with respect to the map")
        for one, other in zip(outputs, self._complete(self._outputs(maps)), strict=True):
            if not np.allclose(one, other, rtol=REPEATABLE, atol=REPEATABLE * np.abs(one).max()):
                raise UserError(
                    f"{self._source} gives the same map different outputs: it must not be random "
                    "in inference mode; of a distribution, it must return the mean and the "
                    "standard deviation"
                )


class CallablePosterior(Posterior):
    """The posterior that a function gives: see `from_callable`."""

    def __init__(
        self, function: Callable[[Any], Any], names: Sequence[str], standardiser: Standardiser
    ) -> None:
        self.function, self.names, self.standardiser = function, tuple(names), standardiser

    def __call__(self, maps: Any) -> Any:
        """The function's distribution, if it has the right shapes."""
        maps = tf.cast(maps, tf.float32)
        found = bare(self.function(maps))
        source = getattr(self.function, "__name__", repr(self.function))
        if not isinstance(found, tfd.Distribution):
            raise UserError(
                f"{source} returned {type(found).__name__}: must be a distribution of TensorFlow "
                "Probability"
            )
        batch, event = found.batch_shape, found.event_shape
        if not (batch.is_compatible_with(maps.shape[:1]) and event == (len(self.names),)):
            raise UserError(
                f"{source} returned a distribution of batch_shape {batch} and event_shape {event}: "
                f"must be ({maps.shape[0]},), the maps, and ({len(self.names)},), "
                f"{', '.join(self.names)}"
            )
        return _with_gradients(found, tf.shape(maps)[0])


def from_keras(path: Path | str, *, scaling: Scaling, fit: Fit | None = None) -> KerasPosterior:
    """The posterior of a Keras model saved by `model.save("name.keras")`.

    The model takes maps (batch, N, N) or (batch, N, N, 1), of one size or of any, and gives a
    tuple in this order, or a dict with these keys, for p parameters:

    ========  ====================================================================================
    output    shape
    ========  ====================================================================================
    `means`   (batch, p); or (batch, m, p) for a mixture of m Gaussians
    `scales`  standard deviations, of the same shape; or with one more axis of length p, lower-
              triangular Cholesky factors of the covariances. Not their logarithms.
    `logits`  (batch, m): log weights up to a constant; may be left out if m = 1
    ========  ====================================================================================

    Also one tensor (batch, 2 p), means and then standard deviations; a Gaussian of TensorFlow
    Probability or a mixture of them; or means alone, (batch, p), whose widths are then the RMS
    error on the maps of `fit`.

    Keras' safe mode is on: no code stored in the file is run. Layers that are not Keras' own must
    be registered with `keras.saving.register_keras_serializable`, and their module imported before.

    Args:
        path: the `.keras` file.
        scaling: the model's units; its `labels` name the parameters.
        fit: maps (n, N, N) in counts and their parameters (n, p), for a model of means alone.

    Raises:
        UserError: one line that says what is wrong with the file, the model or the scaling.
    """
    if not isinstance(scaling, Scaling):
        raise UserError(
            f"scaling = {scaling!r}: give a Scaling(maps=Standardiser(mean, std), "
            "labels={name: (shift, scale)}), the units that the model was trained in"
        )
    model = read_model(path)
    if has_head(model):
        raise UserError(
            f"{path} ends in a head of spurious and knows its units: read it with "
            "spurious.load_posterior"
        )
    return KerasPosterior(model, scaling, str(path), fit)


def from_callable(
    function: Callable[[Any], Any], *, names: Sequence[str], standardiser: Standardiser
) -> CallablePosterior:
    """The posterior of a function from maps to a distribution.

    Args:
        function: maps (batch, N, N) in counts, float32 -> a distribution of TensorFlow Probability
            with batch_shape (batch,) and event_shape (p,) in physical units, differentiable in the
            maps, which must not depend on each other.
        names: the p parameters.
        standardiser: its standard deviation is the unit `std` of budgets.

    Raises:
        UserError: an argument is missing; in a call, the function returns something else.
    """
    if isinstance(names, str) or not names or len(set(names)) != len(names):
        raise UserError(f"names = {names!r}: must name each parameter once")
    check_units("standardiser", standardiser)
    return CallablePosterior(function, names, standardiser)


def has_head(model: keras.Model) -> bool:
    """Whether a model is one of this package's, with its units inside."""
    return bool(model.layers) and isinstance(model.layers[-1], HeadLayer)


def _with_gradients(distribution: Any, batch: Any) -> Any:
    """The same distribution; a mixture of Gaussians as ours, whose samples have all gradients."""
    if not isinstance(distribution, tfd.MixtureSameFamily):
        return distribution
    try:
        means, scales, logits = parameters(distribution)
    except ValueError:
        return distribution
    components = distribution.components_distribution
    m, p = components.batch_shape[-1], components.event_shape[-1]
    full = [batch, m, p, p] if isinstance(components, tfd.MultivariateNormalTriL) else [batch, m, p]
    return mixture(
        tf.broadcast_to(means, [batch, m, p]),
        tf.broadcast_to(scales, full),
        tf.broadcast_to(logits, [batch, m]),
    )
