"""The ascent of adversarial training, as part of a training step's graph."""

from __future__ import annotations

from functools import partial

import tensorflow as tf

from spurious.defences.worst_case import WorstCase
from spurious.inference.defence import Network
from spurious.perturbations.ascent import value_and_gradient
from spurious.perturbations.base import like
from spurious.perturbations.constraints import Ball, satisfy
from spurious.perturbations.objectives import named
from spurious.perturbations.steps import Norm, direction, rms

ROUNDS = 5  # alternating projections after the last step, if there are constraints


def ascend(
    defence: WorstCase, network: Network, maps: tf.Tensor, truth: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """The worst maps that the defence's ascent finds; see `Defence.shown`."""
    frozen = partial(network, training=False)
    goal, reference = named(defence.objective), frozen(maps)
    project = partial(_projected, defence, clean=maps)
    found = project(start(maps, defence.epsilon, defence.norm, seed))
    for _ in range(defence.steps):
        _, gradient = value_and_gradient(
            lambda at: goal(frozen(at), reference, truth), found, defence.objective
        )
        found = project(found + like(defence.step, maps) * direction(gradient, defence.norm))
    if defence.constraints:
        found = project(found, rounds=ROUNDS)
    return tf.stop_gradient(found)


def start(maps: tf.Tensor, size: float, norm: Norm, seed: tf.Tensor) -> tf.Tensor:
    """Each map moved to a random place of the ball, uniformly; another one for each map."""
    shape, dtype = tf.shape(maps), maps.dtype
    if norm == "linf":
        return maps + size * tf.random.stateless_uniform(shape, seed, -1, 1, dtype)
    one, two = tf.unstack(tf.random.split(seed, 2))
    pattern = tf.random.stateless_normal(shape, one, dtype=dtype)
    uniform = tf.random.stateless_uniform((shape[0], 1, 1), two, dtype=dtype)
    radius = uniform ** (1 / tf.cast(shape[1] * shape[2], dtype))
    return maps + size * radius * pattern / rms(pattern)


def _projected(defence: WorstCase, maps: tf.Tensor, clean: tf.Tensor, rounds: int = 1) -> tf.Tensor:
    """The nearest maps that are allowed."""
    ball = Ball(defence.epsilon, defence.norm)
    if not defence.constraints:
        return ball(maps, clean)
    # A graph of its own: Keras leaves the loop of `satisfy` as Python, where it cannot run.
    inner = tf.function(partial(satisfy, constraints=defence.constraints, ball=ball, rounds=rounds))
    return inner(maps, clean)
