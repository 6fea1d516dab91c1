"""What a simulation engine is, and one simulation from its parameters to its map.

The engines themselves are imported only when chosen, because TensorFlow takes seconds.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from spurious import config
from spurious.cosmology import Cosmology


class Engine(Protocol):
    """Evolves white noise into density. Engines with the same settings agree to 1e-5."""

    settings: config.Simulation

    def density(self, cosmology: Cosmology, white_noise: np.ndarray) -> np.ndarray:
        """Density at the last scale factor in units of the mean.

        Args:
            cosmology: the universe.
            white_noise: unit-variance Gaussian (n, n, n) float32.

        Returns:
            (n, n, n) float32, mean 1, never negative.
        """
        ...


def make_engine(settings: config.Simulation) -> Engine:
    """The engine that `settings.engine` names."""
    if settings.engine == "flowpm":
        from spurious.simulation.flowpm_engine import FlowPM

        return FlowPM(settings)
    from spurious.simulation.particle_mesh import ParticleMesh

    return ParticleMesh(settings)


def project(density: np.ndarray, axis: int = 2) -> np.ndarray:
    """Sum of the cells along the line of sight: (n, n, n) to (n, n) counts of mean n."""
    return density.sum(axis=axis, dtype=np.float32)


def white_noise(seed: int, n_cells: int) -> np.ndarray:
    """Unit-variance Gaussian white noise (n, n, n), float32."""
    return np.random.default_rng(seed).standard_normal((n_cells,) * 3, dtype=np.float32)


def cosmology_at(omega_m: float, sigma_8: float, background: config.Background) -> Cosmology:
    """The cosmology of one grid node."""
    return Cosmology(
        omega_m=float(omega_m),
        sigma_8=float(sigma_8),
        omega_b=background.omega_b,
        h=background.h,
        n_s=background.n_s,
    )


def simulate(
    omega_m: float,
    sigma_8: float,
    seed: int,
    settings: config.Simulation | None = None,
    background: config.Background | None = None,
) -> np.ndarray:
    """Simulate one projected density map.

    Args:
        omega_m: matter density today.
        sigma_8: RMS linear density contrast in 8 Mpc/h spheres today.
        seed: of the white noise, any non-negative integer.
        settings: the box and its particle mesh; default: the paper's.
        background: everything else; default: Planck 2015.

    Returns:
        (n, n) float32, projected particle count per pixel, mean n.

    Example:
        >>> simulate(0.3, 0.8, seed=1).shape
        (64, 64)
    """
    settings = settings or config.Simulation()
    universe = cosmology_at(omega_m, sigma_8, background or config.Background())
    return one_map(make_engine(settings), universe, seed)


def one_map(engine: Engine, cosmology: Cosmology, seed: int) -> np.ndarray:
    """Projected map (n, n) of one cosmology and white-noise seed.

    Raises:
        FloatingPointError: the field is not finite; names cosmology and seed.
    """
    result = project(engine.density(cosmology, white_noise(seed, engine.settings.n_cells)))
    if not np.isfinite(result).all():
        raise FloatingPointError(
            f"the density is not finite at omega_m = {cosmology.omega_m}, "
            f"sigma_8 = {cosmology.sigma_8}, seed = {seed}"
        )
    return result
