"""Security curves of a posterior and all checks of them, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from spurious.audit import verdicts
from spurious.audit.attacks import Attacks
from spurious.audit.curves import Audience, Curves, audience, security
from spurious.audit.gradients import agreement
from spurious.audit.planted import Planted, known
from spurious.audit.response import Listener
from spurious.audit.verdicts import Check
from spurious.config.audit import Audit
from spurious.inference.posterior import Posterior


@dataclass(frozen=True)
class Report:
    """What `run` found: curves, and the checks that say how far to believe them."""

    curves: Curves
    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [check.name for check in self.checks if check.passed is False]


def run(
    posterior: Posterior,
    maps: np.ndarray,
    truth: np.ndarray,
    *,
    box_size: float,
    settings: Audit | None = None,
    seed: int = 0,
    groups: np.ndarray | None = None,
    others: Mapping[str, Posterior] | None = None,
    attacks: Attacks | None = None,
) -> Report:
    """Security curves of a posterior, and all checks of them.

    Args:
        posterior: what is attacked: maps -> distribution, differentiable in the maps.
        maps: clean maps, (n, N, N) in counts.
        truth: their true parameters, (n, p).
        box_size: side of a map, Mpc/h.
        settings: budgets, steps and thresholds; `maps` is ignored, all that are given are used.
        seed: root of random starts, noise, directions and resamples.
        groups: number of the simulation that each map is of, (n,).
        others: other posteriors, by name: they are shown what is made on the target, and attacks
            made on the first of them are shown to the target.
        attacks: what attacks; by default `Attacks` on the posterior.
    """
    settings = settings or Audit()
    attacks = attacks or Attacks(posterior, settings.steps, settings.restarts, seed)
    heard = audience(attacks, maps, truth, box_size, others)
    curves = security(attacks, heard, settings, seed, groups)
    return Report(curves, _checks(attacks, heard, curves, settings, others or {}))


def _checks(
    attacks: Attacks,
    heard: Audience,
    curves: Curves,
    settings: Audit,
    others: Mapping[str, Posterior],
) -> tuple[Check, ...]:
    limits = settings.thresholds
    epsilon = settings.epsilon.counts(curves.std)
    steps = settings.linf.counts(curves.std)[:3]
    with tqdm(total=5, desc="checks", unit="check", delay=2, leave=False) as bar:
        by_steps = _by_steps(attacks, heard, epsilon)
        bar.update()
        ends = _ends(attacks, heard, epsilon)
        bar.update()
        chosen = dict(list(others.items())[: settings.transfer])
        transferred = _transferred(attacks, heard, epsilon, chosen)
        bar.update()
        planted, reached = _planted(attacks, heard, epsilon)
        bar.update()
        agreed = agreement(attacks.posterior, heard.maps, heard.truth, steps, attacks.seed)
        bar.update()
    return (
        verdicts.iterative_beats_single(curves, limits),
        verdicts.monotone(curves, limits),
        verdicts.saturates(by_steps, limits),
        verdicts.full_damage(curves, limits),
        verdicts.beats_noise(curves, limits),
        verdicts.beats_transfer(by_steps[attacks.steps], transferred, limits),
        verdicts.gradient_agrees(agreed, limits),
        verdicts.gradient_not_zero(agreed, limits),
        verdicts.restarts_agree(ends, limits),
        verdicts.budget_respected(curves, limits),
        verdicts.planted_found(planted, reached, limits),
    )


def _by_steps(attacks: Attacks, heard: Audience, epsilon: float) -> dict[int, np.ndarray]:
    """Rise of the loss by half, all and twice the steps."""
    counts = sorted({max(attacks.steps // 2, 1), attacks.steps, 2 * attacks.steps})
    return {
        count: heard.target(attacks.pgd(heard.maps, heard.truth, epsilon, count)).loss
        for count in counts
    }


def _ends(attacks: Attacks, heard: Audience, epsilon: float) -> np.ndarray:
    """Rise of the loss from every random start, (restarts, n)."""
    ends = attacks.ends(heard.maps, heard.truth, epsilon)
    return np.stack([heard.target(ends[:, i]).loss for i in range(ends.shape[1])])


def _transferred(
    attacks: Attacks, heard: Audience, epsilon: float, others: Mapping[str, Posterior]
) -> dict[str, np.ndarray]:
    """Rise of the target's loss by attacks that were made on other posteriors."""
    losses = {}
    for name, other in others.items():
        made = replace(attacks, posterior=other).pgd(heard.maps, heard.truth, epsilon)
        losses[name] = heard.target(made).loss
    return losses


def _planted(attacks: Attacks, heard: Audience, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """KL of a planted posterior by the pattern and by the attack, each (n,)."""
    planted = Planted(attacks.posterior, epsilon, attacks.seed)
    ears = Listener(planted, heard.maps, heard.truth)
    made = replace(attacks, posterior=planted).pgd(heard.maps, heard.truth, epsilon)
    return known(ears, planted, heard.maps), ears(made).kl
