"""Posterior densities: joining them, pooling several networks', and divergences between two.

All densities have batch_shape (batch,) and event_shape (p,), are differentiable in their
parameters, and offer `log_prob`, `sample`, `mean`, `stddev` and `covariance` as TensorFlow
Probability's do.

Another kind of density joins in by offering, where the general way will not do,

- `join(distributions)`, a static or class method: concatenate along the batch axis, and
- `strata(n_samples, seed)`: see `kl_and_error`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from spurious.densities.flows import Flow
from spurious.densities.mixtures import mixture, mixture_shape, parameters, total_covariance
from spurious.densities.triangular import multiply

__all__ = [
    "Flow",
    "Pooled",
    "concatenate",
    "kl",
    "kl_and_error",
    "mixture",
    "parameters",
    "pooled",
]

tfd = tfp.distributions

Strata = list[tuple[Any, tf.Tensor]]


class Pooled(tfp.distributions.Distribution):
    """Equal-weight mixture of distributions of any kind for the same maps.

    Samples are stratified: of n, each member gives n / len(members), rounded up or down.

    Args:
        members: distributions with one batch_shape (batch,) and event_shape (p,).
    """

    def __init__(self, members: Sequence[Any], name: str = "Pooled") -> None:
        parameters = dict(locals())
        self.members = tuple(members)
        kinds = {d.reparameterization_type for d in self.members}
        super().__init__(
            dtype=self.members[0].dtype,
            reparameterization_type=(kinds.pop() if len(kinds) == 1 else tfd.NOT_REPARAMETERIZED),
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    def _batch_shape(self) -> tf.TensorShape:
        return self.members[0].batch_shape

    def _batch_shape_tensor(self, **kwargs: Any) -> tf.Tensor:
        return self.members[0].batch_shape_tensor()

    def _event_shape(self) -> tf.TensorShape:
        return self.members[0].event_shape

    def _event_shape_tensor(self) -> tf.Tensor:
        return self.members[0].event_shape_tensor()

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        each = tf.stack([d.log_prob(x) for d in self.members])
        return tf.reduce_logsumexp(each, axis=0) - float(np.log(len(self.members)))

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        k = len(self.members)
        first, *seeds = tf.unstack(tfp.random.split_seed(seed, n=k + 1), num=k + 1)
        rows = -(-n // k)
        draws = [d.sample(rows, seed=s) for d, s in zip(self.members, seeds, strict=True)]
        stacked = tf.stack(draws, axis=1)
        taken = tf.reshape(stacked, tf.concat([[rows * k], tf.shape(stacked)[2:]], axis=0))
        # Where n is no multiple of k, chance decides which members give one more.
        offset = tf.random.stateless_uniform((), first, maxval=k, dtype=tf.int32)
        return tf.roll(taken, offset, axis=0)[:n]

    def _mean(self) -> tf.Tensor:
        return tf.reduce_mean(tf.stack([d.mean() for d in self.members]), axis=0)

    def _covariance(self) -> tf.Tensor:
        means = tf.stack([d.mean() for d in self.members], axis=1)
        within = tf.stack([d.covariance() for d in self.members], axis=1)
        return total_covariance(tf.ones_like(means[..., 0]) / len(self.members), means, within)

    def _variance(self) -> tf.Tensor:
        return tf.linalg.diag_part(self._covariance())

    def strata(self, n_samples: int, seed: Any) -> Strata:
        """The strata of all members."""
        k = len(self.members)
        return [
            (weight / k, draws)
            for i, member in enumerate(self.members)
            for weight, draws in _strata(member, -(-n_samples // k), _fold_in(seed, i))
        ]

    @staticmethod
    def join(pools: Sequence[Pooled]) -> Any:
        """Join pools of equally many members along their batch axis."""
        columns = zip(*(pool.members for pool in pools), strict=True)
        return Pooled([concatenate(column) for column in columns])


def concatenate(distributions: Sequence[Any]) -> Any:
    """Join distributions along their batch axis, keeping their kind (and so their exact KL)."""
    first = distributions[0]
    if len(distributions) == 1:
        return first
    shapes = {mixture_shape(d) for d in distributions}
    if len(shapes) == 1 and None not in shapes:
        parts = zip(*(parameters(d) for d in distributions), strict=True)
        return mixture(*(tf.concat(part, 0) for part in parts))
    if hasattr(first, "join") and all(type(d) is type(first) for d in distributions):
        return first.join(distributions)
    return tfd.BatchConcat(distributions, axis=0)


def pooled(distributions: Sequence[Any]) -> Any:
    """Equal-weight mixture of several networks' posteriors for the same maps: a deep ensemble.

    Lakshminarayanan et al. (2017, arXiv:1612.01474), section 2.4.

    Returns:
        One mixture of Gaussians if all are, with the same kind of covariance; else a `Pooled`.

    Raises:
        ValueError: there is none, or they are for different numbers of maps or parameters.
    """
    shapes = {(*d.batch_shape, *d.event_shape) for d in distributions}
    if len(shapes) != 1:
        raise ValueError(f"distributions to pool have shapes {sorted(shapes)}, expected one shape")
    if len(distributions) == 1:
        return distributions[0]
    kinds = {None if shape is None else shape[2:] for shape in map(mixture_shape, distributions)}
    if len(kinds) > 1 or None in kinds:
        return Pooled(distributions)
    means, scales, logits = zip(*map(parameters, distributions), strict=True)
    # Each member's weights sum to one before the members are weighted equally.
    weights = [tf.nn.log_softmax(part) for part in logits]
    return mixture(tf.concat(means, 1), tf.concat(scales, 1), tf.concat(weights, 1))


def kl(p: Any, q: Any, n_samples: int = 1024, seed: tuple[int, int] = (0, 0)) -> tf.Tensor:
    """KL(p || q) = E_p[log p - log q] per map, shape (batch,), in nats: see `kl_and_error`."""
    return kl_and_error(p, q, n_samples, seed)[0]


def kl_and_error(
    p: Any, q: Any, n_samples: int = 1024, seed: tuple[int, int] = (0, 0)
) -> tuple[tf.Tensor, tf.Tensor]:
    """KL(p || q) and the standard error of its estimate (zero where it is exact), both (batch,).

    Exact where TensorFlow Probability knows the closed form, as between single Gaussians.
    Otherwise, with p = sum_i w_i p_i (its strata: Gaussians, networks),

        KL(p || q) = sum_i w_i E_(p_i)[log p - log q],

    each expectation over its share of about `n_samples` draws: no noise comes from chance in
    choosing components, and the gradient to the weights is explicit. Draws come in mirrored
    pairs mean +- d, which cancels the part of log p - log q that is odd in d: most of it where
    p and q are close. The same seed draws the same random numbers, so that differences between
    two perturbations are not drowned in sampling noise.
    """
    exact = _closed_form(p, q)
    if exact is not None:
        return exact, tf.zeros_like(exact)
    weights, draws = zip(*_strata(p, n_samples, seed), strict=True)
    x = tf.concat(draws, axis=0)
    log_ratio = tf.split(p.log_prob(x) - q.log_prob(x), [d.shape[0] for d in draws], axis=0)
    value = variance = tf.zeros_like(log_ratio[0][0])
    for weight, one in zip(weights, log_ratio, strict=True):
        pairs = tf.reduce_mean(tf.stack(tf.split(weight * one, 2)), axis=0)
        value += tf.reduce_mean(pairs, axis=0)
        variance += tf.math.reduce_variance(pairs, axis=0) / (pairs.shape[0] - 1)
    return value, tf.sqrt(variance)


def _closed_form(p: Any, q: Any) -> tf.Tensor | None:
    try:
        return p.kl_divergence(q)
    except NotImplementedError:
        return None


def _strata(p: Any, n_samples: int, seed: Any) -> Strata:
    """Weights and draws that make up p: E_p[f] = sum over the strata of the mean of weight * f.

    Draws are (n_i, batch, p), n_i >= 4 even, draw j + n_i / 2 the mirror image of draw j (or
    independent of it); weights broadcast against (n_i, batch).
    """
    if hasattr(p, "strata"):
        return p.strata(max(n_samples, 4), seed)
    if mixture_shape(p) is None:
        return [_plain(p, 2 * max(-(-n_samples // 2), 2), seed)]
    means, scales, logits = parameters(p)
    half = max(-(-n_samples // (2 * means.shape[1])), 2)
    z = tf.random.stateless_normal(tf.concat([[half], tf.shape(means)], 0), seed, dtype=means.dtype)
    d = scales * z if len(scales.shape) == 3 else multiply(scales, z)
    weights = tf.nn.softmax(logits)
    draws = tf.concat([means + d, means - d], axis=0)
    return [(weights[:, i], draws[:, :, i]) for i in range(means.shape[1])]


def _plain(p: Any, n: int, seed: Any) -> tuple[Any, tf.Tensor]:
    """Draws of any kind of distribution as one stratum.

    Where draws have no gradients, the weights are ones with the gradient of the density
    (the score function), so that the mean of weight * f still has the right one.
    """
    draws = p.sample(n, seed=seed)
    if p.reparameterization_type == tfd.FULLY_REPARAMETERIZED:
        return 1.0, draws
    draws = tf.stop_gradient(draws)
    log_prob = p.log_prob(draws)
    return tf.exp(log_prob - tf.stop_gradient(log_prob)), draws


def _fold_in(seed: Any, index: int) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(tf.convert_to_tensor(seed), index)
