"""Attacks that know the defence, and what they do to it.

"On adaptive attacks to adversarial example defenses" (Tramer et al. 2020, arXiv:2002.08347): what
attacks a defended posterior sees all of it, its noise and its detector, climbs the damage itself,
and what was made on the undefended posterior is shown to it too. Map by map, the damage is the most
that any of these did.

- A `Smoothed` posterior is attacked twice: through the noise that it uses, which the attack knows,
  and through noise that is drawn anew at every step (expectation over transformations: Athalye et
  al. 2018, arXiv:1707.07397), which does not overfit one draw.
- An `Abstaining` one is attacked together with its detector: where a map is rejected, the step
  lowers the score, elsewhere it raises the damage (selective projected gradient descent: Bryniarski
  et al. 2021, arXiv:2106.15023, Section 4.1), and accepted maps count for more than rejected ones.
- Every other posterior is attacked as the audit does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from spurious.audit.attacks import Attacks, Limit, Scheduled, Shrinking
from spurious.audit.measurement import Listener, Response
from spurious.defences.abstaining import Abstaining
from spurious.defences.smoothing import Smoothed
from spurious.posteriors.posterior import Posterior


class Selective:
    """Of an attack on an `Abstaining` posterior: damage where accepted, else minus the excess."""

    posterior: Abstaining

    def _value(self, maps: tf.Tensor, reference: Any, truth: tf.Tensor) -> tf.Tensor:
        damage = super()._value(maps, reference, truth)  # type: ignore[misc]
        excess = tf.cast(self.posterior.excess(maps), damage.dtype)
        return tf.where(excess > 0, -excess, damage)


@dataclass(frozen=True)
class SelectiveScheduled(Selective, Scheduled):
    """Auto-PGD on detector and posterior."""


@dataclass(frozen=True)
class SelectiveShrinking(Selective, Shrinking):
    """PGD on detector and posterior."""


@dataclass(frozen=True)
class OnDetector(Attacks):
    """Attacks on an `Abstaining` posterior and its detector together."""

    CLIMBING = SelectiveScheduled
    LONG = SelectiveShrinking


@dataclass(frozen=True)
class OverNoise(Attacks):
    """Attacks on a `Smoothed` posterior; of its own noise and fresh noise, what does more."""

    def strongest(self, maps: Any, limit: Limit, steps: int | None = None) -> tf.Tensor:
        """See `Attacks`."""
        made = [super().strongest(maps, limit, steps), self._fresh.strongest(maps, limit, steps)]
        listener = Listener(self.posterior, np.asarray(maps))
        return best(made, [listener(one).kl for one in made])

    @cached_property
    def _fresh(self) -> Attacks:
        assert isinstance(self.posterior, Smoothed)
        return Attacks(
            self.posterior.fresh(), self.steps, self.constrained_steps, self.restarts, self.seed
        )


def attacks_on(posterior: Posterior, like: Attacks) -> Attacks:
    """What attacks a posterior: all of it, whatever its defence.

    Args:
        posterior: the defended posterior.
        like: has the numbers of steps and restarts, and the seed.
    """
    kinds = {Abstaining: OnDetector, Smoothed: OverNoise}
    kind = next((to for of, to in kinds.items() if isinstance(posterior, of)), Attacks)
    return kind(posterior, like.steps, like.constrained_steps, like.restarts, like.seed)


class Heard:
    """What changes of the same maps do to a posterior, and which of them it answers.

    Args:
        posterior: what listens.
        clean: (n, N, N) in counts.
    """

    def __init__(self, posterior: Posterior, clean: np.ndarray) -> None:
        self.posterior, self._listener = posterior, Listener(posterior, clean)

    def __call__(self, perturbed: Any) -> Outcome:
        """Of the perturbed maps, in the order of the clean ones."""
        kl = self._listener(perturbed).kl.astype(np.float64)
        return Outcome(kl, accepted(self.posterior, perturbed))

    def response(self, perturbed: Any) -> Response:
        """What the checks of the audit look at; a map without an answer is not moved."""
        found, answered = self._listener(perturbed), accepted(self.posterior, perturbed)
        return Response(*(np.where(answered, values, 0) for values in found))


@dataclass(frozen=True)
class Outcome:
    """What was done to each map.

    Attributes:
        kl: KL(q(. | perturbed) || q(. | clean)), nats, (n,).
        accepted: whether the perturbed map gets an answer, (n,).
    """

    kl: np.ndarray
    accepted: np.ndarray

    @property
    def damage(self) -> np.ndarray:
        """The KL where there is an answer, else 0: nobody is misled, (n,)."""
        return np.where(self.accepted, self.kl, 0.0)

    def worse(self, other: Outcome) -> Outcome:
        """Map by map, the one that does more damage; of two rejected maps the first."""
        chosen = (other.damage > self.damage) | (other.accepted & ~self.accepted)
        return Outcome(
            np.where(chosen, other.kl, self.kl), np.where(chosen, other.accepted, self.accepted)
        )


def accepted(posterior: Posterior, maps: Any) -> np.ndarray:
    """Which maps (n, N, N) a posterior answers: all, unless it abstains, (n,)."""
    if isinstance(posterior, Abstaining):
        return posterior.accepts(maps)
    return np.ones(len(maps), bool)


def best(made: list[tf.Tensor], damage: list[np.ndarray]) -> tf.Tensor:
    """Of several perturbed versions of the same maps, map by map, that of most damage."""
    chosen = tf.constant(np.argmax(damage, axis=0))
    return tf.gather(tf.stack(made, axis=1), chosen, axis=1, batch_dims=1)
