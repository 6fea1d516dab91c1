"""What a defence costs: errors, calibration, information; and what a certificate proves."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from spurious.bootstrap import bootstrap_weights, interval, mean_interval
from spurious.config.defend import Defend
from spurious.data.maps import MapSet
from spurious.defences.adaptive import accepted
from spurious.defences.certificate import certify
from spurious.defences.smoothing import Noise, Smoothed
from spurious.posteriors.posterior import Posterior
from spurious.posteriors.trained import predict
from spurious.quality import accuracy


def quality(posterior: Posterior, data: MapSet, seed: int) -> dict[str, Any]:
    """Errors and calibration on the maps that get an answer, and the share that gets none."""
    answered = accepted(posterior, data.maps)
    weights = bootstrap_weights(len(data), seed, data.index)
    some = data.take(np.flatnonzero(answered))
    predicted = predict(posterior, some.maps)
    return {
        **accuracy.metrics(predicted, some.labels, some.names, seed, some.index),
        "rejected": mean_interval(~answered, weights),
    }


def log_volume(posterior: Posterior, maps: np.ndarray) -> np.ndarray:
    """Half the ln of the determinant of each map's posterior covariance, (n,)."""
    covariance = predict(posterior, maps).covariance()
    return np.asarray(tf.linalg.logdet(tf.cast(covariance, tf.float64)) / 2)


def information(own: np.ndarray, undefended: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Figure of merit relative to the undefended posterior, the geometric mean over maps.

    The figure of merit is det(covariance)^(-1/2). It says what a posterior claims: how much of it
    is true, calibration says.

    Args:
        own: `log_volume` of each map.
        undefended: the same of the undefended posterior.
        weights: of the maps' bootstrap resamples.
    """
    return interval(lambda w: np.exp(w @ (undefended - own)), weights)


def certificates(
    posterior: Posterior, maps: np.ndarray, settings: Defend, weights: np.ndarray
) -> list[dict[str, Any]]:
    """What smoothing proves at each L2 budget; nothing for any other posterior."""
    if not (isinstance(posterior, Smoothed) and isinstance(posterior.over, Noise)):
        return []
    rows, std = [], posterior.standardiser.std
    for budget in settings.l2.counts(std):
        found = certify(posterior, maps, budget, settings.certificate_draws)
        proved = bool(np.isfinite(found.shift).all())
        moves = {
            name: mean_interval(found.shift[:, i], weights) if proved else None
            for i, name in enumerate(posterior.names)
        }
        rows.append({"counts": budget, "std": budget / std, "shift": moves})
    return rows
