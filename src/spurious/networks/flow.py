"""A normalising flow of affine maps and rational-quadratic splines (`spurious.densities.flows`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from spurious.description.marks import Doc, Inside, Within
from spurious.lazy import keras
from spurious.networks.head import Frame, Head, triangular

MIN_BIN = 0.02  # smallest bin of a spline over the mean bin
BOUND = 3.0  # of log slopes, log scales, shears and shifts inside a flow


@dataclass(frozen=True, kw_only=True)
class FlowHead(Head):
    """A normalising flow: affine maps and rational-quadratic splines in turn.

    The outputs are the arguments of `spurious.densities.flows.Flow`, in the same order:

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
    `floor`. The temperature is the standard deviation of the base distribution.
    """

    blocks: Annotated[int, Within(1, 8), Doc("splines per parameter")] = 2
    bins: Annotated[int, Within(2, 64), Doc("of each spline")] = 8
    floor: Annotated[
        float,
        Inside(0, 1),
        Doc("smallest scale of the last affine map, in half ranges: no likelihood is infinite"),
    ] = 1e-3

    def n_features(self, p: int) -> int:
        """(blocks + 1) p (p + 3) / 2 of the affine maps, blocks p (3 bins - 1) of the splines."""
        affine = p * (p + 3) // 2
        return (self.blocks + 1) * affine + self.blocks * p * (3 * self.bins - 1)

    def outputs(self, features: Any, frame: Frame) -> tuple[Any, Any, Any, Any, Any]:
        """Shifts, trils, widths, heights and slopes."""
        p, bins, ops = frame.p, self.bins, keras.ops
        n_splines = self.blocks * p * (3 * bins - 1)
        splines = ops.reshape(features[:, :n_splines], (-1, self.blocks, p, 3 * bins - 1))
        affine = ops.reshape(features[:, n_splines:], (-1, self.blocks + 1, p * (p + 3) // 2))
        return (
            *self._affine(affine, frame),
            _bins(splines[..., :bins]),
            _bins(splines[..., bins : 2 * bins]),
            _bounded_exp(splines[..., 2 * bins :]),
        )

    def _affine(self, features: Any, frame: Frame) -> tuple[Any, Any]:
        """Features (batch, blocks + 1, p (p + 3) / 2) to shifts and trils."""
        p, ops = frame.p, keras.ops
        shifts, scales, below = features[..., :p], features[..., p : 2 * p], features[..., 2 * p :]
        last = ops.softplus(scales[:, -1:]) + self.floor
        diagonal = ops.concatenate([_bounded_exp(scales[:, :-1]), last], axis=1)
        shears = ops.concatenate([_bounded(below[:, :-1]), below[:, -1:]], axis=1)
        # Scales times shears: unlike free entries, they cannot make the inverse overflow.
        trils = diagonal[..., None] * triangular(ops.ones_like(diagonal), shears)
        # N(0, T^2 I) as the base is N(0, I) followed by T L_0.
        factors = np.ones((self.blocks + 1, p, 1), np.float32)
        factors[0] *= frame.temperature
        factors[-1] *= frame.half[:, None]
        shifts = ops.concatenate(
            [_bounded(shifts[:, :-1]), frame.centre + frame.half * shifts[:, -1:]], axis=1
        )
        return shifts, factors * trils

    def distribution(self, outputs: Sequence[Any], frame: Frame) -> Any:
        """The flow: see `spurious.densities.flows.Flow`."""
        from spurious.densities.flows import Flow  # imports TensorFlow Probability

        return Flow(*outputs)


def _bins(features: Any) -> Any:
    """Positive sizes of bins (..., bins) with sum 2 REACH; equal where the features are."""
    from spurious.densities.flows import REACH

    bins = features.shape[-1]
    share = (1 - MIN_BIN) * keras.ops.softmax(features, axis=-1) + MIN_BIN / bins
    return 2 * REACH * share


def _bounded(features: Any) -> Any:
    """Like the identity near 0, within +-BOUND everywhere."""
    return BOUND * keras.ops.tanh(features / BOUND)


def _bounded_exp(features: Any) -> Any:
    """Like the exponential near 0, within exp(+-BOUND) everywhere."""
    return keras.ops.exp(_bounded(features))
