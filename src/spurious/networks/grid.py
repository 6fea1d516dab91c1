"""A density on a grid: what a likelihood has at the centres of the cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from spurious.description.marks import Doc, Within
from spurious.lazy import keras
from spurious.networks.head import Frame, Head

if TYPE_CHECKING:
    from spurious.densities.grid import Gridded

MAX_PARAMETERS = 3


@dataclass(frozen=True, kw_only=True)
class GridHead(Head):
    """Takes features as the log posterior of each cell of a grid, up to a constant.

    The grid's axes are the one to three parameters, the last fastest. Temperature T divides the
    features by T^2: a Gaussian becomes T times as wide.
    """

    cells: Annotated[
        tuple[Annotated[int, Within(1, 4096)], ...], Doc("along each parameter; one: along all")
    ] = (64,)

    def n_features(self, p: int) -> int:
        """Cells in all."""
        if not 1 <= p <= MAX_PARAMETERS or len(self.cells) not in (1, p):
            raise ValueError(
                f"{len(self.cells)} axes of cells for {p} parameters: must be as many, "
                f"1 to {MAX_PARAMETERS}"
            )
        return math.prod(self.along(p))

    def outputs(self, features: Any, frame: Frame) -> tuple[Any]:
        """Log weights (batch, *cells)."""
        cells = keras.ops.reshape(features, (-1, *self.along(frame.p)))
        return (cells / frame.temperature**2,)

    def distribution(self, outputs: Sequence[Any], frame: Frame) -> Gridded:
        """See `spurious.densities.grid.Gridded`."""
        from spurious.densities.grid import Gridded  # imports TensorFlow Probability

        # Keras wraps a lone output in a tuple, a list or nothing, depending on how it was loaded.
        (log_weights,) = keras.tree.flatten(tuple(outputs))
        return Gridded(log_weights, frame.ranges)

    def along(self, p: int) -> tuple[int, ...]:
        """Cells along each of p parameters."""
        return self.cells * p if len(self.cells) == 1 else self.cells
