"""Attacks: BIM against ten bare passes, P(k) against powerbox and NumPy, memory of the damage."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.measure import (
    Facts,
    Programs,
    Start,
    Timing,
    Turn,
    children,
    interleaved,
    peak_memory,
)
from benchmarks.result import Claim, Result

STEPS = 10
BOX = 128.0
WHAT = {
    "bim": f"BIM, {STEPS} steps",
    "passes": f"{STEPS} bare forward and backward passes",
    "ours": "P(k) of all maps, spurious.spectra",
    "numpy": "P(k) of all maps, NumPy",
    "powerbox": "P(k) of all maps, powerbox",
}


def run(quick: bool) -> Result:
    n, maps, damaged, rounds = (16, 8, 16, 1) if quick else (64, 128, 3000, 5)
    starts = {
        "attack": Start("benchmarks.attacks:attack", "all", (n, maps)),
        "spectra": Start("benchmarks.attacks:spectra", "all", (n, maps)),
        "damage": Start("benchmarks.attacks:damage", "all", (n, damaged)),
    }
    with children(starts) as running:
        turns = {name: Turn(running["attack"], name) for name in ("bim", "passes")}
        turns |= {name: Turn(running["spectra"], name) for name in ("ours", "numpy", "powerbox")}
        timings = interleaved(turns, rounds, "attacks")
        before = running["damage"][0].facts["peak_gb"]
        measured = interleaved({"damage": Turn(running["damage"], "damage")}, 1, "damage")
        memory = running["damage"][0].peak_memory()
    return _result(timings, measured["damage"], memory, before, n, maps, damaged)


def attack(n: int, count: int) -> tuple[Programs, Facts]:
    """BIM as the package runs it, and its network's bare gradients on the same batch."""
    import tensorflow as tf

    from spurious.perturbations.gradient import BIM

    posterior, maps, truth = network(n), tf.constant(random_maps(n, count)), _truth(count)
    bim = BIM(posterior, alpha=0.38, steps=STEPS, batch_size=count)

    @tf.function
    def gradient(maps: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(maps)
            loss = -tf.reduce_sum(posterior(maps).log_prob(truth))
        return tape.gradient(loss, maps)

    def passes() -> None:
        for _ in range(STEPS):
            gradient(maps).numpy()

    programs: Programs = {"bim": lambda: bim(maps, truth).numpy(), "passes": passes}
    for program in programs.values():
        program()
    return programs, {}


def spectra(n: int, count: int) -> tuple[Programs, Facts]:
    """The same annuli by three codes; NumPy sums all maps at once, powerbox one at a time."""
    from powerbox import get_power

    from spurious import spectra as own

    maps = random_maps(n, count)
    bins = own.bins(n, BOX)
    edges = (np.arange(len(bins.k) + 1) + 0.5) * 2 * np.pi / BOX

    def numpy() -> np.ndarray:
        contrast = maps / maps.mean(axis=(1, 2), keepdims=True) - 1
        squared = np.abs(np.fft.rfft2(contrast)) ** 2
        rows, columns = np.fft.fftfreq(n, 1 / n)[:, None], np.fft.rfftfreq(n, 1 / n)[None]
        number = np.digitize(np.hypot(rows, columns), np.arange(len(edges)) + 0.5)
        weight = np.broadcast_to(np.where((columns == 0) | (columns == n / 2), 1, 2), number.shape)
        total = np.stack([np.bincount(number.ravel(), (weight * one).ravel()) for one in squared])
        return (
            total[:, 1 : len(edges)]
            / np.bincount(number.ravel(), weight.ravel())[1 : len(edges)]
            * (BOX**2 / n**4)
        )

    def powerbox() -> np.ndarray:
        options = {"bins": edges, "remove_shotnoise": False, "ignore_zero_mode": True}
        return np.stack(
            [get_power(m / m.mean() - 1, BOX, bins_upto_boxlen=True, **options).power for m in maps]
        )

    programs: Programs = {
        "ours": lambda: own.power(maps, BOX, contrast=True).numpy(),
        "numpy": numpy,
        "powerbox": powerbox,
    }
    found = [program() for program in programs.values()]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=1e-3)
    return programs, {}


def damage(n: int, count: int) -> tuple[Programs, Facts]:
    """The damage table's row for many maps, and the memory before it was asked for."""
    import os
    import sys

    # TensorFlow loads JAX where it finds it; only the environment of the benchmarks has it.
    sys.modules["jax"] = None  # type: ignore[assignment]
    from spurious.damage import measure

    posterior, maps = network(n), random_maps(n, count)
    perturbed = maps + np.float32(1)
    posterior(maps[:1])
    return (
        {"damage": lambda: measure(maps, perturbed, posterior, BOX).row(1)},
        {"peak_gb": peak_memory(os.getpid())},
    )


def network(n: int) -> Any:
    """The compact preset; what its weights are changes no time."""
    from spurious.data.maps import Standardiser
    from spurious.networks.compact import Compact
    from spurious.networks.head_layer import HEAD, HeadLayer
    from spurious.posteriors.trained import NetworkPosterior

    head = HeadLayer({"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}, name=HEAD)
    return NetworkPosterior(Compact().model(n, head, Standardiser(64.0, 38.0), seed=1))


def random_maps(n: int, count: int) -> np.ndarray:
    unit = np.random.default_rng(0).standard_gamma(2.7, (count, n, n), np.float32)
    unit *= np.float32(n / 2.7)
    return unit


def _truth(count: int) -> np.ndarray:
    return np.tile(np.array([0.3, 0.8], np.float32), (count, 1))


def _result(
    timings: dict[str, Timing],
    measured: Timing,
    memory: float,
    before: float,
    n: int,
    maps: int,
    damaged: int,
) -> Result:
    from spurious.damage import BATCH

    ratio = float(np.median(np.divide(timings["bim"].wall, timings["passes"].wall)))
    rows: list[dict[str, Any]] = [timings[name].row(what) for name, what in WHAT.items()]
    rows.append(measured.row(f"damage of {damaged} maps, one row of the table"))
    rows[-1]["peak GB"] = memory
    claims = [
        Claim(f"BIM over {STEPS} bare passes", 1.1, ratio, sense="at most"),
        Claim("P(k): powerbox over ours", 1, timings["powerbox"].median / timings["ours"].median),
        Claim("P(k): NumPy over ours", 1, timings["numpy"].median / timings["ours"].median),
        Claim(
            f"peak memory of the damage of {damaged} maps",
            1.0,
            memory,
            "GB",
            "at most",
        ),
    ]
    notes = [
        f"{maps} maps of {n} x {n}, preset compact, all cores. The three codes agree on P(k) to "
        f"1e-3 before they are timed. Damage is measured {BATCH} maps at a time; its process "
        f"held {before:.2f} GB, most of it TensorFlow, before it began."
    ]
    return Result("Attacks and damage", claims, rows, notes)
