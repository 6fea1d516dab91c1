"""A simulation: this engine and its suite against FlowPM, as its users call it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import box
from benchmarks.box import clocked
from benchmarks.measure import (
    Child,
    Facts,
    Programs,
    Start,
    Timing,
    Turn,
    children,
    cores,
    interleaved,
)
from benchmarks.result import Claim, Result
from spurious import config
from spurious.simulation import suite
from spurious.simulation.design import nodes

MAPS = 10_000  # the paper's suite
CALLS = {"ours": 5, "FlowPM graph": 2, "FlowPM eager": 1}  # in a turn
GRID = config.Grid(
    kind="grid",
    omega_m=config.Axis(start=0.05, stop=0.55, step=0.05),
    sigma_8=config.Axis(start=0.5, stop=1.0, step=0.05),
)


def run(quick: bool) -> Result:
    n, rounds, simulations = (16, 1, 24) if quick else (64, 2, 484)
    with _competitors(n) as running:
        half = [_round(running, rounds, quick)]
        made = _suite(n, simulations)
        half.append(_round(running, rounds, quick))
        facts = {name: processes[0].facts for name, processes in running.items()}
    timings = {
        name: Timing(half[0][name].wall + half[1][name].wall, half[0][name].cpu + half[1][name].cpu)
        for name in half[0]
    }
    return _result(timings, made, facts)


def flowpm(n: int, eager: bool) -> tuple[Programs, Facts]:
    """FlowPM, eager or as a `tf.function`: from the linear field to the density."""
    import flowpm as theirs
    import tensorflow as tf

    from spurious.simulation import initial_conditions
    from spurious.simulation.particle_mesh import scale_factors

    tf.get_logger().setLevel("ERROR")  # FlowPM casts complex fields a hundred times
    settings = box.settings(n)
    amplitude = initial_conditions.amplitude_of(box.PLANCK, settings)
    linear = initial_conditions.linear_field(tf.constant(box.noise(n)), tf.constant(amplitude))
    linear, stages = linear[None], scale_factors(settings.scale_factors).tolist()

    def simulate(field: tf.Tensor) -> tf.Tensor:
        state = theirs.lpt_init(field, stages[0], 2)
        state = theirs.nbody(state, stages, n)
        return theirs.cic_paint(tf.zeros_like(field), state[0])

    program = simulate if eager else tf.function(simulate)
    density, first = clocked(lambda: program(linear).numpy()[0])
    facts = {"first_s": first, "map": density.sum(axis=2)}
    return {"simulate": lambda: program(linear).numpy()}, facts


def _competitors(n: int) -> Any:
    ours, theirs = "benchmarks.box:ours", "benchmarks.simulation:flowpm"
    return children(
        {
            "ours, all cores": Start(ours, "all", (n,)),
            "ours, processes": Start(ours, "one", (n,), processes=cores()),
            "FlowPM eager, all cores": Start(theirs, "all", (n, True)),
            "FlowPM graph, all cores": Start(theirs, "all", (n, False)),
            "FlowPM graph, processes": Start(theirs, "one", (n, False), processes=cores()),
        }
    )


def _round(running: dict[str, list[Child]], rounds: int, quick: bool) -> dict[str, Timing]:
    turns = {"ours, one thread": Turn(running["ours, processes"][:1], "simulate", CALLS["ours"])}
    for name, processes in running.items():
        calls = CALLS[name.split(",")[0]]
        turns[name] = Turn(processes, "simulate", 1 if quick else calls)
    return interleaved(turns, rounds, "simulate")


def _suite(n: int, simulations: int) -> dict[str, float]:
    """A real suite over the paper's grid: seconds until the first shard and a simulation after.

    The second half counts: by then every worker has met every Omega_m, each of which costs it
    one run of CAMB.
    """
    settings = box.settings(n).model_copy(update={"simulations": simulations, "shard_size": 4})
    place = config.Local(kind="local", workers=cores())
    design = nodes(GRID, simulations, box.SEED)
    with tempfile.TemporaryDirectory() as folder:
        shards, began = Path(folder) / "shards", time.time()
        path = Path(folder) / "maps.h5"
        suite.run(settings, config.Background(), design, box.SEED, shards, path, place)
        total = time.time() - began
        done = np.sort([shard.stat().st_mtime for shard in shards.glob("shard-*.h5")]) - began
    half = len(done) // 2
    each = (done[-1] - done[half - 1]) / (4 * (len(done) - half))
    return {
        "each": float(each),
        "total": total,
        "simulations": simulations,
        "start": float(total - simulations * each),
    }


def _result(timings: dict[str, Timing], made: dict[str, float], facts: dict[str, Facts]) -> Result:
    count = cores()
    rows = [
        timings["ours, one thread"].row("this engine, one thread"),
        timings["ours, all cores"].row("this engine, all cores"),
        timings["ours, processes"].row(f"this engine, {count} processes of one thread", count),
        {"what": f"this suite, {count} workers, {made['simulations']} simulations",
         "median ms": 1e3 * made["each"]},
        timings["FlowPM graph, all cores"].row("FlowPM tf.function, all cores"),
        timings["FlowPM graph, processes"].row(
            f"FlowPM tf.function, {count} processes of one thread", count),
        timings["FlowPM eager, all cores"].row("FlowPM eager, all cores"),
    ]  # fmt: skip
    for row in rows:
        row["ratio to the suite"] = row["median ms"] / (1e3 * made["each"])
    graph, graphs = (timings[f"FlowPM graph, {how}"].median for how in ("all cores", "processes"))
    alone, processes = (timings[f"ours, {how}"].median for how in ("all cores", "processes"))
    alike = facts["ours, all cores"]["map"], facts["FlowPM graph, all cores"]["map"]
    difference = np.sqrt(np.mean((alike[0] - alike[1]) ** 2)) / np.std(alike[1])
    extrapolated = made["start"] + MAPS * made["each"]
    return Result(
        "Time per simulation",
        [
            Claim("suite against FlowPM's tf.function on all cores", 20, graph / made["each"]),
            Claim(
                "10 000 maps, extrapolated from the suite",
                20,
                extrapolated / 60,
                "min",
                "at most",
            ),
        ],
        rows,
        [
            "From white noise (FlowPM: from the linear field) to the density of 64^3 particles "
            "after ten stages; warm, the competitors in turns.",
            f"Projected maps of both codes differ by {difference:.1e} of the fluctuation.",
            "The suite also makes the white noise, projects and writes; a simulation's share of "
            f"the second half of its run is counted. All else, {made['start']:.0f} s of start, "
            "compilation and CAMB for eleven Omega_m a worker, is in the extrapolation once.",
            "One simulation alone, this engine against FlowPM's tf.function, both on all cores: "
            f"{graph / alone:.1f} ×; both side by side in processes of one thread: "
            f"{graphs / processes:.1f} ×.",
            "First call of FlowPM's tf.function, mostly tracing: "
            f"{facts['FlowPM graph, all cores']['first_s']:.1f} s; of FlowPM eager: "
            f"{facts['FlowPM eager, all cores']['first_s']:.1f} s.",
        ],
    )
