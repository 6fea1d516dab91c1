"""A mixture of Gaussians: a mixture density network (Bishop 1994, Aston NCRG/94/004)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from spurious.description.marks import Doc, Inside, Within
from spurious.lazy import keras
from spurious.networks.head import Frame, Head, triangular


@dataclass(frozen=True, kw_only=True)
class MixtureHead(Head):
    """A mixture of m Gaussians (a mixture density network, Bishop 1994).

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
    in half ranges of the row's parameter. The temperature is a factor on the scales.
    """

    components: Annotated[int, Within(1, 32), Doc("Gaussians in the mixture; 1 in the paper")] = 1
    covariance: Annotated[Literal["diagonal", "full"], Doc("diagonal in the paper")] = "diagonal"
    floor: Annotated[
        float,
        Inside(0, 1),
        Doc("smallest scale, in half ranges: keeps one map from an infinite likelihood"),
    ] = 1e-3

    def n_features(self, p: int) -> int:
        """M (2p + 1), or m (2p + p (p - 1) / 2 + 1) with full covariance."""
        return self.components * (2 * p + self._n_below(p) + 1)

    def _n_below(self, p: int) -> int:
        return p * (p - 1) // 2 if self.covariance == "full" else 0

    def outputs(self, features: Any, frame: Frame) -> tuple[Any, Any, Any]:
        """Means, scales and logits."""
        p, half, ops = frame.p, frame.half, keras.ops
        features = ops.reshape(features, (-1, self.components, 2 * p + self._n_below(p) + 1))
        shift, width, logits = features[..., :p], features[..., p : 2 * p], features[..., -1]
        scales = ops.softplus(width) + self.floor
        if self.covariance == "full":
            scales = triangular(scales, features[..., 2 * p : -1])
        scales = (half[:, None] if self.covariance == "full" else half) * scales
        if frame.temperature != 1:
            scales = frame.temperature * scales
        return frame.centre + half * shift, scales, logits

    def distribution(self, outputs: Sequence[Any], frame: Frame) -> Any:
        """The mixture: see `spurious.densities.divergences.mixture`."""
        from spurious.densities.divergences import mixture  # imports TensorFlow Probability

        return mixture(*outputs)
