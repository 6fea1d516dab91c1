"""Heads: the last layer of every network, from features without limits to a density's parameters.

A head has no weights. It knows the parameters' names and training ranges, so that one `.keras`
file is a whole posterior: `head.distribution(*head(features))`. Features of order one mean
parameters and widths of the order of half a range, so that the loss is equally well conditioned
in every parameter. Outputs are in the parameters' own units. Importing this module registers the
heads with Keras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from spurious.densities.divergences import mixture
from spurious.densities.flows import REACH, Flow

HEAD = "head"
COVARIANCES = ("diagonal", "full")
MIN_BIN = 0.02  # smallest bin of a spline over the mean bin
BOUND = 3.0  # of log slopes, log scales, shears and shifts inside a flow


class Head(keras.layers.Layer):
    """Features (batch, n_features) to the parameters of densities over p parameters.

    Args:
        ranges: parameter name -> (low, high) of the training labels, in the order of the outputs.
        temperature: factor on the widths; 1 leaves the network as trained. May be set later.

    Raises:
        ValueError: an argument is impossible.
    """

    def __init__(
        self, ranges: Mapping[str, Sequence[float]], temperature: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.ranges = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
        self.temperature = float(temperature)
        if not self.ranges or not self.temperature > 0:
            raise ValueError(
                f"ranges = {ranges} must not be empty, temperature = {temperature} > 0"
            )

    @property
    def n_features(self) -> int:
        """Features that the head wants."""
        raise NotImplementedError

    def distribution(self, *outputs: Any) -> Any:
        """The densities of the outputs: batch_shape (batch,), event_shape (p,)."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {"ranges": self.ranges, "temperature": self.temperature}
        return {**super().get_config(), **own}

    @property
    def _p(self) -> int:
        return len(self.ranges)

    @property
    def _centre(self) -> list[float]:
        return [(low + high) / 2 for low, high in self.ranges.values()]

    @property
    def _half(self) -> list[float]:
        return [(high - low) / 2 for low, high in self.ranges.values()]


@keras.saving.register_keras_serializable(package="spurious")
class MixtureHead(Head):
    """Mixture of m Gaussians (mixture density network: Bishop 1994, Aston NCRG/94/004).

    Outputs, in this order:

    ======  ===========  ==============================  ===========================================
    output  name         shape                           meaning
    ======  ===========  ==============================  ===========================================
    0       `means`      (batch, m, p)                   centres
    1       `scales`     (batch, m, p) if diagonal       standard deviations, positive
                         (batch, m, p, p) if full        Cholesky factors, lower-triangular
    2       `logits`     (batch, m)                      log weights, up to a common constant
    ======  ===========  ==============================  ===========================================

    Per Gaussian the features are p means, p widths, (if full) the p (p - 1) / 2 entries below the
    diagonal row by row, and one logit. The diagonal of the scales is softplus(width) + `floor`,
    in half ranges of the row's parameter.

    Args:
        ranges: parameter name -> (low, high), in the order of the outputs.
        components: m, the number of Gaussians.
        covariance: "diagonal" or "full".
        floor: smallest scale, in half ranges; keeps a single map from an infinite likelihood.
        temperature: factor on the scales.
    """

    def __init__(
        self,
        ranges: Mapping[str, Sequence[float]],
        components: int = 1,
        covariance: str = "diagonal",
        floor: float = 1e-3,
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(ranges, temperature, **kwargs)
        if components < 1 or covariance not in COVARIANCES or not floor > 0:
            raise ValueError(
                f"components = {components} must be at least 1, covariance = {covariance!r} one "
                f"of {COVARIANCES}, floor = {floor} > 0"
            )
        self.components = components
        self.covariance = covariance
        self.floor = floor

    @property
    def n_features(self) -> int:
        """M (2p + 1), or m (2p + p (p - 1) / 2 + 1) with full covariance."""
        return self.components * (2 * self._p + self._n_below + 1)

    @property
    def _n_below(self) -> int:
        return self._p * (self._p - 1) // 2 if self.covariance == "full" else 0

    def call(self, features: Any) -> tuple[Any, Any, Any]:
        """Features (batch, n_features) to means, scales and logits."""
        p, half = self._p, np.array(self._half, np.float32)
        features = ops.reshape(features, (-1, self.components, 2 * p + self._n_below + 1))
        shift, width, logits = features[..., :p], features[..., p : 2 * p], features[..., -1]
        scales = ops.softplus(width) + self.floor
        if self.covariance == "full":
            scales = _triangular(scales, features[..., 2 * p : -1])
        scales = (half[:, None] if self.covariance == "full" else half) * scales
        if self.temperature != 1:
            scales = self.temperature * scales
        return self._centre + half * shift, scales, logits

    def distribution(self, *outputs: Any) -> Any:
        """The mixture: see `distributions.mixture`."""
        return mixture(*outputs)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {"components": self.components, "covariance": self.covariance, "floor": self.floor}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="spurious")
class FlowHead(Head):
    """Normalising flow: see `flows.Flow`, whose arguments are the outputs, in the same order.

    ======  ===========  ==============================  ===========================================
    output  name         shape                           meaning
    ======  ===========  ==============================  ===========================================
    0       `shifts`     (batch, blocks + 1, p)          of the affine maps, the last in own units
    1       `trils`      (batch, blocks + 1, p, p)       their matrices, lower-triangular
    2       `widths`     (batch, blocks, p, bins)        of the splines' bins, sum 2 `flows.REACH`
    3       `heights`    (batch, blocks, p, bins)        likewise
    4       `slopes`     (batch, blocks, p, bins - 1)    at the inner knots
    ======  ===========  ==============================  ===========================================

    The features are, per block and parameter, `bins` widths, `bins` heights and `bins` - 1 slopes;
    then, per affine map, p shifts, p scales and the p (p - 1) / 2 shears below the diagonal row by
    row: L = diag(scales) (I + shears), in half ranges for the last map.

    Features of zero give independent Gaussians of 0.69 half ranges. Slopes and inner scales lie
    within a factor of 20 of 1, inner shifts and shears within +-3, and the last scales above
    `floor`, so that no single map has an infinite likelihood.

    Args:
        ranges: parameter name -> (low, high), in the order of the outputs.
        blocks: number of splines per parameter.
        bins: number of bins per spline.
        floor: smallest scale of the last affine map, in half ranges.
        temperature: standard deviation of the base distribution.
    """

    def __init__(
        self,
        ranges: Mapping[str, Sequence[float]],
        blocks: int = 2,
        bins: int = 8,
        floor: float = 1e-3,
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(ranges, temperature, **kwargs)
        if blocks < 1 or bins < 2 or not floor > 0:
            raise ValueError(
                f"blocks = {blocks} must be at least 1, bins = {bins} at least 2, "
                f"floor = {floor} > 0"
            )
        self.blocks = blocks
        self.bins = bins
        self.floor = floor

    @property
    def n_features(self) -> int:
        """(blocks + 1) p (p + 3) / 2 of the affine maps, blocks p (3 bins - 1) of the splines."""
        affine = self._p * (self._p + 3) // 2
        return (self.blocks + 1) * affine + self.blocks * self._p * (3 * self.bins - 1)

    def call(self, features: Any) -> tuple[Any, Any, Any, Any, Any]:
        """Features (batch, n_features) to shifts, trils, widths, heights and slopes."""
        p, bins = self._p, self.bins
        n_splines = self.blocks * p * (3 * bins - 1)
        splines = ops.reshape(features[:, :n_splines], (-1, self.blocks, p, 3 * bins - 1))
        affine = ops.reshape(features[:, n_splines:], (-1, self.blocks + 1, p * (p + 3) // 2))
        return (
            *self._affine(affine),
            _bins(splines[..., :bins]),
            _bins(splines[..., bins : 2 * bins]),
            _bounded_exp(splines[..., 2 * bins :]),
        )

    def _affine(self, features: Any) -> tuple[Any, Any]:
        """Features (batch, blocks + 1, p (p + 3) / 2) to shifts and trils."""
        p = self._p
        shifts, scales, below = features[..., :p], features[..., p : 2 * p], features[..., 2 * p :]
        last = ops.softplus(scales[:, -1:]) + self.floor
        diagonal = ops.concatenate([_bounded_exp(scales[:, :-1]), last], axis=1)
        shears = ops.concatenate([_bounded(below[:, :-1]), below[:, -1:]], axis=1)
        # Scales times shears: unlike free entries, they cannot make the inverse overflow.
        trils = diagonal[..., None] * _triangular(ops.ones_like(diagonal), shears)
        half = np.array(self._half, np.float32)
        # N(0, T^2 I) as the base is N(0, I) followed by T L_0.
        factors = np.ones((self.blocks + 1, p, 1), np.float32)
        factors[0] *= self.temperature
        factors[-1] *= half[:, None]
        shifts = ops.concatenate(
            [_bounded(shifts[:, :-1]), self._centre + half * shifts[:, -1:]], axis=1
        )
        return shifts, factors * trils

    def distribution(self, *outputs: Any) -> Any:
        """The flow: see `flows.Flow`."""
        return Flow(*outputs)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {"blocks": self.blocks, "bins": self.bins, "floor": self.floor}
        return {**super().get_config(), **own}


def _triangular(diagonal: Any, below: Any) -> Any:
    """Lower-triangular matrices (..., p, p) of diagonals and the entries below, by rows."""
    p = diagonal.shape[-1]
    entries = ops.concatenate([diagonal, below, ops.zeros_like(diagonal[..., :1])], axis=-1)
    place = np.full((p, p), p * (p + 1) // 2)
    place[np.diag_indices(p)] = np.arange(p)
    place[np.tril_indices(p, -1)] = p + np.arange(p * (p - 1) // 2)
    return ops.take(entries, place, axis=-1)


def _bins(features: Any) -> Any:
    """Positive sizes of bins (..., bins) with sum 2 REACH; equal where the features are."""
    bins = features.shape[-1]
    share = (1 - MIN_BIN) * ops.softmax(features, axis=-1) + MIN_BIN / bins
    return 2 * REACH * share


def _bounded(features: Any) -> Any:
    """Like the identity near 0, within +-BOUND everywhere."""
    return BOUND * ops.tanh(features / BOUND)


def _bounded_exp(features: Any) -> Any:
    """Like the exponential near 0, within exp(+-BOUND) everywhere."""
    return ops.exp(_bounded(features))
