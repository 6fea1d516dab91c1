"""Input and outputs of a user's model, checked against what a posterior needs.

`spurious.posteriors.posterior.from_keras` documents both. `source` names the model in messages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from spurious.densities.mixtures import parameters
from spurious.errors import UserError

tfd = tfp.distributions

OUTPUTS = ("means", "scales", "logits")


def input_shape(model: keras.Model, source: str) -> tuple[int | None, ...]:
    """(N, N) or (N, N, 1), N None if the model takes any size.

    Raises:
        UserError: the model has several inputs, or one of another shape.
    """
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


def advice(model: Any, means: str = "means", scales: str = "scales") -> str:
    """How to make a model return these: a Keras model is wrapped, a function can be changed."""
    if getattr(model, "inputs", None):
        return f"wrap it: keras.Model(model.inputs, [{means}, {scales}])"
    return f"let it return [{means}, {scales}]"


def bare(distribution: Any) -> Any:
    """The distribution alone, of one that a layer of TensorFlow Probability made a tensor too."""
    found = getattr(distribution, "tensor_distribution", distribution)
    components = getattr(found, "components_distribution", None)
    if hasattr(components, "tensor_distribution"):
        return tfd.MixtureSameFamily(found.mixture_distribution, bare(components))
    return found


def listed(outputs: Any, source: str, p: int, model: Any = None) -> list[Any]:
    """A model's outputs in the documented order, float32; means alone stay alone.

    Args:
        outputs: what the model returned: tensors, a list or dictionary of them, a distribution.
        source: what error messages call the model.
        p: how many parameters there are.
        model: which gave them, to say how it can be mended.

    Raises:
        UserError: there are too few or too many, or a dictionary has other keys.
    """
    if isinstance(outputs, tfd.Distribution):
        outputs = _of_distribution(bare(outputs), source)
    if isinstance(outputs, Mapping) and list(outputs) != ["means"]:
        found = [key for key in OUTPUTS if key in outputs]
        if len(found) != len(outputs) or found[:2] != list(OUTPUTS[:2]):
            raise UserError(
                f"{source} has outputs {', '.join(map(str, outputs))}: must be means, scales and, "
                f"for a mixture, logits; {advice(model)}"
            )
        outputs = [outputs[key] for key in found]
    if isinstance(outputs, Mapping):
        outputs = outputs["means"]
    if not isinstance(outputs, list | tuple):
        outputs = [outputs]
    if len(outputs) == 1:
        outputs = _of_one(outputs[0], source, p, model)
    if len(outputs) not in (1, 2, 3):
        raise UserError(
            f"{source} has {len(outputs)} outputs, of shape {_shapes(outputs)} a map: must be "
            f"(means, scales) or (means, scales, logits); {advice(model)}"
        )
    return [tf.cast(output, tf.float32) for output in outputs]


def _of_one(output: Any, source: str, p: int, model: Any) -> list[Any]:
    """Means, or means and scales, of a model with one output: (batch, p) or (batch, 2 p)."""
    shape = tuple(output.shape[1:])
    if shape == (p,):
        return [output]
    if shape == (2 * p,):
        return [output[:, :p], output[:, p:]]
    raise UserError(
        f"{source} has 1 output, of shape {shape} a map: must be ({p},), the means, or ({2 * p},), "
        f"means and then standard deviations; {advice(model)}"
    )


def _of_distribution(found: Any, source: str) -> list[Any]:
    """Means, scales and logits of a Gaussian, or of a mixture of them."""
    if isinstance(found, tfd.Independent) and isinstance(found.distribution, tfd.Normal):
        return [found.distribution.loc, found.distribution.scale]
    if isinstance(found, tfd.Normal):
        return [found.loc, found.scale]
    try:
        return list(parameters(found))
    except ValueError:
        raise UserError(
            f"{source} returns a {type(found).__name__}: must be a Gaussian or a mixture of them; "
            "wrap it: a function that returns it in physical units, as --model MODULE:FUNCTION "
            "without --scaling"
        ) from None


def _shapes(outputs: Sequence[Any]) -> str:
    return ", ".join(str(tuple(output.shape[1:])) for output in outputs)


def components(outputs: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Means (batch, m, p), scales (batch, m, p) or (batch, m, p, p) and logits (batch, m)."""
    means, scales = outputs[:2]
    if len(means.shape) == 2:
        means, scales = means[:, None], scales[:, None]
    return means, scales, outputs[2] if len(outputs) == 3 else tf.zeros_like(means[..., 0])


def check_shapes(
    outputs: Sequence[Any], names: Sequence[str], source: str, model: Any = None
) -> None:
    """Refuse outputs whose shapes are not those of a mixture over the parameters `names`.

    Args:
        outputs: means, scales and, for a mixture, logits.
        names: the p parameters.
        source: what error messages call the model.
        model: which gave them, to say how it can be mended.

    Raises:
        UserError: one line that names the output and the shapes allowed.
    """
    p, given = len(names), [tuple(output.shape[1:]) for output in outputs]
    if len(given[0]) not in (1, 2) or given[0][-1] != p:
        raise UserError(
            f"{source} has means of shape {given[0]} a map: must be ({p},) or (m, {p}), for "
            f"{', '.join(names)}; {advice(model)}"
        )
    if given[1] not in (given[0], (*given[0], p)):
        raise UserError(
            f"{source} has scales of shape {given[1]} a map: must be {given[0]} or "
            f"{(*given[0], p)}, like its means; "
            + advice(model, scales=_reshaped(given[1], given[0], (*given[0], p)))
        )
    m = given[0][0] if len(given[0]) == 2 else 1
    if (len(given) == 3 and given[2] != (m,)) or (len(given) == 2 and m > 1):
        logits = f"logits of shape {given[2]} a map" if len(given) == 3 else "no logits"
        raise UserError(f"{source} has {logits}: must be ({m},), one for each Gaussian")


def _reshaped(found: tuple[int, ...], *allowed: tuple[int, ...]) -> str:
    """How scales of a shape that was found get one that is allowed, in Python."""
    for shape in allowed:
        if math.prod(found) == math.prod(shape):
            return f"keras.ops.reshape(scales, {(-1, *shape)})"
    same = all(have in (1, want) for have, want in zip(found, allowed[0], strict=False))
    if len(found) == len(allowed[0]) and same:  # one width for all
        return "scales * keras.ops.ones_like(means)"
    return "scales"


def check_values(outputs: Sequence[Any], source: str) -> None:
    """Refuse numbers that are not finite, and scales that are no standard deviations.

    Raises:
        UserError: one line that names the output and what is wrong.
    """
    for name, output in zip(OUTPUTS, outputs, strict=False):
        if not np.isfinite(output).all():
            raise UserError(f"{source} has {name} that are not finite on a map of noise")
    _, scales, _ = components(outputs)
    if len(scales.shape) == 4:
        if np.any(np.triu(scales, 1)):
            raise UserError(f"{source} has scales that are no lower-triangular Cholesky factors")
        scales = tf.linalg.diag_part(scales)
    if not np.min(scales) > 0:
        raise UserError(
            f"{source} has a scale of {np.min(scales):.3g} on a map of noise: must be above 0, a "
            "standard deviation and not its logarithm"
        )


def as_text(shape: Sequence[int | None]) -> str:
    """A shape in words: `64 x 64`, or `any` for a side that is free."""
    return " x ".join("any" if length is None else str(length) for length in shape)
