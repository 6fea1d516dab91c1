"""The cosmology of one simulation and the linear matter power spectrum.

Flat LCDM with massless neutrinos. What the grid does not vary is fixed at Planck 2015
(arXiv:1502.01589, Table 4, last column). The shape of P(k) at z = 0 is CAMB's, or by choice the
fit of Eisenstein & Hu (1998); its height follows from sigma_8 alone. At Omega_m = 0.05, the first
column of the paper's grid, 97 % of the matter is baryons: the spectrum falls steeply and
oscillates through zero, as CAMB says it must.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import camb
import numpy as np
from camb import model
from scipy.interpolate import CubicSpline

SIGMA_8_RADIUS = 8.0  # Mpc/h
SIGMA_8_K_MAX = 20.0  # h/Mpc; all beyond adds less than 1e-6 to sigma_8

# Acoustic oscillations, which baryons alone make go through zero, need many wavenumbers: with
# CAMB's own choice, P is off by several per cent in bands at omega_m = 0.05. Damping ends them.
DENSE_K_MAX = 1.0  # h/Mpc; beyond, CAMB's own choice is enough
DENSE_PER_LOG = 50  # wavenumbers per e-fold below

Power = Callable[[np.ndarray], np.ndarray]
Method = Literal["camb", "eisenstein_hu"]


@dataclass(frozen=True)
class Cosmology:
    """A flat LCDM cosmology.

    Attributes:
        omega_m: matter density at z = 0 in units of the critical density, baryons included.
        sigma_8: RMS linear density contrast at z = 0 in spheres of 8 Mpc/h.
        omega_b: baryon density.
        h: Hubble constant in 100 km/s/Mpc.
        n_s: slope of the primordial spectrum.

    Raises:
        ValueError: a value cannot describe such a universe.
    """

    omega_m: float
    sigma_8: float
    omega_b: float = 0.0486
    h: float = 0.6774
    n_s: float = 0.9667

    def __post_init__(self) -> None:
        _require("omega_b", self.omega_b, 0.0, 1.0)
        if not self.omega_b < self.omega_m < 1.0:
            raise ValueError(
                f"omega_m = {self.omega_m}: must be greater than omega_b = {self.omega_b} "
                "and less than 1"
            )
        _require("sigma_8", self.sigma_8, 0.0, 10.0)
        _require("h", self.h, 0.1, 2.0)
        _require("n_s", self.n_s, 0.0, 2.0)


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise ValueError(f"{name} = {value}: must be greater than {low} and less than {high}")


def linear_power(
    cosmology: Cosmology, k_max: float = SIGMA_8_K_MAX, method: Method = "camb"
) -> Power:
    """Linear matter power spectrum at z = 0, normalised exactly to `cosmology.sigma_8`.

    Args:
        cosmology: the universe.
        k_max: largest wavenumber needed, h/Mpc.
        method: `camb`, the Boltzmann code, or `eisenstein_hu`, the fit with baryon oscillations
            (Eisenstein & Hu 1998, astro-ph/9709112). The fit is good to 5 % where omega_m is at
            least 0.2; where baryons dominate it is off by factors.

    Returns:
        P(k): wavenumbers in h/Mpc of any shape to (Mpc/h)^3; P(0) = 0, because a periodic box
        has the mean density. A wavenumber outside the table raises ValueError.
    """
    shape, sigma_8 = _shape(
        cosmology.omega_m,
        cosmology.omega_b,
        cosmology.h,
        cosmology.n_s,
        max(SIGMA_8_K_MAX, k_max),
        method,
    )
    scale = (cosmology.sigma_8 / sigma_8) ** 2
    return lambda k: scale * shape(k)


def sigma(power: Power, radius: float, k_min: float, k_max: float) -> float:
    """RMS linear density contrast in top-hat spheres of `radius` Mpc/h, k from k_min to k_max.

    sigma^2 = int dk/k k^3 P(k) W(kR)^2 / (2 pi^2), W(x) = 3 (sin x - x cos x) / x^3.
    """
    log_k = np.linspace(np.log(k_min), np.log(k_max), 40_001)
    k = np.exp(log_k).clip(k_min, k_max)
    x = k * radius
    window = 3 * (np.sin(x) - x * np.cos(x)) / x**3
    return float(np.sqrt(np.trapezoid(k**3 * power(k) * window**2 / (2 * np.pi**2), log_k)))


@lru_cache(maxsize=64)
def _shape(
    omega_m: float, omega_b: float, h: float, n_s: float, k_max: float, method: Method
) -> tuple[Power, float]:
    """P(k) up to a factor, and the sigma_8 that it has."""
    transfer_of = _camb_transfer if method == "camb" else _eisenstein_hu_transfer
    k_table, transfer = transfer_of(omega_m, omega_b, h, 1.01 * k_max)
    # Baryons alone make the transfer function change its sign, so it is the signed function that
    # is smooth: an interpolation of ln P would miss the zeros of P at omega_m near omega_b.
    spline = CubicSpline(np.log(k_table), k_table * transfer)

    def power(k: np.ndarray) -> np.ndarray:
        k = np.asarray(k, np.float64)
        inside = (k >= k_table[0]) & (k <= k_table[-1])
        if not np.all(inside | (k == 0)):
            raise ValueError(
                f"k must be 0 or from {k_table[0]:.3g} to {k_table[-1]:.3g} h/Mpc, "
                f"not {k[~inside].min():.3g} to {k[~inside].max():.3g}"
            )
        safe = np.where(inside, k, 1.0)
        return np.where(inside, safe ** (n_s - 2) * spline(np.log(safe)) ** 2, 0.0)

    return power, sigma(power, SIGMA_8_RADIUS, k_table[0], SIGMA_8_K_MAX)


def _camb_transfer(
    omega_m: float, omega_b: float, h: float, k_max: float
) -> tuple[np.ndarray, np.ndarray]:
    """CAMB's k in h/Mpc and total-matter transfer function delta/k^2 at z = 0, any unit.

    Made of two tables, a dense one at small k, because large k take CAMB the most time.
    """
    low = _camb_table(omega_m, omega_b, h, DENSE_K_MAX, DENSE_PER_LOG)
    high = _camb_table(omega_m, omega_b, h, k_max, 0)
    beyond = high[0] > low[0, -1]
    k, transfer = np.concatenate([low, high[:, beyond]], axis=1)
    return k, transfer


def _camb_table(omega_m: float, omega_b: float, h: float, k_max: float, per_log: int) -> np.ndarray:
    """Rows k and transfer function, at `per_log` wavenumbers per e-fold; 0: CAMB's own choice."""
    parameters = camb.CAMBparams()
    parameters.set_cosmology(
        H0=100 * h, ombh2=omega_b * h**2, omch2=(omega_m - omega_b) * h**2, omk=0, mnu=0, tau=0.06
    )
    parameters.WantCls = False
    parameters.WantDerivedParameters = False
    parameters.NonLinear = model.NonLinear_none
    parameters.set_matter_power(redshifts=[0.0], kmax=k_max * h, k_per_logint=per_log)
    table = camb.get_results(parameters).get_matter_transfer_data().transfer_data[:, :, 0]
    return np.asarray(table[[0, model.Transfer_tot - 1]], np.float64)


def _eisenstein_hu_transfer(
    omega_m: float, omega_b: float, h: float, k_max: float
) -> tuple[np.ndarray, np.ndarray]:
    """K in h/Mpc and the fitted transfer function at z = 0, 1 at small k, by FlowPM."""
    from flowpm import tfpower  # here, because it takes seconds to load

    k = np.geomspace(1e-5, k_max, 8_000)
    fit = tfpower.Eisenstein_Hu({"Omega0_m": omega_m, "Omega0_b": omega_b, "h": h}, k)
    return k, fit.numpy().astype(np.float64)
