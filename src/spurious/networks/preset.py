"""Presets: networks that infer parameters from maps, each ended by any head.

A network here is a Keras model from maps (batch, N, N) in counts to its head's outputs in the
parameters' own units. The standardiser is the model's first layer and the parameters' names are
in its head, so that one `.keras` file is the whole posterior. What a preset is, one frozen
dataclass a file, is the `preset` of a network's entry in params.yaml.

Any network of pixels may be made to see something else than counts (the argument `seen`, a
`spurious.networks.representations.Representation`), such as each map over its own mean. Its first
layer says the unit in which budgets are given all the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from spurious import seeds
from spurious.data.maps import MapSet, Standardiser
from spurious.lazy import keras

if TYPE_CHECKING:
    from spurious.networks.head_layer import HeadLayer
    from spurious.networks.representations import Representation

STANDARDISE = "standardise"


@dataclass(frozen=True, kw_only=True)
class Preset(ABC):
    """A network before its head.

    Attributes:
        SMALLEST: pixels a side of the smallest map that it takes.
        INPUTS: what it may be made to see, by name; none: anything.
    """

    SMALLEST: ClassVar[int] = 1
    INPUTS: ClassVar[tuple[str, ...] | None] = None

    @abstractmethod
    def network(
        self, training: MapSet, head: HeadLayer, seed: int, seen: Representation | None
    ) -> keras.Model:
        """The untrained network, with units from the training maps alone.

        Args:
            training: maps in counts with their labels.
            head: turns features into a posterior.
            seed: of the initial weights.
            seen: what the network sees of each map; none: its counts.

        Raises:
            ValueError: the maps are too small.
        """


@dataclass(frozen=True, kw_only=True)
class PixelPreset(Preset):
    """A network of a map's pixels. A subclass says which layers stand between them and the head."""

    @abstractmethod
    def features(self, images: Any, layers: Layers) -> Any:
        """What the network makes of images (batch, N, N, 1) in standard units: (batch, any)."""

    def network(
        self, training: MapSet, head: HeadLayer, seed: int, seen: Representation | None
    ) -> keras.Model:
        """See `Preset`."""
        units = Standardiser.fit(training.maps)
        return self.model(training.maps.shape[1], head, units, seed, seen)

    def model(
        self,
        n: int,
        head: HeadLayer,
        standardiser: Standardiser,
        seed: int,
        seen: Representation | None = None,
    ) -> keras.Model:
        """The untrained network.

        Args:
            n: pixels a side.
            head: turns features into a posterior.
            standardiser: counts to standard units; becomes the first layer.
            seed: of the initial weights.
            seen: what the network sees of each map instead of its counts.

        Raises:
            ValueError: n is too small.
        """
        if n < self.SMALLEST:
            raise ValueError(f"n = {n} must be at least {self.SMALLEST}")
        if seen is None:
            maps, x = standardised(n, standardiser)
        else:
            maps, x = counts_of(n, standardiser)
            x = normalization(seen.units, f"{STANDARDISE}_{seen.layer.name}")(seen.layer(x))
        layers = Layers(seed)
        x = self.features(keras.layers.Reshape((n, n, 1), name="channel")(x), layers)
        return layers.ended(type(self), maps, x, head)


class Layers:
    """Makes layers whose initial weights depend on a seed and the layer's name alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def convolution(
        self, x: Any, filters: int, size: int, name: str, kind: str = "he_normal", **options: Any
    ) -> Any:
        """A convolution by size x size pixels."""
        options["kernel_initializer"] = self._initial(kind, name)
        return keras.layers.Conv2D(filters, size, name=name, **options)(x)

    def wrapped(self, x: Any, filters: int, name: str, **options: Any) -> Any:
        """A wrap-padded 3 x 3 convolution: as many pixels out as in."""
        from spurious.networks.layers import WrapPadding

        return self.convolution(WrapPadding(1, name=f"wrap_{name}")(x), filters, 3, name, **options)

    def dense(self, x: Any, units: int, name: str, kind: str = "he_normal", **options: Any) -> Any:
        """A dense layer."""
        options["kernel_initializer"] = self._initial(kind, name)
        return keras.layers.Dense(units, name=name, **options)(x)

    def ended(self, preset: type[Preset], maps: Any, x: Any, head: HeadLayer) -> keras.Model:
        """The model: after x a dense layer to as many features as the head wants, and the head."""
        # In float32 also where the rest is not: the head's exponentials need the digits.
        x = self.dense(x, head.n_features, "features", dtype="float32")
        return keras.Model(maps, head(x), name=preset.__module__.rpartition(".")[2])

    def _initial(self, kind: str, name: str) -> Any:
        if kind == "zeros":
            return "zeros"
        # He et al. (2015, arXiv:1502.01852): smaller ones fade through the poolings. Selu wants
        # LeCun's (Klambauer et al. 2017, arXiv:1706.02515).
        initial = keras.initializers
        made = {"he_normal": initial.HeNormal, "lecun": initial.LecunNormal}[kind]
        return made(seeds.stateless(self.seed, name)[0])


def counts_of(n: int, standardiser: Standardiser) -> tuple[Any, Any]:
    """Input maps (batch, n, n), and the counts that come out of the standardiser and its inverse.

    A model that has no use for standard units still says them in its first layer.
    """
    maps, x = standardised(n, standardiser)
    return maps, keras.layers.Rescaling(
        standardiser.std, offset=standardiser.mean, dtype="float32", name="counts"
    )(x)


def standardised(n: int, standardiser: Standardiser) -> tuple[Any, Any]:
    """Input maps (batch, n, n) in counts, and the same in standard units."""
    maps = keras.Input((n, n), name="maps")
    return maps, normalization(standardiser, STANDARDISE)(maps)


def normalization(units: Standardiser, name: str) -> Any:
    """A layer that takes the mean off and divides by the standard deviation."""
    return keras.layers.Normalization(
        axis=None, mean=units.mean, variance=units.std**2, dtype="float32", name=name
    )


def scaled(filters: int, width: float) -> int:
    """A number of filters times a width, at least one."""
    return max(round(filters * width), 1)
