"""A force evaluation: this engine against JaxPM's, on the same particles and mesh."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np

from benchmarks import box
from benchmarks.box import clocked
from benchmarks.measure import (
    THREADS,
    Facts,
    Programs,
    Start,
    Threads,
    Timing,
    Turn,
    children,
    interleaved,
)
from benchmarks.result import Claim, Result


def run(quick: bool) -> Result:
    n, rounds, calls = (16, 1, 2) if quick else (64, 6, 10)
    starts = {
        f"{who}, {threads}": Start(f"benchmarks.force:{who}", threads, (n,))
        for threads in get_args(Threads)
        for who in ("ours", "jaxpm")
    }
    with children(starts) as running:
        turns = {}
        facts = {name: processes[0].facts for name, processes in running.items()}
        for name, processes in running.items():
            for program in facts[name]["programs"]:
                turns[f"{name}, {program}"] = Turn(processes, program, calls)
        timings = interleaved(turns, rounds, "force")
    return _result(timings, facts)


def ours(n: int) -> tuple[Programs, Facts]:
    """This engine's force, compiled as in the simulation."""
    import tensorflow as tf

    from spurious.simulation.particle_mesh import force

    position = tf.constant(box.particles(n))
    program = tf.function(lambda x: force(x, n, 1), jit_compile=True)
    result, first = clocked(lambda: program(position).numpy())
    facts = {"force": result, "first_s": first, "programs": ["force"]}
    return {"force": lambda: program(position).numpy()}, facts


def jaxpm(n: int) -> tuple[Programs, Facts]:
    """JaxPM's force, jitted: from positions, and from displacements of the lattice."""
    if set(THREADS) & set(os.environ):
        os.environ["NPROC"] = "1"
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    # jax-cosmo asks pkg_resources for its own version; setuptools has it no longer.
    stand_in: Any = SimpleNamespace(
        DistributionNotFound=metadata.PackageNotFoundError, get_distribution=metadata.distribution
    )
    sys.modules.setdefault("pkg_resources", stand_in)
    import jax
    from jaxpm.pm import pm_forces

    position = box.particles(n).reshape(n, n, n, 3)
    lattice = np.moveaxis(np.indices([n] * 3), 0, -1).astype(np.float32)
    shape = (n, n, n)
    absolute = jax.jit(lambda x: pm_forces(x, mesh_shape=shape))
    relative = jax.jit(lambda x: pm_forces(x, mesh_shape=shape, paint_absolute_pos=False))
    inputs = {
        "positions": (absolute, jax.numpy.asarray(position)),
        "displacements": (relative, jax.numpy.asarray(position - lattice)),
    }
    forces = {name: np.asarray(program(x)).reshape(-1, 3) for name, (program, x) in inputs.items()}
    programs: Programs = {
        name: partial(_waited, program, x) for name, (program, x) in inputs.items()
    }
    return programs, {"force": forces, "programs": list(programs)}


def _waited(program: Callable[[Any], Any], argument: Any) -> Any:
    return program(argument).block_until_ready()


def _result(timings: dict[str, Timing], facts: dict[str, Facts]) -> Result:
    labels = {"one": "one thread", "all": "all cores"}
    rows, claims = [], []
    for threads, label in labels.items():
        mine = timings[f"ours, {threads}, force"]
        theirs = {
            name: timings[f"jaxpm, {threads}, {name}"] for name in ("positions", "displacements")
        }
        rows.append(mine.row(f"this engine, {label}"))
        rows += [timing.row(f"JaxPM from {name}, {label}") for name, timing in theirs.items()]
        best = min(timing.median for timing in theirs.values())
        claims.append(Claim(f"force against JaxPM's faster one, {label}", 3, best / mine.median))
    mine_force = facts["ours, one"]["force"]
    notes = []
    for name, force in facts["jaxpm, one"]["force"].items():
        scale = np.vdot(mine_force, force) / np.vdot(mine_force, mine_force)
        rms = np.sqrt(np.mean((force - mine_force) ** 2) / np.mean(mine_force**2))
        notes.append(
            f"JaxPM's force from {name} is {scale:.6f} × ours; the RMS of the difference is "
            f"{rms:.1e} of the force."
        )
    notes.append("Both use the four-point gradient and 1/k^2; JaxPM's FFTs are complex.")
    return Result("Time per force evaluation, 64^3 particles", claims, rows, notes)
