"""The inner maximisation of adversarial training: the worst map near each, found in few steps.

    x' = argmax over |x' - x| <= epsilon of J(q(. | x'), y)

by projected gradient ascent from a random start in the ball (Madry et al. 2018, arXiv:1706.06083,
Eq. 2.1). One step of 1.25 epsilon is the fast method of Wong, Rice & Kolter (2020,
arXiv:2001.03994): cheap, and as good as several steps unless the network learns to withstand only
that one step ("catastrophic overfitting"), which an attack of more steps uncovers. In L2 a step
goes along the gradient instead of its sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from spurious.defences.description import UpToStd
from spurious.description.marks import Doc, Within
from spurious.description.quantities import Budget
from spurious.lazy import tf
from spurious.perturbations.ascent import value_and_gradient
from spurious.perturbations.base import like
from spurious.perturbations.constraints import Ball, Constraints, satisfy
from spurious.perturbations.objectives import named
from spurious.perturbations.steps import Norm, direction, rms
from spurious.training.defence import Defence, Network

FAST = 1.25  # step of the single-step method, in radii of the ball (Wong et al., Sec. 5)
Objective = Literal["nll", "kl", "kl_perturbed_clean", "kl_clean_perturbed"]
ROUNDS = 5  # alternating projections after the last step, if there are constraints
REACH = 2.5  # sum of several steps, in radii, as for `PGD` (Madry et al., App.)


@dataclass(frozen=True, kw_only=True)
class WorstCase(Defence):
    """What defences by an inner maximisation have in common.

    Raises:
        ValueError: `epsilon` or `steps` is not above 0.
    """

    epsilon: Annotated[
        float, Budget, UpToStd(), Doc("largest change: of a pixel (linf), or its RMS (l2)")
    ]
    norm: Annotated[Literal["linf", "l2"], Doc("which of them")] = "linf"
    steps: Annotated[int, Within(1, 100), Doc("of the ascent; 1 is the fast method")] = 1
    objective: Annotated[Objective, Doc("what the ascent increases")] = "nll"
    constraints: Annotated[Constraints, Doc("what else must hold: with `bounded`, P(k) stays")] = ()

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and self.steps >= 1):
            raise ValueError(f"epsilon = {self.epsilon} and steps = {self.steps} must be above 0")

    @property
    def step(self) -> float:
        """Size of a step, counts."""
        return self.epsilon * (FAST if self.steps == 1 else REACH / self.steps)

    def worst(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """The worst maps that the ascent finds; arguments and result as of `Defence.shown`."""
        frozen, goal = partial(network, training=False), named(self.objective)
        reference = frozen(maps)
        found = self._projected(start(maps, self.epsilon, self.norm, seed), maps)
        for _ in range(self.steps):
            _, gradient = value_and_gradient(
                lambda at: goal(frozen(at), reference, truth), found, self.objective
            )
            found = found + like(self.step, maps) * direction(gradient, self.norm)
            found = self._projected(found, maps)
        if self.constraints:
            found = self._projected(found, maps, ROUNDS)
        return tf.stop_gradient(found)

    def _projected(self, maps: tf.Tensor, clean: tf.Tensor, rounds: int = 1) -> tf.Tensor:
        """The nearest maps that are allowed."""
        ball = Ball(self.epsilon, self.norm)
        if not self.constraints:
            return ball(maps, clean)
        # A graph of its own: Keras leaves the loop of `satisfy` as Python, where it cannot run.
        constrained = partial(satisfy, constraints=self.constraints, ball=ball, rounds=rounds)
        return tf.function(constrained)(maps, clean)


def start(maps: tf.Tensor, size: float, norm: Norm, seed: tf.Tensor) -> tf.Tensor:
    """Each map moved to a random place of the ball, uniformly; another one for each map."""
    shape, dtype = tf.shape(maps), maps.dtype
    if norm == "linf":
        return maps + size * tf.random.stateless_uniform(shape, seed, -1, 1, dtype)
    one, two = tf.unstack(tf.random.split(seed, 2))
    pattern = tf.random.stateless_normal(shape, one, dtype=dtype)
    uniform = tf.random.stateless_uniform((shape[0], 1, 1), two, dtype=dtype)
    radius = uniform ** (1 / tf.cast(shape[1] * shape[2], dtype))
    return maps + size * radius * pattern / rms(pattern)
