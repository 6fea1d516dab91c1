"""A small residual network (He et al. 2016, arXiv:1603.05027)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from spurious.lazy import keras
from spurious.networks.compact import ACTIVATION, Width
from spurious.networks.preset import Layers, PixelPreset, scaled

STEM = 16
FILTERS = (24, 48, 96)
BLOCKS = (1, 2, 2)


@dataclass(frozen=True, kw_only=True)
class ResNet(PixelPreset):
    """A small residual network with wrap padding: about 490 000 weights at width 1.

    Pre-activation blocks (He et al. 2016, arXiv:1603.05027) at 1/2, 1/4 and 1/8 of the map's
    resolution, between average poolings. There is no batch normalisation: each block's last
    convolution starts at zero (Zhang et al. 2019, arXiv:1901.09321), so that the untrained network
    is as shallow as its poolings, and a map's amplitude, which says much about sigma_8, is kept.
    """

    SMALLEST: ClassVar[int] = 16
    width: Width = 1.0

    def features(self, images: Any, layers: Layers) -> Any:
        """See `PixelPreset`."""
        x = layers.wrapped(images, scaled(STEM, self.width), "stem")
        for stage, (filters, blocks) in enumerate(zip(FILTERS, BLOCKS, strict=True)):
            x = keras.layers.AveragePooling2D(2, name=f"pool_{stage}")(x)
            x = layers.wrapped(x, scaled(filters, self.width), f"widen_{stage}")
            for number in range(blocks):
                x = self._block(x, scaled(filters, self.width), f"block_{stage}_{number}", layers)
        x = keras.layers.Activation(ACTIVATION, name="out")(x)
        x = keras.layers.GlobalAveragePooling2D(name="average")(x)
        return layers.dense(x, 128, "hidden", activation=ACTIVATION)

    def _block(self, x: Any, filters: int, name: str, layers: Layers) -> Any:
        y = keras.layers.Activation(ACTIVATION, name=f"{name}_in")(x)
        y = layers.wrapped(y, filters, f"{name}_first", activation=ACTIVATION)
        y = layers.wrapped(y, filters, f"{name}_second", kind="zeros")
        return keras.layers.Add(name=name)([x, y])
