"""Double backpropagation: a posterior whose density hardly feels the pixels.

Drucker & LeCun (1992, IEEE Trans. Neural Networks 3, 991) penalise the gradient of the loss by the
input; Ross & Doshi-Velez (2018, arXiv:1711.09404) show that it hinders attacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from spurious.defences.double_backpropagation import squared_gradient
from spurious.description.marks import Doc, Within
from spurious.training.defence import Defence, Network


@dataclass(frozen=True, kw_only=True)
class GradientPenalty(Defence):
    """Minimise -log q(y | x) + weight |d log q(y | x) / dz|^2, z the map in standard units.

    The square is summed over a map's pixels: to first order, a change of RMS r standard deviations
    in the worst direction moves log q by r N |d log q / dz| for N x N pixels.
    """

    weight: Annotated[float, Within(0, 1e6), Doc("of the penalty")]

    def loss(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """See `Defence`."""

        def log_prob(at: Any) -> Any:
            return network(at).log_prob(truth)

        value, squared = squared_gradient(log_prob, maps, network.standardiser.std)
        return -value + self.weight * squared
