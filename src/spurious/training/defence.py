"""What a defence is: another loss, or other maps, for a network in training to learn from.

A training without one minimises the mean over maps of -log q(truth | map). Nothing here imports
TensorFlow, so that params.yaml, which describes defences, is read at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from spurious.data.maps import Standardiser


class Network(Protocol):
    """A network in training, as a posterior: what attacks a posterior can attack it.

    Attributes:
        names: the p parameters.
        standardiser: the units in which the network sees a map.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """See above."""
        ...

    @property
    def standardiser(self) -> Standardiser:
        """See above."""
        ...

    def __call__(self, maps: Any, training: bool | None = None) -> Any:
        """The distribution over parameters of each map.

        Args:
            maps: (batch, N, N) in counts.
            training: whether layers such as batch normalisation behave, and change, as in
                training; none: as the present step does. An attack inside a step wants False.
        """
        ...


class Defence:
    """What a network is trained on in place of -log q(truth | map); a frozen dataclass.

    A subclass overrides `shown` if it changes the maps, and `loss` if it changes what is minimised.
    All randomness must come from `seed`: then a training that was killed goes on exactly.
    """

    def shown(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """The maps on which the network is trained in place of these; by default these.

        The widths of a defended posterior are recalibrated on validation maps as shown.

        Args:
            network: in its present state.
            maps: a tensor (batch, N, N), counts.
            truth: their parameters, a tensor (batch, p).
            seed: pair for TensorFlow's stateless random operations, another one in each step.

        Returns:
            (batch, N, N) in counts, at or above zero, through which no gradient flows.
        """
        return maps

    def loss(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """What is minimised, nats a map, (batch,); by default -log q(truth | maps as shown).

        Arguments are those of `shown`.
        """
        return -network(self.shown(network, maps, truth, seed)).log_prob(truth)
