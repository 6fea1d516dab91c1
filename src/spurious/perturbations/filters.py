"""Systematics that spread or gather what is there: filters in Fourier space, periodic as the box.

The gradients of TensorFlow's `rfft2d` and `irfft2d` are exact, so these are as differentiable as
functions of the density.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from spurious.description.marks import Doc, Held, Searched, Within
from spurious.description.quantities import Density, Length
from spurious.lazy import tf
from spurious.perturbations.base import like
from spurious.perturbations.effect import Effect, require

FWHM_IN_SIGMA = float(np.sqrt(8 * np.log(2)))


@dataclass(frozen=True)
class Beam(Effect):
    """A point-spread function that is wider or narrower than assumed.

    The maps stand for what is left after a Gaussian beam of width `fwhm` has been taken out. If the
    true width is fwhm (1 + mismatch), each mode is off by the factor
    exp(-k^2 fwhm^2 ((1 + mismatch)^2 - 1) / (16 ln 2)). The mean of a map is kept; a narrower beam
    (mismatch < 0) overshoots around peaks, and densities that would be negative are set to zero.
    """

    mismatch: Annotated[
        Any, Within(-0.5, 1), Searched(-0.5, 1.0), Doc("relative error of the width")
    ]
    fwhm: Annotated[
        Any, Length, Within(0, 50), Held(4.0, "linear"), Doc("assumed full width at half maximum")
    ]
    box_size: float

    AMPLITUDE: ClassVar[str] = "mismatch"
    LIMITS: ClassVar[tuple[float, float]] = (-1.0, 1e3)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0, np.inf, fwhm=self.fwhm, box_size=self.box_size)

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`."""
        mismatch, fwhm = like(self.mismatch, maps), like(self.fwhm, maps)
        wider = (fwhm / FWHM_IN_SIGMA) ** 2 * mismatch * (2 + mismatch)
        squared = like(_squared_wave_numbers(maps.shape[-1], self.box_size), maps)
        return filtered(maps, tf.math.expm1(-squared * wider / 2))


@dataclass(frozen=True)
class Baryons(Effect):
    """Feedback that drives matter out of peaks: a share of it is spread over its surroundings.

    From each pixel of density x, amplitude x / (x + threshold) of its matter goes to a profile
    around it with the transfer function 1 / (1 + (k scale)^2): in two dimensions K_0(r / scale).
    With threshold = 0 this multiplies small-scale modes by 1 - amplitude and leaves large scales
    alone, like the suppression that hydrodynamical simulations find at k of 1 to 10 h/Mpc
    (Chisari et al. 2019, arXiv:1905.06082); a higher threshold confines it to peaks.

    The total is conserved. For the k^2 of the transfer function the eigenvalues of the five-point
    Laplacian are taken: then the profile is positive in every pixel, and so is the density, for
    amplitudes from 0 to 1. A negative amplitude sharpens peaks instead, as cooling does; what
    would become negative is set to zero.
    """

    amplitude: Annotated[
        Any,
        Within(-0.5, 0.5),
        Searched(-0.5, 0.5),
        Doc("share of the matter that is moved; negative: into peaks"),
    ]
    scale: Annotated[
        Any, Length, Within(0, 20), Searched(0.0, 20.0), Doc("how far: length of the profile")
    ]
    box_size: float
    threshold: Annotated[
        Any,
        Density,
        Within(0, 1e5),
        Held(0.0, "asinh"),
        Doc("density above which matter is moved"),
    ] = 0.0

    LIMITS: ClassVar[tuple[float, float]] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        values = {"scale": self.scale, "box_size": self.box_size, "threshold": self.threshold}
        require(0, np.inf, **values)

    def change(self, maps: tf.Tensor) -> tf.Tensor:
        """See `Effect`."""
        values = (self.amplitude, self.scale, self.threshold)
        amplitude, scale, threshold = (like(value, maps) for value in values)
        moved = amplitude * tf.math.divide_no_nan(maps**2, maps + threshold)
        lattice = scale**2 * like(_lattice_wave_numbers(maps.shape[-1], self.box_size), maps)
        return filtered(moved, -lattice / (1 + lattice))


def filtered(maps: tf.Tensor, transfer: tf.Tensor) -> tf.Tensor:
    """Maps (batch, N, N) times a real transfer function (N, N // 2 + 1), without their mean."""
    n = maps.shape[-1]
    # The transfer functions here are 0 at k = 0; without the mean, float32 keeps its digits.
    modes = tf.signal.rfft2d(maps - tf.reduce_mean(maps, axis=(-2, -1), keepdims=True))
    transfer = tf.complex(transfer, tf.zeros_like(transfer))
    return tf.signal.irfft2d(modes * transfer, [n, n])


def _squared_wave_numbers(n: int, box_size: float) -> np.ndarray:
    """k^2 of the modes of `rfft2d`, (h/Mpc)^2: (n, n // 2 + 1)."""
    rows, columns = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)
    return (rows**2 + columns**2) * (2 * np.pi / box_size) ** 2


def _lattice_wave_numbers(n: int, box_size: float) -> np.ndarray:
    """The same for the five-point Laplacian of the pixels."""
    rows, columns = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)
    return (np.sin(np.pi * rows) ** 2 + np.sin(np.pi * columns) ** 2) * (2 * n / box_size) ** 2
