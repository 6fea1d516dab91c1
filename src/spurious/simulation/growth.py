"""Growth of structure in flat LCDM, and the kick and drift factors of FastPM's leapfrog.

Equations: first and second order growth, Florent Leclercq's thesis (arXiv:1512.04985), Eq. 1.96;
kick and drift, FastPM (Feng et al. 2016, arXiv:1603.00476), Eqs. 4 to 8. Radiation is neglected.
Both growth factors are normalised to 1 today, as in FlowPM, and 3/7 is part of the second-order
source term. So second-order displacements lack a factor Omega_m^(-1/143): 2 % at Omega_m = 0.05.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.integrate import OdeSolution, solve_ivp

A_START = 1e-4  # matter dominates so well that D1 = a and D2 = -3/7 a^2 to 1e-10


@dataclass(frozen=True)
class Growth:
    """Expansion and growth at the scale factors `a`; all arrays have the shape of `a`.

    Attributes:
        a: scale factors.
        e: Hubble rate in units of today's.
        d1: first-order growth factor, 1 today.
        f1: d ln D1 / d ln a.
        d2: second-order growth factor, 1 today.
        f2: d ln D2 / d ln a.
        omega_m_a: matter density at a in units of the critical density at a.
    """

    a: np.ndarray
    e: np.ndarray
    d1: np.ndarray
    f1: np.ndarray
    d2: np.ndarray
    f2: np.ndarray
    omega_m_a: np.ndarray

    @property
    def d1_prime(self) -> np.ndarray:
        """Derivative dD1/da."""
        return self.f1 * self.d1 / self.a

    @property
    def g(self) -> np.ndarray:
        """Momentum of the growing mode, G = a^3 E dD1/da (FastPM, Eq. 7)."""
        return self.a**3 * self.e * self.d1_prime

    @property
    def g_prime(self) -> np.ndarray:
        """Derivative dG/da; the growth equation makes it 3/2 Omega_m(a) a E D1."""
        return 1.5 * self.omega_m_a * self.a * self.e * self.d1


def growth(omega_m: float, a: np.ndarray) -> Growth:
    """Growth in flat LCDM at scale factors `a`, each from 1e-4 to 1."""
    a = np.asarray(a, np.float64)
    if np.any((a < A_START) | (a > 1)):
        raise ValueError(f"scale factors {a} must lie between {A_START} and 1")
    solution = _solve(omega_m)
    today = solution(0.0)
    d1, d1_log, d2, d2_log = solution(np.log(a).ravel()).reshape(4, *a.shape)
    return Growth(
        a=a,
        e=np.sqrt(omega_m / a**3 + 1 - omega_m),
        d1=d1 / today[0],
        f1=d1_log / d1,
        d2=d2 / today[2],
        f2=d2_log / d2,
        omega_m_a=_omega_m(omega_m, a),
    )


def leapfrog(omega_m: float, scale_factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kick and drift factors of a leapfrog through S scale factors, each of shape (S - 1,).

    Step i changes momenta by kick[i] * force at scale_factors[i] and then positions by
    drift[i] * momentum, up to scale_factors[i + 1]. Both half kicks at a scale factor are one
    kick here, since they share one force; the last half kick is left out, because it moves
    no particle. The force is that of a potential with Laplacian 3/2 Omega_m delta.
    """
    ends = growth(omega_m, scale_factors)
    middles = growth(omega_m, np.sqrt(ends.a[1:] * ends.a[:-1]))
    momenta = np.concatenate([ends.g[:1], middles.g])
    kick = np.diff(momenta) / (ends.a**2 * ends.e * ends.g_prime)[:-1]
    drift = np.diff(ends.d1) / (middles.a**3 * middles.e * middles.d1_prime)
    return kick, drift


def _omega_m(omega_m: float, a: np.ndarray) -> np.ndarray:
    """Matter density at a in units of the critical density at a."""
    return omega_m / (omega_m + (1 - omega_m) * a**3)


@lru_cache(maxsize=256)
def _solve(omega_m: float) -> OdeSolution:
    """(D1, dD1/dln a, D2, dD2/dln a) as a function of ln a, not normalised."""

    def derivative(log_a: float, y: np.ndarray) -> tuple[float, float, float, float]:
        omega = _omega_m(omega_m, np.exp(log_a))
        friction = 2 - 1.5 * omega
        d1, d1_log, d2, d2_log = y
        return (
            d1_log,
            1.5 * omega * d1 - friction * d1_log,
            d2_log,
            1.5 * omega * (d2 - d1**2) - friction * d2_log,
        )

    start = np.array([1.0, 1.0, -3 / 7 * A_START, -6 / 7 * A_START]) * A_START
    return solve_ivp(
        derivative,
        (np.log(A_START), 0.0),
        start,
        method="DOP853",
        rtol=1e-11,
        atol=1e-16,
        dense_output=True,
    ).sol
