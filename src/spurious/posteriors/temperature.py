"""One temperature for all widths of a posterior, fitted on maps that it was not trained on.

Guo et al. (2017), arXiv:1706.04599, for classifiers; here the temperature multiplies the scales.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

LOWEST, HIGHEST = 0.05, 20.0


def fit_temperature(head: Any, features: Any, truth: np.ndarray) -> float:
    """The temperature that minimises the mean negative log-likelihood of the truths.

    Above 1 the posteriors were too narrow, below 1 too wide. For one Gaussian per map it is in
    closed form: T^2 is the mean over maps and parameters of the squared error in standard
    deviations at T = 1. The head is left as it was.

    Args:
        head: a layer with a `temperature`, `call(features)` and `distribution(*outputs)`
            (`spurious.networks.head_layer`).
        features: what enters the head, of maps not trained on, (n, n_features).
        truth: their parameters, (n, p).

    Returns:
        The temperature, between 0.05 and 20.

    Raises:
        ValueError: a truth is impossible (of zero density) at every temperature.
    """
    trial = type(head).from_config(head.get_config())
    truth = np.asarray(truth, np.float32)

    def loss(log_temperature: float) -> float:
        trial.temperature = float(np.exp(log_temperature))
        log_prob = trial.distribution(*trial(features)).log_prob(truth)
        return -float(np.mean(np.asarray(log_prob, np.float64)))

    if not np.isfinite(loss(0.0)):
        raise ValueError("a truth has zero density: no temperature changes that")
    bounds = (np.log(LOWEST), np.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(np.exp(found.x))
