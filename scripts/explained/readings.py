"""What x can mean in the paper's two formulas, and the perturbations that follow from each.

    BIM          x <- Clip(x + alpha sign grad J)          alpha = 0.01, ten steps    (Eq. 2)
    systematic   x + beta / (1 + exp(a x + b))             0.25, -15, 3               (Eq. 3)

The paper does not say in which unit the network saw x, nor to what `Clip` clips. A `Unit` is one
possible answer to the first question, `CLIPS` are those to the second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from spurious import PGD, Logistic, Posterior, Standardiser
from spurious.perturbations.matching import matched

ALPHA, STEPS = 0.01, 10
A, B, BETA = 0.25, -15.0, 3.0
CLIPS = {"x ≥ 0": None, "x ≥ 0, |Δx| ≤ α": 1}
"""What `Clip` does -> radius in steps of the ball about the clean map, if there is one."""


class Attack:
    """BIM on one posterior, as one graph for every size of its steps.

    Args:
        posterior: what is attacked, in whatever unit it takes maps.
    """

    def __init__(self, posterior: Posterior) -> None:
        self.posterior = posterior
        self._alpha, self._epsilon = (
            tf.Variable(0.0, trainable=False, dtype=tf.float64) for _ in range(2)
        )
        self._pgd = PGD(posterior, self._epsilon, self._alpha, STEPS, random_start=False)

    def __call__(self, x: np.ndarray, truth: np.ndarray, alpha: float, clip: str) -> np.ndarray:
        """Ten steps of `alpha` from x (n, N, N), with one of `CLIPS`."""
        self._alpha.assign(alpha)
        self._epsilon.assign(alpha * (CLIPS[clip] or STEPS))
        return self._pgd(x, truth).numpy()

    @cached_property
    def of_log(self) -> dict[float, Attack]:
        """The same attacks on the logarithm of maps, by its scale; filled when they are made."""
        return {}


class Unit(ABC):
    """What the network's input is, as a function of counts."""

    @abstractmethod
    def attack(
        self, attack: Attack, maps: np.ndarray, truth: np.ndarray, alpha: float, clip: str
    ) -> np.ndarray:
        """BIM with steps of `alpha` in this unit: maps (n, N, N) in counts to the same."""

    @abstractmethod
    def systematic(self, maps: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
        """The systematic with the paper's parameters in this unit, on maps in counts.

        Args:
            maps: (n, N, N).
            like: perturbed maps; beta is then such that the mean squared change is theirs.
        """


@dataclass(frozen=True)
class Linear(Unit):
    """x = (counts - shift) / scale: the formulas keep their form, with other parameters."""

    shift: float
    scale: float

    def attack(
        self, attack: Attack, maps: np.ndarray, truth: np.ndarray, alpha: float, clip: str
    ) -> np.ndarray:
        """See `Unit`."""
        return attack(maps, truth, alpha * self.scale, clip)

    def systematic(self, maps: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
        """See `Unit`."""
        effect = Logistic(A / self.scale, B - A * self.shift / self.scale, BETA * self.scale)
        return _matched(effect, maps, like)(maps).numpy()


@dataclass(frozen=True)
class Log(Unit):
    """x = ln(1 + counts / scale), which is not negative where the counts are not."""

    scale: float

    def attack(
        self, attack: Attack, maps: np.ndarray, truth: np.ndarray, alpha: float, clip: str
    ) -> np.ndarray:
        """See `Unit`."""
        if self.scale not in attack.of_log:
            attack.of_log[self.scale] = Attack(
                Posterior.from_callable(
                    lambda x: attack.posterior(self._counts(x)),
                    names=attack.posterior.names,
                    standardiser=Standardiser(0.0, 1.0),
                )
            )
        found = attack.of_log[self.scale](self._seen(maps), truth, alpha, clip)
        return self._counts(found).numpy()

    def systematic(self, maps: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
        """See `Unit`."""
        seen = self._seen(maps)
        effect = _matched(Logistic(A, B, BETA), seen, None if like is None else self._seen(like))
        return self._counts(effect(seen)).numpy()

    def _seen(self, maps: np.ndarray) -> np.ndarray:
        return np.log1p(maps / np.float32(self.scale))

    def _counts(self, x: Any) -> tf.Tensor:
        return self.scale * tf.math.expm1(x)


def units(training: np.ndarray) -> dict[str, Unit]:
    """Every unit that a reader might think of, with the training maps' own mean and extremes."""
    found = Standardiser.fit(training)
    return {
        "counts": Linear(0.0, 1.0),
        "contrast": Linear(found.mean, found.mean),
        "standardised": Linear(found.mean, found.std),
        "log": Log(found.mean),
        "0 to 1": Linear(0.0, float(training.max())),
    }


def _matched(effect: Logistic, maps: np.ndarray, like: np.ndarray | None) -> Logistic:
    if like is None:
        return effect
    return matched(effect, maps, float(np.mean((like.astype(float) - maps) ** 2)))
