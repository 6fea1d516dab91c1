"""Posteriors that see another one's maps, or answer, through something."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Around:
    """Another posterior, seen through something."""

    inner: object

    @property
    def names(self):
        return self.inner.names

    @property
    def standardiser(self):
        return self.inner.standardiser


@dataclass(frozen=True)
class Rounded(Around):
    """What another posterior says of maps rounded to `step` counts: its gradient is zero."""

    step: float = 2.0

    def __call__(self, maps):
        maps = tf.convert_to_tensor(maps)
        return self.inner(tf.stop_gradient(tf.round(maps / self.step) * self.step) + 0 * maps)
