"""Cost against resolution: cells of the same size, from 32 to 256 a side."""

from __future__ import annotations

from typing import Any

import numpy as np
import psutil

from benchmarks.measure import Start, Timing, children
from benchmarks.result import Claim, Result
from spurious.progress import track

FIGURE = "resolution.png"


def run(quick: bool) -> Result:
    sizes, budget = ((16, 32), 0.2) if quick else ((32, 64, 96, 128, 256), 4.0)
    rows: list[dict[str, Any]] = []
    for n in track(sizes, "resolution", unit="box"):
        needed = rows[-1]["peak GB"] * (n / sizes[len(rows) - 1]) ** 3 if rows else 0.0
        if needed > 0.8 * psutil.virtual_memory().available / 1e9:
            rows.append({"n": n, "what": f"left out: would need about {needed:.0f} GB"})
            break
        rows.append(_row(n, budget))
    done = [row for row in rows if "median ms" in row]
    power = _power(done)
    return Result(
        "Cost against resolution, one thread",
        [Claim("power p of cost ~ (N log N)^p, N = n^3 particles", 1.1, power, "", "at most")],
        rows,
        [
            "Each size in a fresh process, cells of 2 Mpc/h, ten stages. p is fitted over all "
            f"sizes but the smallest{'' if len(done) > 2 else ' (here all)'}."
        ],
    )


def figure(result: dict[str, Any]) -> Any:
    """Time and memory against particles, with N log N through 64^3; of a result's JSON."""
    from matplotlib.figure import Figure

    rows = [row for row in result["rows"] if "median ms" in row]
    n = np.array([row["n"] for row in rows])
    seconds = np.array([row["median ms"] for row in rows]) / 1e3
    drawn = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = drawn.subplots(1, 2)
    anchor = int(np.argmin(np.abs(n - 64)))
    left.loglog(n, seconds[anchor] * _work(n) / _work(n)[anchor], "k--", label=r"$N\,\log N$")
    left.loglog(n, seconds, "o", color="#0072B2", label="measured, one thread")
    left.set(ylabel="time per simulation [s]", title="time")
    left.legend(frameon=False)
    right.loglog(n, [row["peak GB"] for row in rows], "o", color="#D55E00")
    right.set(ylabel="peak memory of the process [GB]", title="memory")
    right.set_yticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    for axes in (left, right):
        axes.set_xticks(n, [f"{size}" for size in n])
        axes.minorticks_off()
        axes.set_xlabel(r"cells a side $n$ ($N = n^3$ particles)")
        axes.grid(alpha=0.3)
    return drawn


def _row(n: int, budget: float) -> dict[str, Any]:
    """Time and memory of one size: at least two calls, more if `budget` seconds allow."""
    with children({"ours": Start("benchmarks.box:ours", "one", (n,))}) as running:
        child = running["ours"][0]
        timing = Timing()
        while len(timing.wall) < 2 or sum(timing.wall) < budget:
            child.begin("simulate", 1)
            new = child.end()
            timing.wall += new.wall
            timing.cpu += new.cpu
        return {
            "n": n,
            **timing.row(f"{n}^3 particles"),
            "first call s": child.facts["first_s"],
            "peak GB": child.peak_memory(),
        }


def _work(n: np.ndarray) -> np.ndarray:
    return n**3.0 * np.log(n**3.0)


def _power(rows: list[dict[str, Any]]) -> float:
    kept = rows[1:] if len(rows) > 2 else rows
    n = np.array([row["n"] for row in kept])
    return float(np.polyfit(np.log(_work(n)), np.log([row["median ms"] for row in kept]), 1)[0])
