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
from typing import Annotated, Any, Literal

from spurious.config.quantities import Budget
from spurious.config.systematics import Within
from spurious.defences.description import CONSTRAINTS, Size
from spurious.inference.defence import Defence, Network

FAST = 1.25  # step of the single-step method, in radii of the ball (Wong et al., Sec. 5)
REACH = 2.5  # sum of several steps, in radii, as for `PGD` (Madry et al., App.)


@dataclass(frozen=True, kw_only=True)
class WorstCase(Defence):
    """What defences by an inner maximisation have in common.

    Args:
        epsilon: largest change: of a pixel (linf), or RMS over a map's pixels (l2), counts.
        norm: "linf" or "l2".
        steps: of the ascent; 1 is the fast method.
        objective: what the ascent increases.
        constraints: what else must hold, as for `PGD`: with `bounded`, P(k) stays.

    Raises:
        ValueError: `epsilon` or `steps` is not above 0.
    """

    epsilon: Annotated[float, Budget, Size()]
    norm: Literal["linf", "l2"] = "linf"
    steps: Annotated[int, Within(1, 100)] = 1
    objective: Literal["nll", "kl", "kl_perturbed_clean", "kl_clean_perturbed"] = "nll"
    constraints: Annotated[tuple[Any, ...], CONSTRAINTS] = ()

    def __post_init__(self) -> None:
        if not (self.epsilon > 0 and self.steps >= 1):
            raise ValueError(f"epsilon = {self.epsilon} and steps = {self.steps} must be above 0")

    @property
    def step(self) -> float:
        """Size of a step, counts."""
        return self.epsilon * (FAST if self.steps == 1 else REACH / self.steps)

    def worst(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """The worst maps that the ascent finds; arguments and result as of `Defence.shown`."""
        from spurious.defences.ascent import ascend

        return ascend(self, network, maps, truth, seed)
