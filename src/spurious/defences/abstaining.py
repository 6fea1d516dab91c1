"""Abstaining: no answer for a map that a detector finds odd.

The detector scores a map by what it has of each perturbation that it was shown: with f the features
of a map, whitened (`spurious.detection.network.Whitening`), and w_j Fisher's discriminant between
clean maps and those of perturbation j,

    score(x) = max over j of (w_j . f(x) - m_j) / s_j,

m_j and s_j being the mean and the standard deviation of w_j . f over clean maps. A map is accepted
up to a threshold, which comes from clean maps that taught the detector nothing: of n such scores,
the k-th smallest with k = ceil((n + 1)(1 - false_alarms)). A clean map like these exceeds it with a
probability of at most `false_alarms`, whatever the scores' distribution (split conformal
prediction: Vovk et al. 2005, "Algorithmic Learning in a Random World"; Bates et al. 2023, Ann.
Stat. 51, 149).

Scores have gradients, so that an attack can lower them while it moves the posterior
(`spurious.defences.adaptive`). A detector that is only asked about attacks that do not know it says
nothing (Carlini & Wagner 2017, arXiv:1705.07263).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from spurious import spectra
from spurious.detection import network
from spurious.detection.network import Whitening
from spurious.detection.scattering import scattering
from spurious.detection.statistics import PDF_QUANTILES
from spurious.detection.two_sample import discriminant
from spurious.errors import UserError
from spurious.posteriors.posterior import Posterior

SOFTNESS = 0.1  # in ln(density): the bins of the PDF have soft ends, for its gradient
EMPTY = 1e-2  # of the mean: densities below it are all the same to the PDF
BATCH = 64  # maps at a time

Summary = Callable[[tf.Tensor], tf.Tensor]
"""Maps (batch, N, N) in counts to features (batch, d), differentiable."""


@dataclass(frozen=True)
class Detector:
    """Scores maps; the larger, the odder.

    Attributes:
        summary: maps to features.
        mean: of the features that count, over clean maps, (b,).
        entries: which count, (b,).
        directions: of each perturbation, in the features, scaled to scores, (b, j).
        offsets: their scores' means over clean maps, (j,).
        threshold: the largest score that is accepted.
    """

    summary: Summary
    mean: np.ndarray
    entries: np.ndarray
    directions: np.ndarray
    offsets: np.ndarray
    threshold: float = np.inf

    def __call__(self, maps: tf.Tensor) -> tf.Tensor:
        """The score of each map (batch, N, N): (batch,), differentiable."""
        features = tf.gather(self.summary(maps), self.entries, axis=1)
        centred = features - tf.constant(self.mean, features.dtype)
        each = centred @ tf.constant(self.directions, features.dtype)
        return tf.reduce_max(each - tf.constant(self.offsets, features.dtype), axis=1)


class Abstaining(Posterior):
    """Another posterior, which answers only for maps that a detector accepts.

    Called, it gives the other posterior's answer for every map; `accepts` says which count.

    Args:
        inner: the other posterior.
        detector: with its threshold.
    """

    def __init__(self, inner: Posterior, detector: Detector) -> None:
        self.inner, self.detector = inner, detector
        self.names, self.standardiser = inner.names, inner.standardiser
        self._scored = tf.function(lambda maps: detector(maps), reduce_retracing=True)

    def __call__(self, maps: Any) -> Any:
        """What the inner posterior says, whether accepted or not."""
        return self.inner(maps)

    def excess(self, maps: tf.Tensor) -> tf.Tensor:
        """Score less threshold, (batch,): above zero, a map is rejected. Differentiable."""
        maps = tf.cast(maps, tf.float32)
        return self.detector(maps) - tf.constant(self.detector.threshold, tf.float32)

    def accepts(self, maps: Any) -> np.ndarray:
        """Which maps (n, N, N) get an answer, (n,)."""
        return scores(self._scored, np.asarray(maps)) <= np.float32(self.detector.threshold)


def fit(
    summary: Summary, clean: np.ndarray, perturbed: Sequence[np.ndarray], every: np.ndarray
) -> Detector:
    """A detector without a threshold.

    Args:
        summary: maps to features.
        clean: maps (n, N, N) in counts.
        perturbed: of each perturbation, the same maps as it leaves them.
        every: clean maps of which the features' scatter is learned, (m, N, N).
    """
    units = Whitening.fit(features(summary, every))
    before = units(features(summary, clean))
    found = [discriminant(before, units(features(summary, one))) for one in perturbed]
    spreads = [max(float((before @ one).std()), np.finfo(np.float32).tiny) for one in found]
    directions = np.stack([one / size for one, size in zip(found, spreads, strict=True)], axis=1)
    return Detector(
        summary,
        units.mean,
        units.entries,
        units.directions @ directions,
        (before @ directions).mean(axis=0),
    )


def calibrated(
    inner: Posterior, detector: Detector, held_out: np.ndarray, false_alarms: float
) -> Abstaining:
    """The posterior that answers for all but a share of clean maps; arguments as of `threshold`."""
    return Abstaining(
        inner, replace(detector, threshold=threshold(detector, held_out, false_alarms))
    )


def threshold(detector: Detector, held_out: np.ndarray, false_alarms: float) -> float:
    """The largest score that is accepted.

    Args:
        detector: was not taught by these maps.
        held_out: clean maps (n, N, N) in counts.
        false_alarms: largest probability that a clean map is rejected.

    Raises:
        UserError: the maps are too few for so few false alarms.
    """
    n = len(held_out)
    rank = int(np.ceil((n + 1) * (1 - false_alarms)))
    if rank > n:
        raise UserError(
            f"false_alarms = {false_alarms}: must be at least {1 / (n + 1):.3g} with the {n} "
            "validation maps that set the threshold"
        )
    return float(np.sort(scores(detector, held_out))[rank - 1])


def summary_of(kind: str, clean: np.ndarray, box_size: float) -> Summary:
    """The features of a kind of detector.

    Args:
        kind: "network" or "network_contrast" (`spurious.detection.network`), "log_power", "pdf" or
            "scattering".
        clean: maps that set the bins of the PDF, (n, N, N) in counts.
        box_size: side of a map, Mpc/h.
    """
    edges = np.unique(np.quantile(_log_density(tf.constant(clean)), PDF_QUANTILES))
    summaries: dict[str, Summary] = {
        "network": lambda maps: network.differentiable(maps, False),
        "network_contrast": lambda maps: network.differentiable(maps, True),
        "log_power": lambda maps: tf.math.log(spectra.power(maps, box_size, contrast=True)),
        "pdf": lambda maps: _pdf(maps, edges),
        "scattering": scattering,
    }
    return summaries[kind]


def features(summary: Summary, maps: np.ndarray) -> np.ndarray:
    """The features of maps (n, N, N), (n, d) float64."""
    return _in_batches(summary, maps).astype(np.float64)


def scores(score: Callable[[tf.Tensor], tf.Tensor], maps: np.ndarray) -> np.ndarray:
    """The scores of maps (n, N, N), (n,)."""
    return _in_batches(score, maps)


def _in_batches(function: Callable[[tf.Tensor], tf.Tensor], maps: np.ndarray) -> np.ndarray:
    starts = range(0, len(maps), BATCH)
    parts = (tf.constant(maps[start : start + BATCH], tf.float32) for start in starts)
    return np.concatenate([function(part).numpy() for part in parts])


def _pdf(maps: tf.Tensor, edges: np.ndarray) -> tf.Tensor:
    """The soft share of each map's pixels above each edge, (batch, len(edges))."""
    field = _log_density(maps)
    shares = [tf.sigmoid((field - float(edge)) / SOFTNESS) for edge in edges]
    return tf.stack([tf.reduce_mean(one, axis=(1, 2)) for one in shares], axis=1)


def _log_density(maps: tf.Tensor) -> tf.Tensor:
    """The logarithm of each pixel over the mean of its map."""
    density = maps / tf.reduce_mean(maps, axis=(1, 2), keepdims=True)
    return tf.math.log(tf.maximum(density, EMPTY))
