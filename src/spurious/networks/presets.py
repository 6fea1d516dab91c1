"""Networks that infer parameters from maps, each ended by any head of `spurious.networks.heads`.

A network here is a Keras model from maps (batch, N, N) in counts to its head's outputs in the
parameters' own units. The standardiser is the model's first layer and the parameters' names are
in its head, so that one `.keras` file is the whole posterior.

Any network of pixels may be made to see something else than counts (the argument `seen`, a
`spurious.networks.representations.Representation`), such as each map over its own mean. Its first
layer says the unit in which budgets are given all the same.

==================  ============================================================================
`compact`           wrap-padded convolutions and average poolings; made for two CPU cores
`resnet`            a small wrap-padded residual network (He et al. 2016, arXiv:1603.05027)
`horowitz2022`      the layers that the authors of arXiv:2211.14788 published; made for a GPU
`power_spectrum`    a dense network that sees nothing but ln P(k) of the contrast
==================  ============================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from spurious import seeds
from spurious.data.maps import Standardiser
from spurious.networks.heads import Head
from spurious.networks.layers import LogPower, WrapPadding
from spurious.networks.representations import Representation

STANDARDISE = "standardise"
POWER = "log_power"
ACTIVATION = "silu"
COMPACT_FILTERS = (16, 32, 64, 128, 192)
RESNET_STEM = 16
RESNET_FILTERS = (24, 48, 96)
RESNET_BLOCKS = (1, 2, 2)

Trunk = Callable[[Any, "_Layers"], Any]


class _Layers:
    """Makes layers whose initial weights depend on a seed and the layer's name alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def convolution(
        self, x: Any, filters: int, size: int, name: str, kind: str = "he_normal", **options: Any
    ) -> Any:
        initial = self._initial(kind, name)
        return layers.Conv2D(filters, size, kernel_initializer=initial, name=name, **options)(x)

    def wrapped(self, x: Any, filters: int, name: str, **options: Any) -> Any:
        """A wrap-padded 3 x 3 convolution: as many pixels out as in."""
        return self.convolution(WrapPadding(1, name=f"wrap_{name}")(x), filters, 3, name, **options)

    def dense(self, x: Any, units: int, name: str, kind: str = "he_normal", **options: Any) -> Any:
        initial = self._initial(kind, name)
        return layers.Dense(units, kernel_initializer=initial, name=name, **options)(x)

    def _initial(self, kind: str, name: str) -> Any:
        if kind == "zeros":
            return "zeros"
        # He et al. (2015, arXiv:1502.01852): smaller ones fade through the poolings. Selu wants
        # LeCun's (Klambauer et al. 2017, arXiv:1706.02515).
        made = {"he_normal": keras.initializers.HeNormal, "lecun": keras.initializers.LecunNormal}
        return made[kind](seeds.stateless(self.seed, name)[0])


def compact(
    n: int,
    head: Head,
    standardiser: Standardiser,
    seed: int,
    width: float = 1.0,
    seen: Representation | None = None,
) -> keras.Model:
    """A network small enough for two CPU cores: about 350 000 weights at width 1.

    Wrap-padded 3 x 3 convolutions with average pooling between them, then the mean over the map:
    the output does not depend on where the map's origin lies, up to the poolings' stride, and
    the number of weights does not depend on n.

    Args:
        n: pixels a side, at least 16.
        head: turns features into a posterior.
        standardiser: counts to standard units; becomes the first layer.
        seed: of the initial weights.
        width: multiplies the numbers of filters.
        seen: what the network sees of each map instead of its counts.

    Raises:
        ValueError: n is too small.
    """
    _at_least(16, n, "compact")

    def trunk(x: Any, make: _Layers) -> Any:
        for number, filters in enumerate(COMPACT_FILTERS):
            if number > 0:
                x = layers.AveragePooling2D(2, name=f"pool_{number}")(x)
            name = f"convolution_{number}"
            x = make.wrapped(x, _scaled(filters, width), name, activation=ACTIVATION)
        x = layers.GlobalAveragePooling2D(name="average")(x)
        return make.dense(x, 128, "hidden", activation=ACTIVATION)

    return _of_pixels("compact", trunk, n, head, standardiser, seed, seen)


def resnet(
    n: int,
    head: Head,
    standardiser: Standardiser,
    seed: int,
    width: float = 1.0,
    seen: Representation | None = None,
) -> keras.Model:
    """A small residual network with wrap padding: about 490 000 weights at width 1.

    Pre-activation blocks (He et al. 2016, arXiv:1603.05027) at 1/2, 1/4 and 1/8 of the map's
    resolution, between average poolings. There is no batch normalisation: each block's last
    convolution starts at zero (Zhang et al. 2019, arXiv:1901.09321), so that the untrained network
    is as shallow as its poolings, and a map's amplitude, which says much about sigma_8, is kept.

    Arguments and errors are those of `compact`.
    """
    _at_least(16, n, "resnet")

    def block(x: Any, filters: int, name: str, make: _Layers) -> Any:
        y = layers.Activation(ACTIVATION, name=f"{name}_in")(x)
        y = make.wrapped(y, filters, f"{name}_first", activation=ACTIVATION)
        y = make.wrapped(y, filters, f"{name}_second", kind="zeros")
        return layers.Add(name=name)([x, y])

    def trunk(x: Any, make: _Layers) -> Any:
        x = make.wrapped(x, _scaled(RESNET_STEM, width), "stem")
        for stage, (filters, blocks) in enumerate(zip(RESNET_FILTERS, RESNET_BLOCKS, strict=True)):
            x = layers.AveragePooling2D(2, name=f"pool_{stage}")(x)
            x = make.wrapped(x, _scaled(filters, width), f"widen_{stage}")
            for number in range(blocks):
                x = block(x, _scaled(filters, width), f"block_{stage}_{number}", make)
        x = layers.Activation(ACTIVATION, name="out")(x)
        x = layers.GlobalAveragePooling2D(name="average")(x)
        return make.dense(x, 128, "hidden", activation=ACTIVATION)

    return _of_pixels("resnet", trunk, n, head, standardiser, seed, seen)


def horowitz2022(
    n: int,
    head: Head,
    standardiser: Standardiser,
    seed: int,
    seen: Representation | None = None,
) -> keras.Model:
    """The layers that the paper's authors published: about 557 000 weights, 1 GMAC a map.

    Selu convolutions with valid padding and batch normalisation, flattened. Their random flips and
    translations are left to the training's exact augmentation; their mixture head makes standard
    deviations by ELU + 1, ours by softplus, in units of half a parameter's range.

    Arguments are those of `compact`; n must be at least 54, or nothing is left to flatten.
    """
    _at_least(54, n, "horowitz2022")
    # filters, size of the kernel, what follows
    stack = (
        (128, 4, "normalise"), (128, 4, "pool"), (64, 3, "pool"), (64, 5, "normalise"),
        (64, 5, "normalise"), (32, 2, "normalise"), (8, 2, "normalise"),
    )  # fmt: skip

    def trunk(x: Any, make: _Layers) -> Any:
        for number, (filters, size, after) in enumerate(stack):
            name = f"convolution_{number}"
            x = make.convolution(x, filters, size, name, kind="lecun", activation="selu")
            if after == "pool":
                x = layers.MaxPooling2D(2, name=f"pool_{number}")(x)
            else:
                x = layers.BatchNormalization(name=f"normalise_{number}")(x)
        x = layers.Flatten(name="flatten")(x)
        x = make.dense(x, 32, "dense_0", kind="lecun", activation="selu")
        return make.dense(x, 16, "dense_1", kind="lecun", activation="tanh")

    return _of_pixels("horowitz2022", trunk, n, head, standardiser, seed, seen)


def power_spectrum(
    n: int,
    head: Head,
    standardiser: Standardiser,
    seed: int,
    *,
    box_size: float,
    log_power: np.ndarray,
) -> keras.Model:
    """What the same head learns from ln P(k) of a map's contrast alone.

    Args:
        n: pixels a side.
        head: turns features into a posterior.
        standardiser: of pixels; the model's first layer says the unit in which budgets are given.
        seed: of the initial weights.
        box_size: side of a map, Mpc/h.
        log_power: ln P(k) of the training maps (n_maps, n_bins), which standardises the bins.
    """

    def trunk(x: Any, make: _Layers) -> Any:
        for number in range(2):
            x = make.dense(x, 64, f"hidden_{number}", activation=ACTIVATION)
        return x

    maps, x = counts_of(n, standardiser)
    x = LogPower(box_size, name=POWER)(x)
    mean, variance = log_power.mean(axis=0), log_power.var(axis=0) + 1e-6
    x = layers.Normalization(
        axis=-1, mean=mean.tolist(), variance=variance.tolist(), name="standardise_power"
    )(x)
    return _ended("power_spectrum", maps, x, trunk, head, seed)


def counts_of(n: int, standardiser: Standardiser) -> tuple[Any, Any]:
    """Input maps (batch, n, n), and the counts that come out of the standardiser and its inverse.

    A model that has no use for standard units still says them in its first layer.
    """
    maps, x = standardised(n, standardiser)
    return maps, layers.Rescaling(
        standardiser.std, offset=standardiser.mean, dtype="float32", name="counts"
    )(x)


def standardised(n: int, standardiser: Standardiser) -> tuple[Any, Any]:
    """Input maps (batch, n, n) in counts, and the same in standard units."""
    maps = keras.Input((n, n), name="maps")
    return maps, _normalization(standardiser, STANDARDISE)(maps)


def _normalization(units: Standardiser, name: str) -> Any:
    return layers.Normalization(
        axis=None, mean=units.mean, variance=units.std**2, dtype="float32", name=name
    )


def _of_pixels(
    name: str,
    trunk: Trunk,
    n: int,
    head: Head,
    standardiser: Standardiser,
    seed: int,
    seen: Representation | None,
) -> keras.Model:
    if seen is None:
        maps, x = standardised(n, standardiser)
    else:
        maps, x = counts_of(n, standardiser)
        x = _normalization(seen.units, f"{STANDARDISE}_{seen.layer.name}")(seen.layer(x))
    x = layers.Reshape((n, n, 1), name="channel")(x)
    return _ended(name, maps, x, trunk, head, seed)


def _ended(name: str, maps: Any, x: Any, trunk: Trunk, head: Head, seed: int) -> keras.Model:
    """The trunk, a dense layer to as many features as the head wants, and the head."""
    make = _Layers(seed)
    # In float32 also where the trunk is not: the head's exponentials need the digits.
    x = make.dense(trunk(x, make), head.n_features, "features", dtype="float32")
    return keras.Model(maps, head(x), name=name)


def _scaled(filters: int, width: float) -> int:
    return max(round(filters * width), 1)


def _at_least(smallest: int, n: int, preset: str) -> None:
    if n < smallest:
        raise ValueError(f"n = {n} must be at least {smallest} for the preset {preset}")


PIXELS: dict[str, Callable[..., keras.Model]] = {
    "compact": compact,
    "resnet": resnet,
    "horowitz2022": horowitz2022,
}
