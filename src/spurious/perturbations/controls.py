"""Controls made from another perturbation: its change, with what made it effective taken out.

If one of these does as much damage as the original, the pattern of the original did not matter.
`RandomSign` and `GaussianNoise` in `spurious.perturbations.noise` are the controls that need no
original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from spurious.description.marks import Doc
from spurious.lazy import tf
from spurious.perturbations.base import Perturbation, possible
from spurious.perturbations.entry import ENTRY
from spurious.perturbations.noise import each, normals


@dataclass(frozen=True)
class ShuffledPixels:
    """Another perturbation's change, map by map, with its pixels in random order.

    Keeps the distribution of the change (and so its RMS) and destroys where it sat. Where the
    map has less to lose than a pixel's change takes, the density is set to zero. A map's order
    follows from the seed and the map itself.
    """

    of: Annotated[Perturbation, ENTRY, Doc("the original")]
    seed: int

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; the truth goes to the original."""
        maps = tf.convert_to_tensor(maps)
        size = maps.shape[1] * maps.shape[2]

        def order(pair: tf.Tensor) -> tf.Tensor:
            return tf.argsort(tf.random.stateless_uniform([size], pair, alg="philox"), stable=True)

        orders = each(order, maps, self.seed, "shuffled pixels", "int32")
        change = tf.reshape(self.of(maps, truth) - maps, [-1, size])
        shuffled = tf.gather(change, orders, batch_dims=1)
        return possible(maps + tf.reshape(shuffled, tf.shape(maps)))


@dataclass(frozen=True)
class ShuffledPhases:
    """Another perturbation's change with random phases: its power spectrum, nothing else.

    The amplitude of every mode of the change is kept, and its mean; the phases are those of white
    Gaussian noise, which follows from the seed and the map itself. Densities that would be negative
    are set to zero.
    """

    of: Annotated[Perturbation, ENTRY, Doc("the original")]
    seed: int

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; the truth goes to the original."""
        maps = tf.convert_to_tensor(maps)
        n = maps.shape[-1]
        change = self.of(maps, truth) - maps
        mean = tf.reduce_mean(change, axis=(-2, -1), keepdims=True)
        noise = tf.signal.rfft2d(normals(maps, self.seed, "shuffled phases"))
        amplitude = tf.abs(tf.signal.rfft2d(change - mean))
        zero = tf.zeros_like(amplitude)
        phases = noise / tf.complex(tf.maximum(tf.abs(noise), 1e-30), zero)
        shuffled = tf.signal.irfft2d(tf.complex(amplitude, zero) * phases, [n, n])
        return possible(maps + mean + shuffled)
