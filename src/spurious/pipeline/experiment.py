"""What the stages of one scale attack and measure: the target, its maps, all other posteriors."""

from __future__ import annotations

from functools import cached_property

from spurious.config import Config
from spurious.data.maps import MapSet
from spurious.pipeline.inputs import bystanders, test_set, training_set
from spurious.pipeline.loading import Posteriors
from spurious.posteriors.posterior import Posterior


class Experiment:
    """Maps and posteriors of one scale, each loaded when it is first needed.

    Attributes:
        config: the configuration.
        posterior: the first training of any posterior, by its name.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.posterior = Posteriors(config)

    @cached_property
    def test(self) -> MapSet:
        """The target's test maps, which are perturbed."""
        return test_set(self.config)

    @cached_property
    def training(self) -> MapSet:
        """The maps on which the target was trained."""
        return training_set(self.config)

    @cached_property
    def targets(self) -> list[Posterior]:
        """All trainings of the target."""
        return self.posterior.trainings(self.config.run.target)

    @property
    def target(self) -> Posterior:
        """The first of them."""
        return self.targets[0]

    @cached_property
    def bystanders(self) -> list[str]:
        """The other posteriors that were not trained on the target's test maps."""
        return bystanders(self.config)
