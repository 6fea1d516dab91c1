"""What several stages read: the test maps, and the network that is tested on them."""

from __future__ import annotations

from typing import Any

from spurious import maps, splitting
from spurious.config import Config
from spurious.files import read_json
from spurious.inference import posterior
from spurious.maps import MapSet
from spurious.splitting import Split
from spurious.stages.layout import Layout


def parts(config: Config, data: MapSet) -> Split:
    """The split of the data set, the same in every stage."""
    fractions = config.training.test_fraction, config.training.validation_fraction
    return splitting.split(data.index, *fractions, config.seed)


def test_set(config: Config) -> MapSet:
    """The test maps of the configuration's scale."""
    data = maps.read_maps(Layout(config.scale).maps)
    return data.take(parts(config, data).test)


def network(config: Config) -> posterior.NetworkPosterior:
    """The trained network of the configuration's scale."""
    return posterior.load(Layout(config.scale).network)


def attack_rows(config: Config) -> dict[str, dict[str, Any]]:
    """The row of damage of each attack in `run.attacks`, in that order."""
    layout = Layout(config.scale)
    return {name: read_json(layout.result(f"attacks/{name}.json")) for name in config.run.attacks}
