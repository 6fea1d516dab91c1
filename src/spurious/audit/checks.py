"""Security curves of a posterior and all checks of them, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from spurious.audit import criteria
from spurious.audit.attacks import Attacks, Limit
from spurious.audit.criteria import Check
from spurious.audit.curves import Audience, Curves, audience, security
from spurious.audit.gradient_check import agreement
from spurious.audit.measurement import Listener
from spurious.audit.planted import Planted, known
from spurious.audit.saturation import Saturation, limits, saturation
from spurious.config.audit import Audit
from spurious.posteriors.posterior import Posterior
from spurious.progress import Bar, track


@dataclass(frozen=True)
class Report:
    """What `run` found.

    Attributes:
        curves: damage against budget.
        checks: how far to believe it.
        strongest: the strongest attack within each kind of limit, by name, and how much of the
            damage it finds.
    """

    curves: Curves
    checks: tuple[Check, ...]
    strongest: Mapping[str, Saturation]

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
        settings: budgets, steps and thresholds; `maps` is ignored, all given maps are used.
        seed: root of random starts, noise, directions and resamples.
        groups: number of the simulation that each map is of, (n,).
        others: other posteriors, by name: they see the maps of attacks on the target, and the
            target sees those of attacks on the first of them.
        attacks: the attacks to use; by default `Attacks` on the posterior.
    """
    settings = settings or Audit()
    attacks = attacks or Attacks(
        posterior, settings.steps, settings.constrained_steps, settings.restarts, seed
    )
    heard = audience(attacks, maps, truth, box_size, others)
    curves = security(attacks, heard, settings, seed, groups)
    strongest = _strongest(attacks, heard, settings, curves.std)
    found = _checks(attacks, heard, curves, strongest, settings, others or {})
    return Report(curves, found, strongest)


def _strongest(
    attacks: Attacks, heard: Audience, settings: Audit, std: float
) -> dict[str, Saturation]:
    """The strongest attack and its reference within every kind of limit."""
    bar = track(limits(settings, std).items(), name="saturation", delay=2)
    return {
        name: saturation(attacks, heard.target, heard.maps, limit, settings) for name, limit in bar
    }


def _checks(
    attacks: Attacks,
    heard: Audience,
    curves: Curves,
    strongest: Mapping[str, Saturation],
    settings: Audit,
    others: Mapping[str, Posterior],
) -> tuple[Check, ...]:
    thresholds, limit = settings.thresholds, Limit(settings.epsilon.counts(curves.std))
    steps = settings.linf.counts(curves.std)[:3]
    with Bar(total=4, name="checks", unit="check", delay=2) as bar:
        ends = _ends(attacks, heard, limit, settings.starts)
        bar.update()
        chosen = dict(list(others.items())[: settings.transfer])
        transferred = _transferred(attacks, heard, limit, chosen)
        bar.update()
        planted, reached = _planted(attacks, heard, limit)
        bar.update()
        agreed = agreement(attacks.posterior, heard.maps, heard.truth, steps, attacks.seed)
        bar.update()
    return (
        criteria.iterative_beats_single(curves, thresholds),
        criteria.monotone(curves, thresholds),
        criteria.saturates(strongest, thresholds),
        criteria.full_damage(curves, thresholds),
        criteria.beats_noise(curves, thresholds),
        criteria.beats_transfer(strongest["linf"].found, transferred, thresholds),
        criteria.gradient_agrees(agreed, thresholds),
        criteria.gradient_not_zero(agreed, thresholds),
        criteria.restarts_agree(ends, thresholds),
        criteria.budget_respected(curves, thresholds),
        criteria.planted_found(planted, reached, thresholds),
    )


def _ends(attacks: Attacks, heard: Audience, limit: Limit, count: int) -> np.ndarray:
    """KL from every random start, (count, n)."""
    ends = attacks.ends(heard.maps, limit, count)
    return np.stack([heard.target(ends[:, i]).kl for i in range(count)])


def _transferred(
    attacks: Attacks, heard: Audience, limit: Limit, others: Mapping[str, Posterior]
) -> dict[str, np.ndarray]:
    """The target's KL by attacks that were made on other posteriors."""
    return {
        name: heard.target(replace(attacks, posterior=other).strongest(heard.maps, limit)).kl
        for name, other in others.items()
    }


def _planted(attacks: Attacks, heard: Audience, limit: Limit) -> tuple[np.ndarray, np.ndarray]:
    """KL of a planted posterior by the pattern and by the attack, each (n,)."""
    planted = Planted(attacks.posterior, limit.epsilon, attacks.seed)
    ears = Listener(planted, heard.maps)
    made = replace(attacks, posterior=planted).strongest(heard.maps, limit)
    return known(ears, planted, heard.maps), ears(made).kl
