"""The floor: a simulation against nothing but its Fourier transforms, reads and writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import box
from benchmarks.measure import Facts, Programs, Start, Timing, Turn, children, interleaved
from benchmarks.result import Claim, Result

# (rfft3d, irfft3d): white noise to linear field, linear field to potential, second-order source
# to potential; and one force by differences of the potential. Of three forces as one gradient
# each, which FlowPM and JaxPM do, FORCE would be (1, 3).
START, FORCE, TEXTBOOK_FORCE = (3, 3), (1, 1), (1, 3)
CORNERS = 8
COPIES = 8  # of an operation in one program, so that its call costs nothing


def run(quick: bool) -> Result:
    n, rounds, calls = (16, 1, 2) if quick else (64, 6, 10)
    starts = {
        "whole": Start("benchmarks.box:ours", "one", (n,)),
        "xla": Start("benchmarks.floor:xla", "one", (n,)),
        "numpy": Start("benchmarks.floor:numpy", "one", (n,)),
    }
    names = ("rfft3d", "irfft3d", "write", "read")
    with children(starts) as running:
        turns = {"whole": Turn(running["whole"], "simulate", calls)}
        for framework in ("xla", "numpy"):
            for name in names:
                turns[f"{framework} {name}"] = Turn(running[framework], name, calls)
        timings = interleaved(turns, rounds, "floor")
    return _result(timings, box.settings(n).scale_factors.stages - 1)


def xla(n: int) -> tuple[Programs, Facts]:
    """Each operation alone, several times in one XLA program, on arrays that are there."""
    import tensorflow as tf

    field, cells, weights = _arrays(n)
    spectrum = tf.signal.rfft3d(field)
    rows = tf.constant(np.repeat(field.reshape(-1, 1), 3, axis=1))
    shares = tf.constant(weights.ravel())
    flat, each = tf.constant(cells.ravel()), tf.constant(cells)
    weight = tf.constant(weights)

    def read(rows: tf.Tensor, cells: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        return tf.add_n([weights[i][:, None] * tf.gather(rows, cells[i]) for i in range(CORNERS)])

    def write(shares: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
        return tf.math.unsorted_segment_sum(shares, cells, n**3)

    programs = {
        "rfft3d": _compiled(tf.signal.rfft3d, tf.constant(field)),
        "irfft3d": _compiled(lambda s: tf.signal.irfft3d(s, [n, n, n]), spectrum),
        "write": _compiled(write, shares, flat),
        "read": _compiled(read, rows, each, weight),
    }
    return programs, {}


def numpy(n: int) -> tuple[Programs, Facts]:
    """The same by SciPy's pocketfft in single precision and NumPy's bincount and take."""
    from scipy import fft

    field, cells, weights = _arrays(n)
    spectrum = fft.rfftn(field)
    rows = np.repeat(field.reshape(-1, 1), 3, axis=1)
    flat, shares = cells.ravel(), weights.ravel()

    def read() -> np.ndarray:
        total = np.zeros((n**3, 3), np.float32)
        for cell, weight in zip(cells, weights, strict=True):
            total += weight[:, None] * rows.take(cell, axis=0)
        return total

    programs: Programs = {
        "rfft3d": lambda: fft.rfftn(field, workers=1),
        "irfft3d": lambda: fft.irfftn(spectrum, field.shape, workers=1),
        "write": lambda: np.bincount(flat, shares, n**3),
        "read": read,
    }
    for program in programs.values():
        program()
    return programs, {}


def _compiled(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    import tensorflow as tf

    copies = [[tf.identity(argument) for argument in arguments] for _ in range(COPIES)]
    program = tf.function(lambda copies: [function(*copy) for copy in copies], jit_compile=True)
    program(copies)
    return lambda: [result.numpy() for result in program(copies)]


def _arrays(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A field (n, n, n), and the cells and weights (8, n^3) of cloud-in-cell particles."""
    position = box.particles(n)
    floor = np.floor(position)
    upper = position - floor
    cells, weights = [], []
    for corner in np.ndindex(2, 2, 2):
        x, y, z = (floor.astype(np.int32) + np.array(corner, np.int32)).T % n
        cells.append((x * n + y) * n + z)
        weights.append(np.prod(np.where(corner, upper, 1 - upper), axis=1, dtype=np.float32))
    return box.noise(n), np.stack(cells), np.stack(weights)


def _result(timings: dict[str, Timing], forces: int) -> Result:
    whole = timings["whole"].median
    rows = [timings["whole"].row("whole simulation")]
    parts = {}
    for framework, label, copies in (("xla", "XLA", COPIES), ("numpy", "SciPy and NumPy", 1)):
        parts[framework] = {
            name: timings[f"{framework} {name}"].median / copies
            for name in ("rfft3d", "irfft3d", "write", "read")
        }
        rows += [
            timings[f"{framework} {name}"].row(f"{label}: one {name}", copies)
            for name in parts[framework]
        ]
    hardest = {name: min(part[name] for part in parts.values()) for name in parts["xla"]}
    floors = {
        "XLA": _floor(parts["xla"], forces, FORCE),
        "XLA, three inverse transforms a force": _floor(parts["xla"], forces, TEXTBOOK_FORCE),
        "the faster framework for each operation": _floor(hardest, forces, FORCE),
    }
    for label, (transforms, particles) in floors.items():
        total = transforms + particles
        rows.append({"what": f"floor: {label}", "median ms": 1e3 * total,
                     "whole / floor": whole / total, "FFTs ms": 1e3 * transforms,
                     "reads and writes ms": 1e3 * particles})  # fmt: skip
    claim = Claim(
        "simulation over its FFTs, reads and writes (XLA)",
        2.5,
        whole / sum(floors["XLA"]),
        sense="at most",
    )
    return Result(
        "A simulation against its floor, one thread",
        [claim],
        rows,
        [
            f"The floor: {START[0]} rfft3d and {START[1]} irfft3d for the initial conditions, "
            f"{FORCE[0]} and {FORCE[1]} for each of {forces} forces; a write (8 shares a particle "
            "summed into cells) and a read (8 cells of 3 numbers a particle) a force, and a last "
            "write. Cells and weights are there already; NumPy writes in double precision.",
        ],
    )


def _floor(part: dict[str, float], forces: int, force: tuple[int, int]) -> tuple[float, float]:
    """Seconds of the transforms, and of the reads and writes, of a simulation."""
    transforms = (START[0] + forces * force[0]) * part["rfft3d"]
    transforms += (START[1] + forces * force[1]) * part["irfft3d"]
    return transforms, (forces + 1) * part["write"] + forces * part["read"]
