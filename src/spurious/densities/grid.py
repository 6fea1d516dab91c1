"""A posterior tabulated on a regular grid: constant in each cell of a box, zero outside it.

With a flat prior inside the box this is what a likelihood evaluated at the centres of the cells
gives. Mean, covariance, marginal distribution functions, samples and KL divergences between equal
grids are exact; none is an approximation beyond the tabulation itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions

MAX_PARAMETERS = 3
EDGE = 1e-5  # in box widths: a label on the box's edge stays inside after rounding to float32


class Gridded(tfp.distributions.Distribution):
    """Density over p parameters, constant in each cell of a regular grid.

    Args:
        log_weights: logarithm of each cell's probability up to a constant, (batch, *cells) with
            one axis a parameter; finite.
        ranges: (low, high) of each of the p parameters, p = 1, 2 or 3.

    Raises:
        ValueError: p is none of these, or `log_weights` has too few axes.
    """

    def __init__(
        self,
        log_weights: Any,
        ranges: Sequence[tuple[float, float]],
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "Gridded",
    ) -> None:
        parameters = dict(locals())
        self._ranges = tuple((float(low), float(high)) for low, high in ranges)
        p = len(self._ranges)
        with tf.name_scope(name):
            self._log_weights = tf.convert_to_tensor(log_weights, dtype_hint=tf.float32)
        if not 1 <= p <= MAX_PARAMETERS:
            raise ValueError(f"{p} ranges: must be 1 to {MAX_PARAMETERS}")
        if self._log_weights.shape.rank < p:
            raise ValueError(f"log_weights of shape {self._log_weights.shape} have no {p} axes")
        super().__init__(
            dtype=self._log_weights.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=validate_args,
            allow_nan_stats=allow_nan_stats,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: int | None = None) -> dict[str, Any]:
        return {
            "log_weights": tfp.util.ParameterProperties(event_ndims=lambda self: len(self.ranges))
        }

    @staticmethod
    def join(distributions: Sequence[Gridded]) -> Gridded:
        """One distribution with the batches of all, in order.

        Raises:
            ValueError: their grids differ.
        """
        first = distributions[0]
        for other in distributions:
            _check_equal_grids(first, other)
        return Gridded(tf.concat([d.log_weights for d in distributions], 0), first.ranges)

    @property
    def log_weights(self) -> tf.Tensor:
        """Logarithm of each cell's probability up to a constant, (batch, *cells)."""
        return self._log_weights

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        """(low, high) of each parameter."""
        return self._ranges

    @property
    def cells(self) -> tuple[int, ...]:
        """Number of cells along each parameter."""
        return tuple(self._log_weights.shape[-len(self._ranges) :])

    @property
    def widths(self) -> np.ndarray:
        """Width of a cell along each parameter, (p,)."""
        low, high = np.transpose(self._ranges)
        return (high - low) / self.cells

    def log_probabilities(self) -> tf.Tensor:
        """Normalised logarithm of each cell's probability, (batch, product of cells)."""
        shape = tf.concat([tf.shape(self._log_weights)[: -len(self.cells)], [-1]], 0)
        return tf.nn.log_softmax(tf.reshape(self._log_weights, shape))

    def marginal_cdf(self, theta: Any) -> tf.Tensor:
        """Each parameter's marginal distribution function, exact (piecewise linear).

        Args:
            theta: (..., batch, p).

        Returns:
            Probability below `theta`, of theta's shape.
        """
        position = self._position(theta)
        levels = [
            _interpolated(self._marginal(axis), position[..., axis])
            for axis in range(len(self.cells))
        ]
        return tf.stack(levels, axis=-1)

    def _marginal(self, axis: int) -> tf.Tensor:
        """Probability of each slice of cells along one parameter: (batch, cells of it)."""
        p = len(self.cells)
        probability = tf.reshape(tf.exp(self.log_probabilities()), tf.shape(self._log_weights))
        return tf.reduce_sum(probability, [i - p for i in range(p) if i != axis])

    def _position(self, theta: Any) -> tf.Tensor:
        """Theta in cells from the box's lower corner, with the batch shape made explicit."""
        low, _ = np.transpose(self._ranges)
        position = (tf.convert_to_tensor(theta, self.dtype) - low) / self.widths
        full = tf.concat([self.batch_shape_tensor(), [len(self.cells)]], 0)
        return tf.broadcast_to(position, tf.broadcast_dynamic_shape(tf.shape(position), full))

    def _log_prob(self, theta: Any) -> tf.Tensor:
        position, cells = self._position(theta), np.array(self.cells)
        inside = tf.reduce_all((position >= -EDGE * cells) & (position <= cells * (1 + EDGE)), -1)
        index = tf.clip_by_value(tf.cast(tf.floor(position), tf.int32), 0, cells - 1)
        strides = [math.prod(self.cells[i + 1 :]) for i in range(len(cells))]
        cell = tf.reduce_sum(index * strides, axis=-1)
        value = _gathered(self.log_probabilities(), cell) - math.log(self.widths.prod())
        return tf.where(inside, value, tf.constant(-math.inf, value.dtype))

    def _sample_n(self, n: int, seed: Any = None) -> tf.Tensor:
        """Draw a cell by its inverse distribution function, then a point uniformly inside it."""
        which, where = tfp.random.split_seed(seed, n=2, salt="gridded")
        shape = tf.concat([[n], self.batch_shape_tensor()], 0)
        probability = tf.exp(tf.cast(self.log_probabilities(), tf.float64))
        below = tf.cumsum(probability, axis=-1)
        uniform = tf.random.stateless_uniform(shape, which, dtype=tf.float64)
        level = _batch_first(uniform, below) * below[..., -1:]
        cell = _batch_last(tf.searchsorted(below, level, side="right"), uniform)
        index = tf.unravel_index(tf.reshape(cell, [-1]), self.cells)
        corner = tf.reshape(tf.transpose(index), tf.concat([shape, [len(self.cells)]], 0))
        inside = tf.random.stateless_uniform(tf.shape(corner), where, dtype=self.dtype)
        low, _ = np.transpose(self._ranges)
        return low + (tf.cast(corner, self.dtype) + inside) * self.widths

    def _mean(self) -> tf.Tensor:
        return tf.cast(self._moments()[0], self.dtype)

    def _covariance(self) -> tf.Tensor:
        return tf.cast(self._moments()[1], self.dtype)

    def _variance(self) -> tf.Tensor:
        return tf.linalg.diag_part(self._covariance())

    def _moments(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean (batch, p) and covariance (batch, p, p), in float64.

        A uniform cell of width w adds w^2 / 12 to the variance of its centre.
        """
        probability = tf.exp(tf.cast(self.log_probabilities(), tf.float64))
        centres = cell_centres(self._ranges, self.cells)
        products = (centres[:, :, None] * centres[:, None, :]).reshape(len(centres), -1)
        mean = tf.einsum("...c,ci->...i", probability, centres)
        square = tf.einsum("...c,ci->...i", probability, products)
        p = len(self.cells)
        square = tf.reshape(square, tf.concat([tf.shape(square)[:-1], [p, p]], 0))
        product = mean[..., :, None] * mean[..., None, :]
        return mean, square - product + np.diag(self.widths**2 / 12)

    def _batch_shape(self) -> tf.TensorShape:
        return self._log_weights.shape[: -len(self._ranges)]

    def _batch_shape_tensor(self) -> tf.Tensor:
        return tf.shape(self._log_weights)[: -len(self._ranges)]

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([len(self._ranges)])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant([len(self._ranges)])

    def _default_event_space_bijector(self) -> None:
        return None


@tfd.RegisterKL(Gridded, Gridded)
def _kl(p: Gridded, q: Gridded, name: str | None = None) -> tf.Tensor:
    """KL(p || q) = sum over cells of P (log P - log Q), (batch,): exact on equal grids."""
    _check_equal_grids(p, q)
    with tf.name_scope(name or "kl_gridded"):
        log_p, log_q = p.log_probabilities(), q.log_probabilities()
        return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)


def cell_centres(ranges: Sequence[tuple[float, float]], cells: Sequence[int]) -> np.ndarray:
    """Centres of all cells of a box, (product of cells, p); the last parameter runs fastest."""
    axes = [
        low + (high - low) * (np.arange(count) + 0.5) / count
        for (low, high), count in zip(ranges, cells, strict=True)
    ]
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


def _check_equal_grids(one: Gridded, other: Gridded) -> None:
    if (one.ranges, one.cells) != (other.ranges, other.cells):
        raise ValueError(
            f"grids differ: {one.cells} cells over {one.ranges}, {other.cells} over {other.ranges}"
        )


def _interpolated(probability: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Distribution function at `position` (..., batch) in cells, of cells (batch, count)."""
    count = probability.shape[-1]
    position = tf.clip_by_value(position, 0.0, float(count))
    cell = tf.minimum(tf.cast(tf.floor(position), tf.int32), count - 1)
    below = tf.cumsum(probability, axis=-1, exclusive=True)
    rest = position - tf.cast(cell, position.dtype)
    return _gathered(below, cell) + rest * _gathered(probability, cell)


def _gathered(values: tf.Tensor, cell: tf.Tensor) -> tf.Tensor:
    """`values` (batch, count) at `cell` (..., batch): of cell's shape."""
    found = tf.gather(values, _batch_first(cell, values), batch_dims=values.shape.rank - 1)
    return _batch_last(found, cell)


def _batch_first(draws: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """(..., batch) to (batch, product of ...), as `values` (batch, count) has its batch first."""
    batch = tf.shape(values)[:-1]
    rank = values.shape.rank - 1
    flat = tf.reshape(draws, tf.concat([[-1], batch], 0))
    return tf.transpose(flat, [*range(1, rank + 1), 0])


def _batch_last(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """The inverse of `_batch_first`, with the shape of `like`."""
    rank = values.shape.rank
    return tf.reshape(tf.transpose(values, [rank - 1, *range(rank - 1)]), tf.shape(like))
