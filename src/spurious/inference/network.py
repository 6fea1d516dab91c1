"""Networks that infer parameters from maps: a convolutional trunk and a mixture density head.

A network here is a Keras model from maps (batch, N, N) in counts to three tensors, in this order
and in the parameters' own units, for m Gaussians with diagonal covariance over p parameters:

======  ===========  ==============  ==================================================
output  name         shape           meaning
======  ===========  ==============  ==================================================
0       `means`      (batch, m, p)   centres
1       `scales`     (batch, m, p)   standard deviations, positive
2       `logits`     (batch, m)      logarithms of the weights, up to a common constant
======  ===========  ==============  ==================================================

The standardiser is the model's first layer and the parameters' names are in its last, so that
one `.keras` file is the whole posterior. Importing this module registers the two layers that
Keras itself lacks.

Mixture density networks: Bishop (1994), Aston University NCRG/94/004.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from spurious import seeds
from spurious.maps import Standardiser

STANDARDISE = "standardise"
HEAD = "mixture"
FILTERS = (16, 32, 64, 128, 192)
ACTIVATION = "silu"


@keras.saving.register_keras_serializable(package="spurious")
class WrapPadding(keras.layers.Layer):
    """Pad (batch, N, N, channels) by `width` pixels a side with the opposite side's pixels.

    Simulation boxes are periodic: with this padding a rolled map gives rolled features.
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width

    def call(self, images: Any) -> Any:
        """Pad rows, then columns (so that corners wrap too)."""
        w = self.width
        images = ops.concatenate([images[:, -w:], images, images[:, :w]], axis=1)
        return ops.concatenate([images[:, :, -w:], images, images[:, :, :w]], axis=2)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "width": self.width}


@keras.saving.register_keras_serializable(package="spurious")
class MixtureHead(keras.layers.Layer):
    """Turn m (2p + 1) unconstrained features into means, scales and logits in physical units.

    A feature of order one moves a parameter by half its range, so that the loss is equally well
    conditioned in every parameter; scales are softplus(feature) + `floor`, in half ranges.

    Args:
        ranges: parameter name -> (low, high), in the order of the outputs.
        components: m, the number of Gaussians.
        floor: smallest scale, in half ranges; keeps a single map from an infinite likelihood.
    """

    def __init__(
        self,
        ranges: Mapping[str, Sequence[float]],
        components: int = 1,
        floor: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ranges = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
        self.components = components
        self.floor = floor

    def call(self, features: Any) -> tuple[Any, Any, Any]:
        """Features (batch, m (2p + 1)) to means, scales and logits."""
        p = len(self.ranges)
        centre = [(low + high) / 2 for low, high in self.ranges.values()]
        half = [(high - low) / 2 for low, high in self.ranges.values()]
        features = ops.reshape(features, (-1, self.components, 2 * p + 1))
        shift, width, logits = features[..., :p], features[..., p : 2 * p], features[..., 2 * p]
        return centre + half * shift, half * (ops.softplus(width) + self.floor), logits

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {"ranges": self.ranges, "components": self.components, "floor": self.floor}
        return {**super().get_config(), **own}


def compact(
    n: int,
    components: int,
    standardiser: Standardiser,
    ranges: Mapping[str, Sequence[float]],
    seed: int,
) -> keras.Model:
    """A network small enough for two CPU cores: about 350 000 weights.

    Wrap-padded 3 x 3 convolutions with average pooling between them, then the mean over the map:
    the output does not depend on where the map's origin lies, up to the poolings' stride, and
    the number of weights does not depend on n.

    Args:
        n: pixels a side, at least 16.
        components: m, the number of Gaussians.
        standardiser: counts to standard units; becomes the first layer.
        ranges: parameter name -> (low, high) of the training labels.
        seed: of the initial weights.

    Returns:
        A model with the inputs and outputs that this module describes.
    """
    if n < 16 or components < 1:
        raise ValueError(f"n = {n} must be at least 16 and components = {components} at least 1")
    maps = keras.Input((n, n), name="maps")
    x = keras.layers.Normalization(
        axis=None, mean=standardiser.mean, variance=standardiser.std**2, name=STANDARDISE
    )(maps)
    x = keras.layers.Reshape((n, n, 1), name="channel")(x)
    for number, filters in enumerate(FILTERS):
        if number > 0:
            x = keras.layers.AveragePooling2D(2, name=f"pool_{number}")(x)
        x = _convolution(x, filters, number, seed)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    x = _dense(128, "hidden", seed, activation=ACTIVATION)(x)
    x = _dense(components * (2 * len(ranges) + 1), "features", seed)(x)
    return keras.Model(maps, MixtureHead(ranges, components, name=HEAD)(x), name="compact")


def _convolution(x: Any, filters: int, number: int, seed: int) -> Any:
    """One wrap-padded 3 x 3 convolution: as many pixels out as in."""
    name = f"convolution_{number}"
    layer = keras.layers.Conv2D(
        filters, 3, activation=ACTIVATION, kernel_initializer=_he_normal(seed, name), name=name
    )
    return layer(WrapPadding(1, name=f"wrap_{number}")(x))


def _dense(units: int, name: str, seed: int, activation: str | None = None) -> Any:
    return keras.layers.Dense(
        units, activation, kernel_initializer=_he_normal(seed, name), name=name
    )


def _he_normal(seed: int, name: str) -> keras.initializers.Initializer:
    """Initial weights of one layer, from the seed and the layer's name alone.

    He et al. (2015, arXiv:1502.01852): smaller ones fade through the poolings and train slower.
    """
    return keras.initializers.HeNormal(seeds.stateless(seed, name)[0])
