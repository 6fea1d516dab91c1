"""All perturbations of params.yaml on 500 maps: what each group costs, damage included."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attacks import BOX, network, random_maps
from benchmarks.measure import Facts, Programs, Start, children
from benchmarks.result import Result

ROOT = Path(__file__).resolve().parents[1]


def run(quick: bool) -> Result:
    n, maps = (16, 8) if quick else (64, 500)
    with children({"suite": Start("benchmarks.suite:suite", "all", (n, maps))}) as running:
        facts = running["suite"][0].facts
    groups: dict[str, list[tuple[str, float]]] = {}
    for name, (group, seconds) in facts["seconds"].items():
        groups.setdefault(group, []).append((name, seconds))
    rows: list[dict[str, Any]] = []
    for group, members in groups.items():
        slowest, longest = max(members, key=lambda member: member[1])
        rows.append(
            {
                "what": group,
                "perturbations": len(members),
                "s": sum(seconds for _, seconds in members),
                "slowest": f"{slowest}, {longest:.0f} s",
            }
        )
    rows.append(
        {"what": "all", "perturbations": len(facts["seconds"]), "s": sum(row["s"] for row in rows)}
    )
    notes = [
        f"{maps} maps of {n} x {n}, preset compact, all cores; each perturbation once, its "
        "compilation and its row of damage included. Attacks on other posteriors are made on a "
        "second network. What acts on simulations is left out; what asks for fewer maps gets all."
    ]
    return Result("The whole suite", [], rows, notes)


def suite(n: int, count: int) -> tuple[Programs, Facts]:
    """Seconds of every entry of params.yaml on the same maps."""
    from spurious import params
    from spurious.damage import measure
    from spurious.data.maps import MapSet
    from spurious.perturbations.build import apply, build
    from spurious.progress import track

    posterior, other = network(n), network(n)
    index = np.arange(count)
    draw = np.random.default_rng(1)
    data = MapSet(
        maps=random_maps(n, count),
        labels=draw.uniform((0.05, 0.5), (0.55, 1.0), (count, 2)),
        seeds=index.astype(np.uint64),
        index=index,
        axis=np.full(count, 2, np.int8),
        box_size=BOX,
    )
    training = replace(data, maps=data.maps[::-1].copy())
    config = params.load(ROOT / "params.yaml")
    measure(data.maps[:128], data.maps[:128] + np.float32(1), posterior, BOX)
    seconds: dict[str, tuple[str, float]] = {}
    for name, group in track(config.attacked.items(), "suite"):
        settings = config.entries[name]
        if settings.kind == "initial_conditions":
            continue
        began = time.perf_counter()
        perturbation = build(settings, posterior, data, 1, training, lambda _: other)
        perturbed = apply(perturbation, data)
        measure(data.maps, perturbed.maps, posterior, BOX).row(1)
        seconds[name] = (group, time.perf_counter() - began)
    return {}, {"seconds": seconds}
