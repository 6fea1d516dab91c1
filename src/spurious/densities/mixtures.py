"""Mixtures of Gaussians with diagonal or full covariance, with gradients to everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp

from spurious.densities.triangular import LOG_ROOT_TWO_PI, solve

tfd = tfp.distributions


def mixture(means: Any, scales: Any, logits: Any) -> Any:
    """Mixture of m Gaussians, per map.

    Args:
        means: (batch, m, p).
        scales: standard deviations (batch, m, p), for diagonal covariances; or lower-triangular
            Cholesky factors of the covariances (batch, m, p, p), with positive diagonals.
        logits: logarithms of the weights up to a constant, (batch, m).

    Returns:
        For m = 1 a `MultivariateNormalDiag` or `MultivariateNormalTriL`, whose KL divergences are
        exact. Otherwise a `GaussianMixture`.
    """
    full = len(scales.shape) == 4
    if means.shape[1] == 1:
        kind = tfd.MultivariateNormalTriL if full else tfd.MultivariateNormalDiag
        return kind(means[:, 0], scales[:, 0])
    return GaussianMixture(
        tfd.Categorical(logits=logits),
        tfd.MultivariateNormalTriL(means, scales)
        if full
        else tfd.Independent(tfd.Normal(means, scales), 1),
        reparameterize=True,
    )


def parameters(distribution: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Means, scales and logits: the inverse of `mixture`, with the shapes described there.

    Raises:
        ValueError: the distribution is of another kind.
    """
    if isinstance(distribution, tfd.MixtureSameFamily):
        components = distribution.components_distribution
        logits = distribution.mixture_distribution.logits_parameter()
        if isinstance(components, tfd.MultivariateNormalTriL):
            return components.loc, components.scale.to_dense(), logits
        if isinstance(components, tfd.Independent) and isinstance(
            components.distribution, tfd.Normal
        ):
            return components.distribution.loc, components.distribution.scale, logits
    if isinstance(distribution, tfd.MultivariateNormalDiag):
        mean, scale = distribution.mean(), distribution.stddev()
        return mean[:, None], scale[:, None], tf.zeros_like(mean[:, :1])
    if isinstance(distribution, tfd.MultivariateNormalTriL):
        mean, tril = distribution.mean(), distribution.scale.to_dense()
        tril = tf.broadcast_to(tril, tf.concat([tf.shape(mean), tf.shape(mean)[-1:]], axis=0))
        return mean[:, None], tril[:, None], tf.zeros_like(mean[:, :1])
    raise ValueError(f"{distribution.name} is no mixture of Gaussians")


def marginal(distribution: Any, columns: Sequence[int]) -> Any:
    """The distribution of some of the parameters, whatever the others.

    Exact for mixtures of Gaussians; of any other density, the Gaussian with the same means and
    covariance.

    Args:
        distribution: over p parameters, batch_shape (batch,).
        columns: which of them, in that order.
    """
    try:
        means, scales, logits = parameters(distribution)
    except ValueError:
        means = distribution.mean()[:, None]
        scales, logits = tf.linalg.cholesky(distribution.covariance())[:, None], means[..., 0] * 0
    means = tf.gather(means, columns, axis=-1)
    if len(scales.shape) == 3:
        return mixture(means, tf.gather(scales, columns, axis=-1), logits)
    rows = tf.gather(scales, columns, axis=-2)  # of L: their products are the covariances
    return mixture(means, tf.linalg.cholesky(rows @ tf.linalg.matrix_transpose(rows)), logits)


class GaussianMixture(tfp.distributions.MixtureSameFamily):
    """A mixture of m > 1 Gaussians whose samples have gradients to all parameters.

    TensorFlow Probability makes samples differentiable by the conditional distribution functions
    F_j(x_j | x_1 ... x_(j-1)) (Figurnov et al. 2018, arXiv:1805.08498), but only for independent
    axes. With Cholesky factors they are known as well: with z_i = L_i^-1 (x - mean_i),

        F_j = sum_i r_ij Phi(z_ij),     r_ij ~ weight_i prod_(k < j) phi(z_ik) / L_ikk.

    The derivatives of F are taken on the way back only, so that samples alone are cheap; second
    derivatives are not offered.
    """

    def _per_mixture_component_log_prob(self, x: tf.Tensor) -> tf.Tensor:
        means, scales, logits = parameters(self)
        if len(scales.shape) == 3:
            return super()._per_mixture_component_log_prob(x)
        density, _ = _conditional(x, means, scales)
        return tf.nn.log_softmax(logits) + tf.reduce_sum(density, axis=-1)

    def _reparameterize_sample(self, x: tf.Tensor, event_shape: Any) -> tf.Tensor:
        """Draws x (n, batch, p), with gradients: d x = -(dF / dx)^-1 dF."""
        x = tf.stop_gradient(x)

        @tf.custom_gradient
        def attach(*theta: tf.Tensor) -> tuple[tf.Tensor, Any]:
            return x, lambda upstream: _implicit_gradient(x, theta, upstream)

        return attach(*parameters(self))

    def _covariance(self) -> tf.Tensor:
        """The law of total variance; TensorFlow Probability has none for independent axes."""
        means, scales, logits = parameters(self)
        if len(scales.shape) == 3:
            within = tf.linalg.diag(scales**2)
        else:
            within = tf.reduce_sum(scales[..., :, None, :] * scales[..., None, :, :], axis=-1)
        return total_covariance(tf.nn.softmax(logits), means, within)


def mixture_shape(distribution: Any) -> tuple[int, ...] | None:
    """Number of components, of parameters, of axes of the scales; None if no mixture."""
    try:
        means, scales, _ = parameters(distribution)
    except ValueError:
        return None
    return means.shape[1], means.shape[2], len(scales.shape)


def total_covariance(weights: tf.Tensor, means: tf.Tensor, within: tf.Tensor) -> tf.Tensor:
    """Of a mixture, by the law of total variance.

    weights (batch, m), means (batch, m, p) and covariances (batch, m, p, p) -> (batch, p, p).
    """
    weights = weights[..., None]
    residual = means - tf.reduce_sum(weights * means, axis=1, keepdims=True)
    between = residual[..., :, None] * residual[..., None, :]
    return tf.reduce_sum(weights[..., None] * (within + between), axis=1)


def _conditional(x: tf.Tensor, means: Any, scales: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Of each Gaussian: log density of x_j given x_1 ... x_(j-1), and z_j: (..., batch, m, p)."""
    residual = x[..., None, :] - means
    if len(scales.shape) == 3:
        z, diagonal = residual / scales, scales
    else:
        z, diagonal = solve(scales, residual), tf.linalg.diag_part(scales)
    return -0.5 * z**2 - LOG_ROOT_TWO_PI - tf.math.log(diagonal), z


def _distribution_functions(x: tf.Tensor, means: Any, scales: Any, logits: Any) -> tf.Tensor:
    """F_j(x_j | x_1 ... x_(j-1)) of a mixture: x and the result have shape (..., batch, p)."""
    density, z = _conditional(x, means, scales)
    before = tf.cumsum(density, axis=-1, exclusive=True)
    weights = tf.nn.softmax(logits[..., None] + before, axis=-2)
    return tf.reduce_sum(weights * 0.5 * tf.math.erfc(-z / 2**0.5), axis=-2)


def _implicit_gradient(x: tf.Tensor, theta: Any, upstream: tf.Tensor) -> list[tf.Tensor]:
    """Gradient to theta = (means, scales, logits) of the mixture's draws x (n, batch, p)."""
    p = x.shape[-1]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch((x, *theta))
        levels = _distribution_functions(x, *theta)
        each = tf.unstack(levels, axis=-1)
    jacobian = [tape.gradient(level, x) for level in each]  # (n, batch, p) each, zero above j
    v: dict[int, tf.Tensor] = {}
    for j in reversed(range(p)):
        rest = upstream[..., j]
        for k in range(j + 1, p):
            rest -= jacobian[k][..., j] * v[k]
        v[j] = rest / jacobian[j][..., j]
    direction = -tf.stack([v[j] for j in range(p)], axis=-1)
    return tape.gradient(levels, theta, output_gradients=direction)
