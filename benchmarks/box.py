"""The box that all benchmarks share: the paper's, at FlowPM's own Planck cosmology."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Facts, Programs
from spurious import config
from spurious.cosmology import Cosmology
from spurious.simulation import white_noise

# FlowPM 0.1.1 simulates its own Planck cosmology whatever it is told, so that one is compared.
PLANCK = Cosmology(omega_m=0.3075, sigma_8=0.8159)
CELL = 2.0  # Mpc/h, the paper's
SEED = 1


def settings(n: int) -> config.Simulation:
    """The paper's particle mesh with n cells a side, of the paper's size."""
    return config.Simulation(n_cells=n, box_size=config.Length(value=CELL * n, unit="Mpc/h"))


def noise(n: int) -> np.ndarray:
    """The white noise (n, n, n) of all competitors."""
    return white_noise(SEED, n)


def particles(n: int) -> np.ndarray:
    """Positions (n^3, 3) in cells of a smooth flow: displaced by three cells RMS, as at z = 0.

    Made by NumPy alone, so that they do not depend on any competitor.
    """
    wave = [2 * np.pi * np.fft.fftfreq(n)] * 2 + [2 * np.pi * np.fft.rfftfreq(n)]
    k = np.meshgrid(*wave, indexing="ij", sparse=True)
    square = sum(component**2 for component in k)
    square[0, 0, 0] = 1
    spectrum = np.fft.rfftn(noise(n)) * square**-1.5 * np.exp(-square)
    flow = np.stack([np.fft.irfftn(1j * component * spectrum, [n] * 3) for component in k], -1)
    flow *= 3 / np.sqrt(np.mean(np.sum(flow**2, axis=-1)))
    lattice = np.moveaxis(np.indices([n] * 3), 0, -1)
    return (lattice + flow).reshape(-1, 3).astype(np.float32)


def clocked(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and the seconds that it takes."""
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began


def ours(n: int) -> tuple[Programs, Facts]:
    """This engine: program `simulate`, and what the first map of a process costs."""
    _, importing = clocked(lambda: __import__("tensorflow"))
    from spurious.simulation.particle_mesh import ParticleMesh

    field, engine = noise(n), ParticleMesh(settings(n))
    _, linear_power = clocked(lambda: engine.factors(PLANCK))
    density, first = clocked(lambda: engine.density(PLANCK, field))
    facts = {
        "import_s": importing,
        "linear_power_s": linear_power,
        "first_s": first,
        "map": density.sum(axis=2),
    }
    return {"simulate": lambda: engine.density(PLANCK, field)}, facts
