"""A network that sees the power spectrum and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from spurious.data.maps import MapSet, Standardiser
from spurious.lazy import keras
from spurious.networks.compact import ACTIVATION
from spurious.networks.preset import Layers, Preset, counts_of

if TYPE_CHECKING:
    import numpy as np

    from spurious.networks.head_layer import HeadLayer

POWER = "log_power"


@dataclass(frozen=True, kw_only=True)
class PowerSpectrum(Preset):
    """A dense network that sees nothing but ln P(k) of a map's contrast."""

    INPUTS: ClassVar[tuple[str, ...]] = ("counts", "contrast")  # which make no difference here

    def network(
        self, training: MapSet, head: HeadLayer, seed: int, seen: Any = None
    ) -> keras.Model:
        """See `Preset`."""
        from spurious.networks.layers import log_power

        units, n = Standardiser.fit(training.maps), training.maps.shape[1]
        power = log_power(training.maps, training.box_size)
        return self.model(n, head, units, seed, training.box_size, power)

    def model(
        self,
        n: int,
        head: HeadLayer,
        standardiser: Standardiser,
        seed: int,
        box_size: float,
        log_power: np.ndarray,
    ) -> keras.Model:
        """The untrained network.

        Args:
            n: pixels a side.
            head: turns features into a posterior.
            standardiser: of pixels; the first layer says the unit in which budgets are given.
            seed: of the initial weights.
            box_size: side of a map, Mpc/h.
            log_power: ln P(k) of the training maps (n_maps, n_bins), which standardises the bins.
        """
        from spurious.networks.layers import LogPower

        maps, x = counts_of(n, standardiser)
        mean, variance = log_power.mean(axis=0), log_power.var(axis=0) + 1e-6
        x = keras.layers.Normalization(
            axis=-1, mean=mean.tolist(), variance=variance.tolist(), name="standardise_power"
        )(LogPower(box_size, name=POWER)(x))
        layers = Layers(seed)
        for number in range(2):
            x = layers.dense(x, 64, f"hidden_{number}", activation=ACTIVATION)
        return layers.ended(type(self), maps, x, head)
