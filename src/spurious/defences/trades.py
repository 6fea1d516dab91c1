"""TRADES: trade clean accuracy against stability (Zhang et al. 2019, arXiv:1901.08573)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from spurious.config.systematics import Within
from spurious.defences.worst_case import WorstCase
from spurious.inference.defence import Network


@dataclass(frozen=True, kw_only=True)
class Trades(WorstCase):
    """Minimise -log q(y | x) + beta KL(q(. | x) || q(. | x')) with x' the worst map near x.

    The clean posterior is the first argument of the divergence, as in Eq. 5 of Zhang et al. and in
    their code, and the ascent increases the same divergence unless `objective` is another one.
    Their 1/lambda is beta.

    Args:
        beta: weight of the divergence.
        epsilon, norm, steps, objective, constraints: as for `WorstCase`.
    """

    beta: Annotated[float, Within(0, 1000)] = 1.0
    objective: Literal["nll", "kl", "kl_perturbed_clean", "kl_clean_perturbed"] = (
        "kl_clean_perturbed"
    )

    def loss(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """See `Defence`."""
        from spurious.inference.distributions import kl

        clean = network(maps)
        perturbed = network(self.worst(network, maps, truth, seed))
        return -clean.log_prob(truth) + self.beta * kl(clean, perturbed)
