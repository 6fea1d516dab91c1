"""What an attack did to one posterior and to the maps themselves, map by map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from spurious import spectra
from spurious.densities.divergences import kl
from spurious.posteriors.posterior import Posterior

BATCH = 128  # maps in memory at a time


class Response(NamedTuple):
    """What happened to a posterior.

    Attributes:
        kl: KL(q(. | perturbed) || q(. | clean)) in nats, (n,).
        shift: largest |shift| of the mean over the parameters, clean standard deviations, (n,).
    """

    kl: np.ndarray
    shift: np.ndarray


class Listener:
    """A posterior's responses to changes of the same maps, as one graph.

    Args:
        posterior: whose responses are measured.
        clean: (n, N, N) in counts.
    """

    def __init__(self, posterior: Posterior, clean: np.ndarray) -> None:
        self._posterior, self._clean = posterior, clean
        # Operation by operation, small networks spend most of their time between operations.
        self._graph = tf.function(self._response, reduce_retracing=True)

    def __call__(self, perturbed: Any) -> Response:
        """The response to the perturbed maps, (n, N, N), in the order of the clean ones."""
        batches = (slice(i, i + BATCH) for i in range(0, len(self._clean), BATCH))
        parts = [
            self._graph(*map(tf.convert_to_tensor, (self._clean[b], perturbed[b]))) for b in batches
        ]
        return Response(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _response(self, clean: tf.Tensor, perturbed: tf.Tensor) -> Response:
        before, after = self._posterior(clean), self._posterior(perturbed)
        shift = tf.abs((after.mean() - before.mean()) / before.stddev())
        return Response(kl(after, before), tf.reduce_max(shift, axis=1))


@dataclass(frozen=True)
class Size:
    """How large a change was, map by map.

    Attributes:
        linf: largest change of a pixel, counts, (n,).
        rms: root of the mean squared change over pixels, counts, (n,).
        least: smallest density, counts, (n,).
        cosmic: largest |dP / P| over annuli in units of one map's cosmic variance, (n,).
        rounding: largest float32 spacing of the densities, counts, (n,): no change of a pixel is
            known more accurately.
    """

    linf: np.ndarray
    rms: np.ndarray
    least: np.ndarray
    cosmic: np.ndarray
    rounding: np.ndarray


def measure(clean: np.ndarray, perturbed: Any, box_size: float) -> Size:
    """Size of the change of each map, in double precision and independent of any attack's code.

    Args:
        clean: (n, N, N) in counts.
        perturbed: the same maps, perturbed.
        box_size: side of a map, Mpc/h.
    """
    before, after = np.asarray(clean, np.float64), np.asarray(perturbed, np.float64)
    change = np.abs(after - before)
    power, changed = (
        spectra.power(maps, box_size, contrast=False).numpy() for maps in (before, after)
    )
    n_modes = spectra.bins(before.shape[-1], box_size).n_modes
    relative = np.abs(changed / power - 1) / spectra.cosmic_variance(n_modes)
    largest = np.maximum(before, after).max(axis=(1, 2))
    return Size(
        linf=change.max(axis=(1, 2)),
        rms=np.sqrt(np.mean(change**2, axis=(1, 2))),
        least=after.min(axis=(1, 2)),
        cosmic=relative.max(axis=1),
        rounding=np.spacing(largest.astype(np.float32)).astype(np.float64),
    )
