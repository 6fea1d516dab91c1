"""Adversarial training: learn from the worst maps (Madry et al. 2018, arXiv:1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spurious.defences.worst_case import WorstCase
from spurious.training.defence import Network


@dataclass(frozen=True, kw_only=True)
class AdversarialTraining(WorstCase):
    """Minimise -log q(y | x') at the worst x' near each map x: the saddle point of Madry et al.

    min over weights of E [max over |x' - x| <= epsilon of J], with J = -log q(y | x') in both
    places unless the inner one is another `objective`.
    """

    def shown(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """The worst maps; see `Defence`."""
        return self.worst(network, maps, truth, seed)
