"""Posteriors from elsewhere: Keras models, and functions, that know nothing of this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from spurious import seeds
from spurious.errors import UserError
from spurious.inference.distributions import mixture, parameters
from spurious.inference.heads import Head
from spurious.inference.model_files import read_model, reason
from spurious.inference.posterior import Posterior
from spurious.inference.scaling import Scaling, check_units
from spurious.maps import Standardiser

tfd = tfp.distributions

OUTPUTS = ("means", "scales", "logits")
TRIAL_MAPS = 2
TRIAL_PIXELS = 64  # along a side, for models that take any
REPEATABLE = 1e-4  # relative difference between two calls with the same maps, above rounding


class KerasPosterior(Posterior):
    """The posterior of a Keras model that gives a mixture of Gaussians in its own units.

    The model is always called in inference mode. See `from_keras` for what it must give.

    Args:
        model: as described there.
        scaling: its units.
        source: what error messages call it.

    Raises:
        UserError: the model does not fit; in a call, maps have another size than it takes.
    """

    def __init__(self, model: keras.Model, scaling: Scaling, source: str) -> None:
        self.model, self.scaling, self._source = model, scaling, source
        self.names, self.standardiser = scaling.names, scaling.maps
        self._shape = _input_shape(model, source)
        self._try()

    def __call__(self, maps: Any) -> Any:
        """The posterior of each map; the same for the same maps, as in inference mode."""
        means, scales, logits = _components(self._outputs(maps))
        return mixture(*self.scaling.physical(means, scales), logits)

    def _outputs(self, maps: Any) -> list[Any]:
        maps = tf.cast(maps, tf.float32)
        n = self._shape[0] or maps.shape[-1]
        if tuple(maps.shape[1:]) != (n, n):
            raise UserError(
                f"{self._source} takes maps of {_by(self._shape[:2])} pixels, "
                f"not {_by(maps.shape[1:])}"
            )
        x = self.scaling.seen(maps)
        x = x[..., None] if len(self._shape) == 3 else x
        return _listed(self.model(x, training=False), self._source)

    def _try(self) -> None:
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
        _check_shapes(outputs, self.names, self._source)
        _check_values(outputs, self._source)
        if tape.gradient(total, maps) is None:
            raise UserError(f"{self._source} has no gradient with respect to the map")
        for one, other in zip(outputs, self._outputs(maps), strict=True):
            if not np.allclose(one, other, rtol=REPEATABLE, atol=REPEATABLE * np.abs(one).max()):
                raise UserError(
                    f"{self._source} gives the same map different outputs: it must not be random "
                    "in inference mode"
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
        found = self.function(maps)
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


def from_keras(path: Path | str, *, scaling: Scaling) -> KerasPosterior:
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

    Keras' safe mode is on: no code stored in the file is run. Layers that are not Keras' own must
    be registered with `keras.saving.register_keras_serializable`, and their module imported before.

    Args:
        path: the `.keras` file.
        scaling: the model's units; its `labels` name the parameters.

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
    return KerasPosterior(model, scaling, str(path))


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
    return bool(model.layers) and isinstance(model.layers[-1], Head)


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


def _input_shape(model: keras.Model, source: str) -> tuple[int | None, ...]:
    """(N, N) or (N, N, 1), N None if the model takes any size."""
    try:
        shape = model.input_shape  # of a model made of inputs and outputs, or a Sequential
    except AttributeError:
        shape = (model.get_build_config() or {}).get("input_shape") or ()
    if any(isinstance(part, Sequence) for part in shape):
        raise UserError(f"{source} has {len(shape)} inputs: must have one, the maps")
    inner = tuple(shape[1:])
    if len(inner) not in (2, 3) or inner[0] != inner[1] or inner[2:] not in ((), (1,)):
        raise UserError(f"{source} takes inputs of shape {inner}: must be (N, N) or (N, N, 1)")
    return inner


def _listed(outputs: Any, source: str) -> list[Any]:
    """A model's outputs in the documented order, float32."""
    if isinstance(outputs, Mapping):
        found = [key for key in OUTPUTS if key in outputs]
        if len(found) != len(outputs) or found[:2] != list(OUTPUTS[:2]):
            raise UserError(
                f"{source} has outputs {', '.join(map(str, outputs))}: must be means, scales and, "
                "for a mixture, logits"
            )
        outputs = [outputs[key] for key in found]
    if not isinstance(outputs, list | tuple):
        outputs = [outputs]
    if len(outputs) not in (2, 3):
        shapes = ", ".join(str(tuple(output.shape[1:])) for output in outputs)
        raise UserError(
            f"{source} has {len(outputs)} output{'s' * (len(outputs) > 1)}, of shape {shapes} a "
            "map: must be (means, scales) or (means, scales, logits)"
        )
    return [tf.cast(output, tf.float32) for output in outputs]


def _components(outputs: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Means (batch, m, p), scales (batch, m, p) or (batch, m, p, p) and logits (batch, m)."""
    means, scales = outputs[:2]
    if len(means.shape) == 2:
        means, scales = means[:, None], scales[:, None]
    return means, scales, outputs[2] if len(outputs) == 3 else tf.zeros_like(means[..., 0])


def _check_shapes(outputs: Sequence[Any], names: Sequence[str], source: str) -> None:
    p, given = len(names), [tuple(output.shape[1:]) for output in outputs]
    if len(given[0]) not in (1, 2) or given[0][-1] != p:
        raise UserError(
            f"{source} has means of shape {given[0]} a map: must be ({p},) or (m, {p}), for "
            f"{', '.join(names)}"
        )
    if given[1] not in (given[0], (*given[0], p)):
        raise UserError(
            f"{source} has scales of shape {given[1]} a map: must be {given[0]} or "
            f"{(*given[0], p)}, like its means"
        )
    m = given[0][0] if len(given[0]) == 2 else 1
    if (len(given) == 3 and given[2] != (m,)) or (len(given) == 2 and m > 1):
        logits = f"logits of shape {given[2]} a map" if len(given) == 3 else "no logits"
        raise UserError(f"{source} has {logits}: must be ({m},), one for each Gaussian")


def _check_values(outputs: Sequence[Any], source: str) -> None:
    for name, output in zip(OUTPUTS, outputs, strict=False):
        if not np.isfinite(output).all():
            raise UserError(f"{source} has {name} that are not finite on a map of noise")
    _, scales, _ = _components(outputs)
    if len(scales.shape) == 4:
        if np.any(np.triu(scales, 1)):
            raise UserError(f"{source} has scales that are no lower-triangular Cholesky factors")
        scales = tf.linalg.diag_part(scales)
    if not np.min(scales) > 0:
        raise UserError(
            f"{source} has a scale of {np.min(scales):.3g} on a map of noise: must be above 0, a "
            "standard deviation and not its logarithm"
        )


def _by(shape: Sequence[int | None]) -> str:
    return " x ".join("any" if length is None else str(length) for length in shape)
