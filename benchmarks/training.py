"""The input pipeline (shuffling, augmentation, tf.data) against a bare training step."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.measure import Facts, Programs, Start, Turn, children, interleaved
from benchmarks.result import Claim, Result

MAPS, BATCH = 1024, 32
STEPS = 40  # a call: many more than the pipeline has ready when it begins
SEED = 1
WHAT = {
    "fixed": "step on one batch in memory",
    "pipeline": "step, every batch from the pipeline",
    "batch": "batch from the pipeline, no step beside it",
    "augment": "of it: augmentation by NumPy",
}


def run(quick: bool) -> Result:
    n, maps, batch, steps, rounds = (16, 32, 8, 2, 1) if quick else (64, MAPS, BATCH, STEPS, 10)
    with children({"ours": Start("benchmarks.training:ours", "all", (n, maps, batch, steps))}) as c:
        timings = interleaved({name: Turn(c["ours"], name) for name in WHAT}, rounds, "training")
    ratios = np.divide(timings["pipeline"].wall, timings["fixed"].wall)
    rows: list[dict[str, Any]] = [timings[name].row(WHAT[name], steps) for name in WHAT]
    rows[0]["ratio"] = 1.0
    rows[1]["ratio"] = float(np.median(ratios))
    claim = Claim(
        f"training step with the input pipeline over a bare one, batch {batch}",
        1.1,
        float(np.median(ratios)),
        sense="at most",
    )
    return Result(
        f"A training step and its input, preset compact, {batch} maps of {n} x {n}",
        [claim],
        rows,
        [
            f"Both run the same compiled step, warm; each call is {steps} steps. The ratio is the "
            "median over pairs of calls that follow each other; they range from "
            f"{ratios.min():.3f} to {ratios.max():.3f}. Random maps, as no time depends on them.",
        ],
    )


def ours(n: int, maps: int, batch: int, steps: int) -> tuple[Programs, Facts]:
    """The training's own model and batches, and one step of them as `fit` compiles it."""
    import tensorflow as tf

    from spurious import config
    from spurious.training import loop
    from spurious.training.augmentation import augment

    train_set = random_set(n, maps)
    settings = config.Training(epochs=1_000_000, batch_size=batch)
    network = loop.build(train_set, config.Network(kind="network"), SEED)
    model = loop._trainable(network, settings, loop._steps(maps, settings))
    data = loop._batches(train_set, settings, SEED, 0)
    step = tf.function(lambda x, y: model.train_step((x, y)), input_signature=data.element_spec)
    batches, alone = iter(data), iter(data)
    one, generator = next(batches), np.random.default_rng(SEED)

    def fixed() -> None:
        for _ in range(steps):
            step(*one)["loss"].numpy()

    def pipeline() -> None:
        for _ in range(steps):
            step(*next(batches))["loss"].numpy()

    def batch_alone() -> None:
        for _ in range(steps):
            next(alone)

    def augmented() -> None:
        for _ in range(steps):
            augment(train_set.maps[:batch], generator)

    programs: Programs = {
        "fixed": fixed,
        "pipeline": pipeline,
        "batch": batch_alone,
        "augment": augmented,
    }
    for program in programs.values():
        program()
    return programs, {}


def random_set(n: int, count: int) -> Any:
    """A data set of `count` maps without structure."""
    from spurious.data.maps import MapSet

    draw = np.random.default_rng(SEED)
    return MapSet(
        maps=draw.gamma(3.0, 64 / 3, (count, n, n)).astype(np.float32),
        labels=draw.uniform((0.05, 0.5), (0.55, 1.0), (count, 2)),
        seeds=np.arange(count, dtype=np.uint64),
        index=np.arange(count),
        axis=np.full(count, 2, np.int8),
        box_size=2.0 * n,
    )
