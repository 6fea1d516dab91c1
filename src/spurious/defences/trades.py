"""TRADES: trade clean accuracy against stability (Zhang et al. 2019, arXiv:1901.08573)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from spurious.defences.worst_case import Objective, WorstCase
from spurious.description.marks import Doc, Within
from spurious.training.defence import Network


@dataclass(frozen=True, kw_only=True)
class Trades(WorstCase):
    """Minimise -log q(y | x) + beta KL(q(. | x) || q(. | x')) with x' the worst map near x.

    The clean posterior is the first argument of the divergence, as in the algorithm and the code of
    Zhang et al., whose 1/lambda is beta; the ascent increases the same divergence unless
    `objective` is another one.
    """

    beta: Annotated[float, Within(0, 1000), Doc("weight of the divergence")] = 1.0
    objective: Annotated[Objective, Doc("what the ascent increases")] = "kl_clean_perturbed"

    def loss(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """See `Defence`."""
        from spurious.densities.divergences import kl

        clean = network(maps)
        perturbed = network(self.worst(network, maps, truth, seed))
        return -clean.log_prob(truth) + self.beta * kl(clean, perturbed)
