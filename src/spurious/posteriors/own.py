"""A user's own model as a posterior: a `.keras` file, a SavedModel, or a function in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from spurious.data.maps import MapSet, Standardiser
from spurious.description.lookup import found, module_of
from spurious.errors import UserError
from spurious.networks.keras_outputs import OUTPUTS
from spurious.networks.model_files import read_model, reason
from spurious.posteriors.posterior import Fit, KerasPosterior, Posterior, from_callable, has_head
from spurious.posteriors.scaling import Scaling
from spurious.posteriors.scaling_file import read_scaling
from spurious.posteriors.trained import NetworkPosterior


def opened(
    model: str, scaling: Path | None, data: MapSet, path: Path, imports: Sequence[str] = ()
) -> Posterior:
    """The posterior of a model of one's own.

    Args:
        model: a `.keras` file, the folder of a SavedModel, or `module:function`.
        scaling: a YAML file with its units. A model of this package needs none; a function without
            one takes maps in counts and returns all parameters of the maps in physical units.
        data: maps, of which the widths of means alone are made.
        path: where the maps are from.
        imports: modules to import first, for layers that they register.

    Raises:
        UserError: it cannot be read; or its scaling is missing, or given although not needed.
    """
    for module in imports:
        _import(module)
    if is_function(model):
        return _of_function(model, scaling, data, path)
    network = SavedModel(Path(model)) if Path(model).is_dir() else read_model(model)
    if not isinstance(network, SavedModel) and has_head(network):
        if scaling is not None:
            raise UserError(f"--scaling {scaling}: {model} is of spurious and knows its units")
        return NetworkPosterior(network)
    if scaling is None:
        raise UserError(
            f"--scaling is missing: a file that says in which units {model} was trained; "
            "see docs/own_model.md"
        )
    units = read_scaling(scaling)
    shape = network.shape if isinstance(network, SavedModel) else None
    return KerasPosterior(network, units, model, _fit(data, units, path), shape)


def is_function(model: str) -> bool:
    """Whether `model` names a function rather than a file."""
    return ":" in model and not Path(model).exists()


def of_parameters(data: MapSet, names: Sequence[str], path: Path) -> np.ndarray:
    """The labels (n, p) of these parameters, in their order.

    Raises:
        UserError: the maps lack one.
    """
    missing = [name for name in names if name not in data.names]
    if missing:
        raise UserError(
            f"{path} has no {missing[0]}: its parameters are {', '.join(data.names)}, those of "
            f"the model {', '.join(names)}"
        )
    return data.labels[:, [data.names.index(name) for name in names]]


class SavedModel:
    """TensorFlow's own format, as `model.export` and `tf.saved_model.save` write it.

    Its graph is run, with whatever operations it has: open only what you trust.

    Raises:
        UserError: it cannot be read, or does not have one input.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._loaded = tf.saved_model.load(str(path))
            self._call = self._loaded.signatures["serving_default"]
        except (OSError, ValueError, KeyError, AttributeError, tf.errors.OpError) as error:
            raise UserError(f"{path} is damaged or no SavedModel: {reason(error)}") from error
        inputs = list(self._call.structured_input_signature[1].items())
        if len(inputs) != 1:
            raise UserError(f"{path} has {len(inputs)} inputs: must have one, the maps")
        self._input, spec = inputs[0]
        self.shape = tuple(spec.shape[1:])
        if len(self.shape) not in (2, 3) or self.shape[2:] not in ((), (1,)):
            raise UserError(
                f"{path} takes inputs of shape {self.shape}: must be (N, N) or (N, N, 1)"
            )

    def __call__(self, maps: Any, training: bool = False) -> Any:
        """Its outputs: by name if they have the documented ones, else in the order of names."""
        outputs = self._call(**{self._input: maps})
        if set(outputs) <= set(OUTPUTS):
            return dict(outputs)
        return [outputs[name] for name in sorted(outputs)]


def _import(module: str) -> None:
    try:
        module_of(module)
    except ValueError as error:
        raise UserError(f"--import {module}: {error}") from error


def _of_function(model: str, scaling: Path | None, data: MapSet, path: Path) -> Posterior:
    """The posterior of `module:function`."""
    try:
        function = found(model.replace(":", "."))
    except ValueError as error:
        raise UserError(f"--model {model}: {error}") from error
    if not callable(function):
        raise UserError(f"--model {model}: is no function")
    if scaling is not None:
        units = read_scaling(scaling)
    else:
        std = Standardiser(float(data.maps.mean()), float(data.maps.std()))
        units = Scaling(std, dict.fromkeys(data.names, (0.0, 1.0)), "counts")
        if isinstance(_first(function, data, model), tfp.distributions.Distribution):
            return from_callable(function, names=data.names, standardiser=std)
    called = _Called(function, model)
    return KerasPosterior(called, units, model, _fit(data, units, path), data.maps.shape[1:])


class _Called:
    """A function as a model is called; what it raises, in one line."""

    def __init__(self, function: Callable[[Any], Any], source: str) -> None:
        self.function, self.source = function, source

    def __call__(self, maps: Any, training: bool = False) -> Any:
        try:
            return self.function(maps)
        except UserError:
            raise
        except Exception as error:  # whatever it raises
            raise ValueError(f"{type(error).__name__}: {reason(error)}") from error


def _first(function: Callable[[Any], Any], data: MapSet, source: str) -> Any:
    """What it gives for two maps."""
    try:
        return _Called(function, source)(tf.constant(data.maps[:2], tf.float32))
    except ValueError as error:
        raise UserError(f"--model {source} fails on two maps in counts: {error}") from error


def _fit(data: MapSet, units: Scaling, path: Path) -> Fit:
    return data.maps, of_parameters(data, units.names, path)
