"""The units of a model that knows nothing of this package.

Such a model has units of its own. A `Scaling` says how they relate to counts and to the physical
parameters; without one no number that comes out means anything, so there is no default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from spurious.data.maps import Standardiser
from spurious.errors import UserError, one_of

Inputs = Literal["standardised", "counts"]


@dataclass(frozen=True)
class Scaling:
    """How a model's own units relate to counts and to physical parameters.

    Attributes:
        maps: mean and standard deviation, in counts, of the pixels that the model was trained on.
            Budgets in `std` are in this standard deviation.
        labels: parameter name -> (shift, scale), in the order of the model's outputs:
            physical = shift + scale x output, and a standard deviation is `|scale|` x output.
        inputs: what the model takes: "standardised", (counts - maps.mean) / maps.std; or "counts",
            if it does all that itself.

    Raises:
        UserError: a value is impossible.
    """

    maps: Standardiser
    labels: Mapping[str, tuple[float, float]]
    inputs: Inputs = "standardised"

    def __post_init__(self) -> None:
        check_units("scaling.maps", self.maps)
        if not isinstance(self.labels, Mapping) or not self.labels:
            raise UserError(
                f"scaling.labels = {self.labels!r}: must give (shift, scale) for each parameter "
                "by its name"
            )
        for name, pair in self.labels.items():
            if np.shape(pair) != (2,) or not np.isfinite(pair).all() or pair[1] == 0:
                raise UserError(
                    f"scaling.labels.{name} = {pair}: must be (shift, scale), scale not 0"
                )
        if self.inputs not in get_args(Inputs):
            raise UserError(
                f"scaling.inputs = {self.inputs!r}: {one_of(self.inputs, get_args(Inputs))}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The p parameters, in the order of the model's outputs."""
        return tuple(self.labels)

    def seen(self, counts: Any) -> Any:
        """What the model takes, of maps in counts."""
        return self.maps(counts) if self.inputs == "standardised" else counts

    def physical(self, means: Any, scales: Any) -> tuple[Any, Any]:
        """Means (batch, m, p), scales (batch, m, p) or (batch, m, p, p) in physical units."""
        shift, scale = np.array(list(self.labels.values()), np.float32).T
        if len(scales.shape) == 3:
            return shift + scale * means, np.abs(scale) * scales
        # With D = diag(scale), D L is a factor of the covariance; signs of its columns are free.
        return shift + scale * means, scale[:, None] * scales * np.sign(scale)


def check_units(key: str, units: Any) -> None:
    """Refuse, as `key`, what is no standardiser or an impossible one.

    Raises:
        UserError: that.
    """
    if not isinstance(units, Standardiser):
        raise UserError(
            f"{key} = {units!r}: must be a Standardiser(mean, std), of the training maps in counts"
        )
    if not (np.isfinite([units.mean, units.std]).all() and units.std > 0):
        raise UserError(f"{key} = {units}: mean must be finite, std above 0")
