"""Heads: how features without limits become the parameters of a density.

A head has no weights. What it is, one frozen dataclass a file, is the `head` of a network's entry
in params.yaml; `spurious.networks.head_layer.HeadLayer` is the last layer of the network that has
it. Features of order one mean parameters and widths of the order of half a parameter's range, so
that the loss is equally well conditioned in every parameter. Outputs are in the parameters' own
units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spurious.lazy import keras


@dataclass(frozen=True)
class Frame:
    """The parameters that a head is about: in which units its outputs are.

    Attributes:
        ranges: (low, high) of each of the p parameters in the training labels.
        temperature: factor on the widths; 1 leaves the network as trained.
    """

    ranges: tuple[tuple[float, float], ...]
    temperature: float = 1.0

    @property
    def p(self) -> int:
        """Number of parameters."""
        return len(self.ranges)

    @property
    def centre(self) -> np.ndarray:
        """Middle of each range, (p,) float32."""
        return np.array([(low + high) / 2 for low, high in self.ranges], np.float32)

    @property
    def half(self) -> np.ndarray:
        """Half of each range, (p,) float32."""
        return np.array([(high - low) / 2 for low, high in self.ranges], np.float32)


@dataclass(frozen=True, kw_only=True)
class Head(ABC):
    """Features (batch, n_features) to the parameters of densities over p parameters."""

    @abstractmethod
    def n_features(self, p: int) -> int:
        """Features that the head wants.

        Raises:
            ValueError: it cannot be about p parameters.
        """

    @abstractmethod
    def outputs(self, features: Any, frame: Frame) -> tuple[Any, ...]:
        """What the features (batch, n_features) mean, one or more tensors (batch, ...)."""

    @abstractmethod
    def distribution(self, outputs: Sequence[Any], frame: Frame) -> Any:
        """The densities of the outputs: batch_shape (batch,), event_shape (p,)."""


def triangular(diagonal: Any, below: Any) -> Any:
    """Lower-triangular matrices (..., p, p) of diagonals and the entries below, by rows."""
    p, ops = diagonal.shape[-1], keras.ops
    entries = ops.concatenate([diagonal, below, ops.zeros_like(diagonal[..., :1])], axis=-1)
    place = np.full((p, p), p * (p + 1) // 2)
    place[np.diag_indices(p)] = np.arange(p)
    place[np.tril_indices(p, -1)] = p + np.arange(p * (p - 1) // 2)
    return ops.take(entries, place, axis=-1)
