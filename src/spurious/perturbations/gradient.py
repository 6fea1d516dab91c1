"""White-box attacks: steps uphill along an objective's gradient, within what is allowed.

Four pieces make an attack: an objective (`objectives`), a step and a start (`steps`), and what it
may reach (`constraints`, `spectral`). All attacks here are one loop with different settings:

    x <- project(x + alpha direction(grad_x J(q(. | x), y)))

- FGSM, the fast gradient sign method (Goodfellow, Shlens & Szegedy 2015, arXiv:1412.6572): one step
  along the sign.
- BIM, the basic iterative method (Kurakin, Goodfellow & Bengio 2017, arXiv:1607.02533; Eq. 2 of
  Horowitz & Melchior 2022, arXiv:2211.14788): several steps along the sign.
- PGD, projected gradient descent (Madry et al. 2018, arXiv:1706.06083): also in L2, from random
  starts, of which the best is kept map by map. From the clean map and with momentum it is MI-FGSM
  (Dong et al. 2018, arXiv:1710.06081).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, get_args

from spurious.description.marks import Doc, Within
from spurious.description.quantities import Budget
from spurious.lazy import tf
from spurious.perturbations.ascent import Ascent
from spurious.perturbations.base import BatchSize, Upper, like, require
from spurious.perturbations.constraints import Constraints
from spurious.perturbations.objectives import AnyObjective
from spurious.perturbations.steps import Decay, accumulate, direction, scheduled

if TYPE_CHECKING:
    from spurious.posteriors.posterior import Posterior

REACH = 2.5  # sum of all steps by default, in radii of the ball


@dataclass(frozen=True)
class PGD(Ascent):
    """Projected gradient descent, uphill.

    `epsilon`, `alpha` and `steps` may be float64, float64 and int32 variables of TensorFlow, all of
    them: then one trace serves every value that they are given between calls.

    Without alpha, all steps together cross the ball with some to spare, 2.5 epsilon (Madry et al.).
    With `momentum: 1.0` and `random_start: false` it is MI-FGSM.

    Raises:
        ValueError: as for `Ascent`.
    """

    decay: Annotated[Decay, Doc("constant steps, or linear: from alpha down to alpha / steps")] = (
        "constant"
    )
    momentum: Annotated[
        float, Within(0, 1), Doc("weight of the gradients before: 0 none, 1 as much as the last")
    ] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decay not in get_args(Decay):
            raise ValueError(f"decay = {self.decay!r} must be one of {get_args(Decay)}")
        require(0, 1, momentum=self.momentum)

    @property
    def first_step(self) -> float:
        """Size of the first step, counts."""
        if self.alpha is not None:
            return self.alpha
        assert self.epsilon is not None  # see __post_init__
        mean = 1.0 if self.decay == "constant" else (self.steps + 1) / (2 * self.steps)
        return REACH * self.epsilon / (self.steps * mean)

    def _climb(
        self, clean: tf.Tensor, truth: tf.Tensor, reference: Any, seed: tf.Tensor
    ) -> tf.Tensor:
        alpha = like(self.first_step, clean)
        maps = self._start(clean, seed)
        velocity = tf.zeros_like(clean)
        for i in tf.range(self.steps):
            _, gradient = self._evaluate(maps, reference, truth)
            if self.momentum:
                velocity = accumulate(velocity, gradient, self.momentum)
                gradient = velocity
            size = scheduled(alpha, i, self.steps, self.decay)
            maps = self._allowed(maps + size * direction(gradient, self.step_norm), clean)
        return self._settled(maps, clean)


@dataclass(frozen=True)
class BIM:
    """Basic iterative method: PGD along the sign, from the clean map, with constant steps.

    It is the paper's attack (Eq. 2; Kurakin, Goodfellow & Bengio 2017, arXiv:1607.02533).
    """

    posterior: Posterior
    alpha: Annotated[float, Budget, Doc("size of a step")]
    steps: Annotated[int, Within(1, 10_000), Doc("number of steps")] = 10
    epsilon: Annotated[
        float | None, Budget, Doc("largest change of a pixel; none: alpha x steps")
    ] = None
    objective: Annotated[AnyObjective, Doc("what is increased")] = "nll"
    upper: Upper = None
    batch_size: BatchSize = 128
    constraints: Annotated[Constraints, Doc("what else must hold, projected onto in turn")] = ()

    def __post_init__(self) -> None:
        _ = self.pgd  # refuses what is impossible before work starts

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`; some objectives need the truth."""
        return self.pgd(maps, truth)

    @cached_property
    def pgd(self) -> PGD:
        """The same attack in PGD's terms."""
        return PGD(
            self.posterior,
            epsilon=self.alpha * self.steps if self.epsilon is None else self.epsilon,
            alpha=self.alpha,
            steps=self.steps,
            objective=self.objective,
            random_start=False,
            constraints=self.constraints,
            upper=self.upper,
            batch_size=self.batch_size,
        )


@dataclass(frozen=True)
class FGSM:
    """Fast gradient sign method: one step of size epsilon (Goodfellow et al. 2015)."""

    posterior: Posterior
    epsilon: Annotated[float, Budget, Doc("size of the step")]
    objective: Annotated[AnyObjective, Doc("what is increased")] = "nll"
    upper: Upper = None
    batch_size: BatchSize = 128

    def __post_init__(self) -> None:
        _ = self.bim  # refuses what is impossible before work starts

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`."""
        return self.bim(maps, truth)

    @cached_property
    def bim(self) -> BIM:
        """The same attack as a single step of the iterative method."""
        return BIM(
            self.posterior,
            alpha=self.epsilon,
            steps=1,
            objective=self.objective,
            upper=self.upper,
            batch_size=self.batch_size,
        )
