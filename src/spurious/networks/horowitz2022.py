"""The layers that the authors of arXiv:2211.14788 published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from spurious.lazy import keras
from spurious.networks.preset import Layers, PixelPreset

# filters, size of the kernel, what follows
STACK = (
    (128, 4, "normalise"), (128, 4, "pool"), (64, 3, "pool"), (64, 5, "normalise"),
    (64, 5, "normalise"), (32, 2, "normalise"), (8, 2, "normalise"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Horowitz2022(PixelPreset):
    """The layers that the paper's authors published: about 557 000 weights, 1 GMAC a map.

    Selu convolutions with valid padding and batch normalisation, flattened. Their random flips and
    translations are left to the training's exact augmentation; their mixture head makes standard
    deviations by ELU + 1, ours by softplus, in units of half a parameter's range.
    """

    SMALLEST: ClassVar[int] = 54  # of a smaller map nothing is left to flatten

    def features(self, images: Any, layers: Layers) -> Any:
        """See `PixelPreset`."""
        x = images
        for number, (filters, size, after) in enumerate(STACK):
            name = f"convolution_{number}"
            x = layers.convolution(x, filters, size, name, kind="lecun", activation="selu")
            if after == "pool":
                x = keras.layers.MaxPooling2D(2, name=f"pool_{number}")(x)
            else:
                x = keras.layers.BatchNormalization(name=f"normalise_{number}")(x)
        x = keras.layers.Flatten(name="flatten")(x)
        x = layers.dense(x, 32, "dense_0", kind="lecun", activation="selu")
        return layers.dense(x, 16, "dense_1", kind="lecun", activation="tanh")
