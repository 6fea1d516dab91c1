"""What a defence costs: a training step with it over a plain one."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.measure import Facts, Programs, Start, Turn, children, interleaved
from benchmarks.result import Claim, Result
from benchmarks.training import random_set

MAPS, BATCH = 1024, 32
STEPS = 40  # a call: many more than the pipeline has ready when it begins
SEED = 1
STD = {"value": 0.03, "unit": "std"}
SYSTEMATICS = {
    "logistic": {"kind": "logistic", "beta": {"low": 0.0, "high": 20.0}},
    "calibration": {"kind": "calibration", "log_slopes": {"low": -0.2, "high": 0.2}},
    "gain_drift": {"kind": "gain_drift", "amplitude": {"low": -0.1, "high": 0.1}},
    "beam": {"kind": "beam", "mismatch": {"low": 0.0, "high": 0.2}},
}
DEFENCES: dict[str, dict[str, Any]] = {
    "one step": {"kind": "adversarial_training", "epsilon": STD},
    "three steps": {"kind": "adversarial_training", "epsilon": STD, "steps": 3},
    "TRADES, one step": {"kind": "trades", "epsilon": STD},
    "gradient penalty": {"kind": "gradient_penalty", "weight": 0.01},
    "Fisher penalty": {"kind": "fisher_penalty", "weight": 0.01},
    "systematics": {"kind": "systematics_training", "families": SYSTEMATICS},
}
WANTED = {"one step": 3.0, "systematics": 1.3}
TEXT = {
    "one step": "adversarial training with one inner step over plain training",
    "systematics": "training over four systematics over plain training",
}


def run(quick: bool) -> Result:
    n, maps, batch, steps, rounds = (16, 32, 8, 2, 1) if quick else (64, MAPS, BATCH, STEPS, 10)
    starts = {"ours": Start("benchmarks.defences:ours", "all", (n, maps, batch, steps))}
    names = ["plain", *DEFENCES]
    with children(starts) as c:
        timings = interleaved({name: Turn(c["ours"], name) for name in names}, rounds, "defences")
    plain, rows, ratios = timings["plain"].wall, [], {}
    for name in names:
        ratios[name] = float(np.median(np.divide(timings[name].wall, plain)))
        rows.append({**timings[name].row(name, steps), "ratio": ratios[name]})
    claims = [
        Claim(TEXT[name], wanted, ratios[name], sense="at most") for name, wanted in WANTED.items()
    ]
    return Result(
        f"A training step with a defence, preset compact, {batch} maps of {n} x {n}",
        claims,
        rows,
        [
            f"Each runs the training's own compiled step with its input pipeline, warm; a call is "
            f"{steps} steps. Ratios are medians over calls that follow each other. Random maps, "
            "as no time depends on them.",
        ],
    )


def ours(n: int, maps: int, batch: int, steps: int) -> tuple[Programs, Facts]:
    """Steps of one training each, as `fit` compiles them."""
    import tensorflow as tf

    from spurious import config
    from spurious.defences.build import build
    from spurious.training import loop

    train_set = random_set(n, maps)
    settings = config.Training(epochs=1_000_000, batch_size=batch)

    def program(defence: dict[str, Any] | None) -> Any:
        network = config.Network(kind="network", defence=defence)
        against = build(network.defence, train_set, SEED) if network.defence else None
        untrained = loop.build(train_set, network, SEED)
        count = loop._steps(maps, settings)
        model = loop._trainable(untrained, settings, count, against, SEED)
        data = loop._batches(train_set, settings, SEED, 0)
        step = tf.function(lambda x, y: model.train_step((x, y)), input_signature=data.element_spec)
        batches = iter(data)

        def call() -> None:
            for _ in range(steps):
                step(*next(batches))["loss"].numpy()

        call()
        return call

    programs: Programs = {name: program(one) for name, one in {"plain": None, **DEFENCES}.items()}
    return programs, {}
