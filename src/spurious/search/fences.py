"""What an unnoticed systematic must not change, as numbers with exact gradients.

Every fence compares the perturbed maps, clipped at zero, with the clean ones, as means over all
maps. P is the mean spectrum, c_i = sqrt(2 / n_modes) the relative cosmic variance of one map's bin.

============  =================================================  =========  =======================
fence         height                                             tolerance  blind to
============  =================================================  =========  =======================
`power`       max over bins of |<P'> / <P> - 1|, contrast         1e-5      a gain, the same for all
`cosmic`      the same, each bin in units of c_i                  1e-4      the same
`chi2`        sum over bins of ((<P'> / <P> - 1) / c_i)^2         1e-4 (1)  the same
`raw_power`   max over bins of |<P'> / <P> - 1|, counts           1e-5      a shift of the mean
`mean_shift`  |<x'> / <x> - 1|                                    1e-6      what keeps the mean
`rms`         sqrt(<(x' - x)^2>) over pixels and maps, counts     1e-4      nothing
============  =================================================  =========  =======================

(1) relative to 1 + chi2.

The contrast is each map over its own mean, minus 1: a constant offset changes every mode of it,
and no bin of the raw spectrum, which is the paper's reading of "the power spectrum". `chi2` adds up
the bins of the mean spectrum as if each had the independent error of one map; correlations between
bins, which nonlinear growth makes, are left out.

The tolerance is the rounding of float32: a value in double precision differs from the height by
less. A point is within a fence if its height, as measured, is at most the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from spurious import spectra
from spurious.perturbations.base import like

FLOOR = 1e-12  # squared counts, keeps the RMS differentiable where nothing is changed


class Observed:
    """Statistics of a set of maps, each computed at most once.

    Args:
        maps: (batch, N, N) in counts.
        box_size: side of a map, Mpc/h.
    """

    def __init__(self, maps: tf.Tensor, box_size: float) -> None:
        self.maps = maps
        self.box_size = box_size

    @cached_property
    def contrast_power(self) -> tf.Tensor:
        """Mean spectrum of the contrast, (n_bins,)."""
        return tf.reduce_mean(spectra.power(self.maps, self.box_size, contrast=True), axis=0)

    @cached_property
    def raw_power(self) -> tf.Tensor:
        """Mean spectrum of the counts, (n_bins,)."""
        return tf.reduce_mean(spectra.power(self.maps, self.box_size, contrast=False), axis=0)

    @cached_property
    def mean(self) -> tf.Tensor:
        """Mean density, a scalar in counts."""
        return tf.reduce_mean(self.maps)

    @property
    def cosmic_variance(self) -> tf.Tensor:
        """Relative, of one map's bins: (n_bins,)."""
        n_modes = spectra.bins(self.maps.shape[-1], self.box_size).n_modes
        return like(spectra.cosmic_variance(n_modes), self.maps)


@dataclass(frozen=True)
class Fence:
    """One fence: signed values whose largest absolute value is its height.

    Attributes:
        name: of the fence.
        unit: of its values; empty if they are relative.
        tolerance: what float32 may change in the height; see the top of the module.
        values: perturbed, clean -> (m,).
    """

    name: str
    unit: str
    tolerance: float
    values: Callable[[Observed, Observed], tf.Tensor]


class FenceValue(NamedTuple):
    """A fence at one point; derivatives are by the d coordinates of the cube, or None.

    Attributes:
        height: what is limited, the largest |value|.
        gradient: of the height, (d,): that of the value that sets it.
        values: (m,).
        jacobian: of the values, (m, d).
    """

    height: float
    gradient: np.ndarray | None
    values: np.ndarray
    jacobian: np.ndarray | None

    @classmethod
    def of(cls, values: np.ndarray, jacobian: np.ndarray | None) -> FenceValue:
        """From the values and their Jacobian."""
        worst = int(np.abs(values).argmax())
        gradient = None if jacobian is None else np.sign(values[worst]) * jacobian[worst]
        return cls(float(np.abs(values[worst])), gradient, values, jacobian)


def _power(after: Observed, before: Observed) -> tf.Tensor:
    return after.contrast_power / before.contrast_power - 1


def _cosmic(after: Observed, before: Observed) -> tf.Tensor:
    return _power(after, before) / before.cosmic_variance


def _chi2(after: Observed, before: Observed) -> tf.Tensor:
    return tf.reduce_sum(_cosmic(after, before) ** 2)[None]


def _raw_power(after: Observed, before: Observed) -> tf.Tensor:
    return after.raw_power / before.raw_power - 1


def _mean_shift(after: Observed, before: Observed) -> tf.Tensor:
    return tf.reduce_mean(after.maps - before.maps)[None] / before.mean


def _rms(after: Observed, before: Observed) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean((after.maps - before.maps) ** 2) + FLOOR)[None]


FENCES: dict[str, Fence] = {
    fence.name: fence
    for fence in (
        Fence("power", "", 1e-5, _power),
        Fence("cosmic", "cosmic variances", 1e-4, _cosmic),
        Fence("chi2", "", 1e-4, _chi2),
        Fence("raw_power", "", 1e-5, _raw_power),
        Fence("mean_shift", "", 1e-6, _mean_shift),
        Fence("rms", "count", 1e-4, _rms),
    )
}


def build_fences(names: Sequence[str]) -> tuple[Fence, ...]:
    """The fences of these names.

    Raises:
        ValueError: there is none of a name.
    """
    for name in names:
        if name not in FENCES:
            raise ValueError(f"fence {name!r} must be one of {', '.join(FENCES)}")
    return tuple(FENCES[name] for name in names)
