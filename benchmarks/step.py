"""A training step of `compact` against its bare convolutions, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.measure import Facts, Programs, Start, Turn, children, interleaved
from benchmarks.result import Claim, Result
from benchmarks.training import BATCH, SEED, random_set

STEPS = 10  # a call
WHAT = {
    "step": "training step",
    "gradient": "of it: loss and gradient, without the optimizer",
    "convolutions": "its convolutions alone, forward and backward",
    "xla": "training step, compiled by XLA",
}


def run(quick: bool) -> Result:
    n, batch, steps, rounds = (16, 4, 2, 1) if quick else (64, BATCH, STEPS, 20)
    with children({"ours": Start("benchmarks.step:ours", "all", (n, batch, steps))}) as c:
        timings = interleaved({name: Turn(c["ours"], name) for name in WHAT}, rounds, "step")
    ratios = np.divide(timings["step"].wall, timings["convolutions"].wall)
    processor = sum(timings["step"].cpu) / sum(timings["convolutions"].cpu)
    slower = float(np.median(np.divide(timings["xla"].wall, timings["step"].wall)))
    claim = Claim(
        f"training step over its bare convolutions, batch {batch}",
        1.5,
        float(np.median(ratios)),
        sense="at most",
    )
    rows: list[dict[str, Any]] = [timings[name].row(WHAT[name], steps) for name in WHAT]
    return Result(
        f"A training step and its convolutions, preset compact, {batch} maps of {n} x {n}",
        [claim],
        rows,
        [
            f"Each call is {steps} steps on one batch in memory. The ratio is the median over "
            f"calls that follow each other; they range from {ratios.min():.2f} to "
            f"{ratios.max():.2f}. Of processor time it is {processor:.2f}. The convolutions are "
            "the same five, on padded images; the first needs no gradient of its input. Beside "
            "them a step has wrap padding, silu, poolings, biases, the head and AdamW. XLA takes "
            f"{slower:.2g} times as long for the same step: trainings do without.",
        ],
    )


def ours(n: int, batch: int, steps: int) -> tuple[Programs, Facts]:
    """The training's own model and one step of it as `fit` compiles it, and its convolutions."""
    import tensorflow as tf

    from spurious import config
    from spurious.training import loop

    train_set = random_set(n, 2 * batch)
    settings = config.Training(epochs=1_000_000, batch_size=batch)
    network = loop.build(train_set, config.Network(kind="network"), SEED)
    model = loop._trainable(network, settings, 2)
    data = loop._batches(train_set, settings, SEED, 0)
    one = next(iter(data))
    step, compiled = (
        tf.function(
            lambda x, y: model.train_step((x, y)),
            input_signature=data.element_spec,
            jit_compile=by_xla,
        )
        for by_xla in (False, True)
    )

    @tf.function
    def gradient(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.loss(y, model(x, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    bare = tf.function(convolutions(n, batch))
    programs: Programs = {
        "step": _often(lambda: step(*one)["loss"].numpy(), steps),
        "gradient": _often(lambda: gradient(*one)[0].numpy(), steps),
        "convolutions": _often(lambda: bare().numpy(), steps),
        "xla": _often(lambda: compiled(*one)["loss"].numpy(), steps),
    }
    for program in programs.values():
        program()
    return programs, {}


def convolutions(n: int, batch: int) -> Callable[[], Any]:
    """The convolutions of `compact` and their gradients, from random numbers to one number."""
    import tensorflow as tf

    from spurious.networks.compact import FILTERS

    layers, channels = [], 1
    for number, filters in enumerate(FILTERS):
        side = n >> number
        shapes = ((batch, side + 2, side + 2, channels), (3, 3, channels, filters))
        shapes += ((batch, side, side, filters),)
        layers.append([tf.Variable(tf.random.normal(shape)) for shape in shapes])
        channels = filters

    def program() -> Any:
        made = []
        for number, (images, kernel, upstream) in enumerate(layers):
            given = {"out_backprop": upstream, "strides": [1, 1, 1, 1], "padding": "VALID"}
            made.append(tf.nn.conv2d(images, kernel, 1, "VALID"))
            made.append(
                tf.raw_ops.Conv2DBackpropFilter(input=images, filter_sizes=kernel.shape, **given)
            )
            if number > 0:
                made.append(
                    tf.raw_ops.Conv2DBackpropInput(input_sizes=images.shape, filter=kernel, **given)
                )
        return tf.add_n([one[0, 0, 0, 0] for one in made])  # nothing is left out as unused

    return program


def _often(program: Callable[[], Any], steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            program()

    return run
