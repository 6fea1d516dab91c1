"""How good and how honest posteriors are, on maps whose true parameters are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from spurious.inference.posterior import parameters

tfd = tfp.distributions

COVERAGES = {"coverage_68": 0.68, "coverage_95": 0.95}


def metrics(distribution: Any, truth: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Test metrics, by name: `nll`, and for each parameter `<name>_<metric>`.

    =================  =====================================================================
    `nll`              mean of -log p(truth), in nats
    `rmse`             root mean square of posterior mean - truth
    `r2`               1 - sum of squared errors / sum of squared deviations of the truth
    `relative_error`   mean of |posterior mean - truth| / |truth|
    `sigma`            mean standard deviation of the posterior
    `z_mean`, `z_rms`  of z = (posterior mean - truth) / standard deviation; 0 and 1 if honest
    `coverage_68/95`   fraction of truths inside the central 68 / 95 % credible interval
    =================  =====================================================================

    Args:
        distribution: batch_shape (n,), event_shape (p,).
        truth: (n, p).
        names: the p parameters.

    Raises:
        ValueError: shapes do not agree, or a parameter is the same in all maps, which
            leaves R^2 undefined.
    """
    truth = _checked(distribution, truth, names)
    mean, sigma = distribution.mean().numpy(), distribution.stddev().numpy()
    levels = pit(distribution, truth)
    result = {"nll": -float(np.mean(distribution.log_prob(truth.astype(mean.dtype))))}
    for i, name in enumerate(names):
        one = _one(mean[:, i], sigma[:, i], levels[:, i], truth[:, i])
        result |= {f"{name}_{metric}": float(value) for metric, value in one.items()}
    return result


def _one(
    mean: np.ndarray, sigma: np.ndarray, levels: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """The metrics of one parameter; all arguments have shape (n,)."""
    error = mean - truth
    return {
        "rmse": np.sqrt(np.mean(error**2)),
        "r2": 1 - np.sum(error**2) / np.sum((truth - truth.mean()) ** 2),
        "relative_error": np.mean(np.abs(error / truth)),
        "sigma": np.mean(sigma),
        "z_mean": np.mean(error / sigma),
        "z_rms": np.sqrt(np.mean((error / sigma) ** 2)),
        **{name: np.mean(np.abs(levels - 0.5) <= p / 2) for name, p in COVERAGES.items()},
    }


def pit(
    distribution: Any, truth: np.ndarray, n_samples: int = 4096, seed: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Probability integral transform: each parameter's marginal CDF at the truth, shape (n, p).

    Uniform on [0, 1] if the posteriors are honest. Exact for mixtures of Gaussians; for other
    distributions the fraction of `n_samples` draws below the truth.
    """
    try:
        means, scales, logits = parameters(distribution)
    except ValueError:
        samples = distribution.sample(n_samples, seed=seed)
        return np.mean(samples < truth.astype(samples.dtype.as_numpy_dtype), axis=0)
    weights = tf.nn.softmax(logits)[..., None]
    levels = tfd.Normal(means, scales).cdf(tf.cast(truth, means.dtype)[:, None])
    return tf.reduce_sum(weights * levels, axis=1).numpy()


def _checked(distribution: Any, truth: np.ndarray, names: Sequence[str]) -> np.ndarray:
    shape = (*distribution.batch_shape, *distribution.event_shape)
    truth = np.asarray(truth, np.float64)
    if truth.shape != shape or len(names) != shape[-1]:
        raise ValueError(
            f"truth has shape {truth.shape} and there are {len(names)} names, "
            f"for posteriors of shape {shape}"
        )
    if len(truth) == 0 or np.any(np.ptp(truth, axis=0) == 0):
        raise ValueError("truth must differ between the maps in every parameter")
    return truth
