"""A convolutional network small enough for two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from spurious.description.marks import Doc, Within
from spurious.lazy import keras
from spurious.networks.preset import Layers, PixelPreset, scaled

ACTIVATION = "silu"
FILTERS = (16, 32, 64, 128, 192)
Width = Annotated[float, Within(0.01, 8), Doc("multiplies the numbers of filters")]


@dataclass(frozen=True, kw_only=True)
class Compact(PixelPreset):
    """Wrap-padded convolutions and average poolings: about 350 000 weights at width 1.

    3 x 3 convolutions with average pooling between them, then the mean over the map: the output
    does not depend on where the map's origin lies, up to the poolings' stride, and the number of
    weights does not depend on the map's size.
    """

    SMALLEST: ClassVar[int] = 16
    width: Width = 1.0

    def features(self, images: Any, layers: Layers) -> Any:
        """See `PixelPreset`."""
        x = images
        for number, filters in enumerate(FILTERS):
            if number > 0:
                x = keras.layers.AveragePooling2D(2, name=f"pool_{number}")(x)
            name = f"convolution_{number}"
            x = layers.wrapped(x, scaled(filters, self.width), name, activation=ACTIVATION)
        x = keras.layers.GlobalAveragePooling2D(name="average")(x)
        return layers.dense(x, 128, "hidden", activation=ACTIVATION)
