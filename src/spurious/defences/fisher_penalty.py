"""A penalty on the Fisher information of the pixels: how far they move the posterior's mean.

It is double backpropagation (Drucker & LeCun 1992, IEEE Trans. Neural Networks 3, 991) of the
posterior's mean instead of its density at the truth, so that no label enters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from spurious.defences.double_backpropagation import information
from spurious.description.marks import Doc, Within
from spurious.training.defence import Defence, Network


@dataclass(frozen=True, kw_only=True)
class FisherPenalty(Defence):
    """Minimise -log q(y | x) + weight tr F, F the pixels' information through the mean.

    F = (d mean / dz)^T C^-1 (d mean / dz), with the map z in standard units and C the posterior's
    covariance. A small change d of the map that leaves the widths alone moves the posterior by
    KL = d^T F d / 2; tr F sums over all pixels.
    """

    weight: Annotated[float, Within(0, 1e6), Doc("of the penalty")]

    def loss(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """See `Defence`."""
        found, trace = information(network, maps, network.standardiser.std)
        return -found.log_prob(truth) + self.weight * trace
