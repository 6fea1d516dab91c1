"""Whether several boxes in one program beat processes of one thread; and a GPU, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks import box
from benchmarks.measure import Facts, Programs, Start, Turn, children, cores, interleaved
from benchmarks.result import Claim, Result

BOXES = 4
PROGRAMS = {
    "one": "one box a program",
    "map_fn": f"{BOXES} boxes a program, tf.map_fn",
    "unrolled": f"{BOXES} boxes a program, side by side",
}


def run(quick: bool) -> Result:
    n, rounds, calls = (16, 1, 1) if quick else (64, 5, 2)
    factory, count = "benchmarks.batch:batched", cores()
    starts = {
        "processes": Start("benchmarks.box:ours", "one", (n,), count),
        "all": Start(factory, "all", (n, False)),
        "gpu": Start(factory, "all", (n, True), accelerator=True),
    }
    with children(starts) as running:
        turns = {"processes": Turn(running["processes"], "simulate", BOXES * calls)}
        for name in ("all", "gpu"):
            for program in running[name][0].facts["programs"]:
                turns[f"{name} {program}"] = Turn(running[name], program, calls)
        timings = interleaved(turns, rounds, "batch")
        gpus = running["gpu"][0].facts["gpus"]
    rows = [timings["processes"].row(f"CPU: {count} processes of one thread", count)]
    for place, label in (("all", "CPU, all cores"), ("gpu", f"GPU ({gpus})")):
        for program, what in PROGRAMS.items():
            if f"{place} {program}" in timings:
                boxes = 1 if program == "one" else BOXES
                rows.append(timings[f"{place} {program}"].row(f"{label}: {what}", boxes))
    if not gpus:
        rows.append({"what": "GPU: no GPU on this machine"})
    best = min(row["median ms"] for row in rows[1 : 1 + len(PROGRAMS)])
    claim = Claim(
        "processes of one thread against the best program on all cores",
        1,
        best / rows[0]["median ms"],
    )
    return Result(
        "A batch axis, per simulation",
        [claim],
        rows,
    )


def _fetched(program: Callable[[Any], Any], argument: Any) -> np.ndarray:
    return program(argument).numpy()


def batched(n: int, gpu: bool) -> tuple[Programs, Facts]:
    """One box and several boxes as one XLA program each; nothing where there is no GPU for it."""
    import tensorflow as tf

    from spurious.simulation.particle_mesh import ParticleMesh, evolve

    devices = tf.config.list_physical_devices("GPU")
    if gpu and not devices:
        return {}, {"programs": [], "gpus": ""}
    factors = ParticleMesh(box.settings(n)).factors(box.PLANCK)
    noise = tf.constant(np.stack([box.noise(n)] * BOXES))

    def one(field: tf.Tensor) -> tf.Tensor:
        return evolve(field, factors, 1)

    functions: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], tf.Tensor]] = {
        "one": (one, noise[0]),
        "map_fn": (lambda fields: tf.map_fn(one, fields), noise),
        "unrolled": (lambda fields: tf.stack([one(fields[i]) for i in range(BOXES)]), noise),
    }
    programs: Programs = {}
    for name, (function, argument) in functions.items():
        program = tf.function(function, jit_compile=True)
        program(argument)
        programs[name] = partial(_fetched, program, argument)
    details = [tf.config.experimental.get_device_details(device) for device in devices]
    names = ", ".join(detail.get("device_name", "unknown") for detail in details)
    return programs, {"programs": list(programs), "gpus": names}
