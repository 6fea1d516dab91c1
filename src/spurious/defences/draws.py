"""Random systematics, another one for each map, as part of a training step's graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import tensorflow as tf

from spurious.search.families import Family

Branch = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def drawn(
    families: Sequence[Sequence[Family]], clean: float, maps: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Each map as it is, or through a member of a family at a random point of its ranges.

    Args:
        families: the members of each, which differ in the patterns that they have drawn.
        clean: chance that a map stays as it is.
        maps: (batch, N, N), counts.
        seed: pair of stateless random operations.

    Returns:
        (batch, N, N), counts; no gradient flows through it.
    """
    count, most = tf.shape(maps)[0], max(family[0].dimension for family in families)
    draws = tf.random.stateless_uniform((count, 3 + most), seed)
    members = [member for family in families for member in family]
    choice = tf.where(draws[:, 0] < clean, 0, 1 + _chosen(families, draws[:, 1], draws[:, 2]))
    branches = [_unchanged, *map(_through, members)]

    def one(row: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        index, point, density = row
        return tf.switch_case(index, [partial(branch, point, density) for branch in branches])

    rows = (choice, draws[:, 3:], maps)
    return tf.stop_gradient(tf.map_fn(one, rows, fn_output_signature=maps.dtype))


def _chosen(families: Sequence[Sequence[Family]], first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Number of the member for two uniform draws a map: of the family, and within it."""
    sizes = tf.constant([len(family) for family in families])
    number = tf.cast(first * len(families), tf.int32)
    size = tf.gather(sizes, number)
    within = tf.cast(second * tf.cast(size, second.dtype), tf.int32)
    return tf.gather(tf.cumsum(sizes, exclusive=True), number) + within


def _unchanged(point: tf.Tensor, density: tf.Tensor) -> tf.Tensor:
    return density


def _through(family: Family) -> Branch:
    """One map (N, N) through the family's systematic at the first coordinates of a point."""

    def changed(point: tf.Tensor, density: tf.Tensor) -> tf.Tensor:
        return family.effect(point[: family.dimension])(density[None])[0]

    return changed
