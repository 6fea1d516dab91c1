"""How much of the damage the strongest attack finds, compared with longer and other attacks.

A damage is a lower bound: the attack shows that the posterior can be moved so far, not that it
cannot be moved farther. How loose the bound is, is measured for each kind of limit
separately, because constraints make the search harder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from spurious.audit.attacks import Attacks, Limit
from spurious.audit.measurement import Listener
from spurious.bootstrap import mean_interval
from spurious.config.audit import Audit


@dataclass(frozen=True)
class Saturation:
    """What the strongest attack found within one limit, and what more steps find.

    Attributes:
        limit: what the attack may do.
        steps: of the attack.
        restarts: its number of random starts.
        found: KL(perturbed || clean), nats, of each map, (n,).
        twice: the same with twice the steps, (n,).
        rows: maps of the reference, (m,).
        reference: the largest damage by any attack, map by map, (m,): this one, the same with twice
            the steps, and another long one.
        reference_steps: of the long one.
    """

    limit: Limit
    steps: int
    restarts: int
    found: np.ndarray
    twice: np.ndarray
    rows: np.ndarray
    reference: np.ndarray
    reference_steps: int

    @property
    def gain(self) -> float:
        """How much more twice the steps find, relative to the larger; NaN if both find nothing."""
        one, two = float(self.found.mean()), float(self.twice.mean())
        return (two - one) / max(one, two) if max(one, two) > 0 else np.nan

    @property
    def share(self) -> float:
        """Share of the reference's damage that the attack found on its maps; NaN if it is 0."""
        most = float(self.reference.mean())
        return float(self.found[self.rows].mean()) / most if most > 0 else np.nan

    def as_json(self, std: float, weights: np.ndarray) -> dict[str, Any]:
        """All of it, in means over maps.

        Args:
            std: standard deviation of a pixel by the target's standardiser, counts.
            weights: of the maps' bootstrap resamples, (resamples, n).
        """
        known = np.maximum(self.found, self.twice)
        return {
            "norm": self.limit.norm,
            "epsilon_counts": self.limit.epsilon,
            "epsilon_std": self.limit.epsilon / std,
            "fraction": self.limit.fraction,
            "phases_only": self.limit.phases_only,
            "steps": self.steps,
            "restarts": self.restarts,
            "kl_perturbed_clean": _finite(mean_interval(self.found, weights)),
            "strongest_known": _finite(mean_interval(known, weights)),
            "gain_of_twice_the_steps": _number(self.gain),
            "share_of_reference": _number(self.share),
            "reference": {
                "maps": len(self.rows),
                "steps": self.reference_steps,
                "kl_perturbed_clean": _number(float(self.reference.mean())),
            },
        }


def limits(settings: Audit, std: float) -> dict[str, Limit]:
    """Every kind of limit at the budgets of the checks, by name; `std` in counts."""
    epsilon, rms = settings.epsilon.counts(std), settings.cosmic_rms.counts(std)
    return {
        "linf": Limit(epsilon),
        "l2": Limit(rms, "l2"),
        "bounded": Limit(epsilon, fraction=settings.fraction),
        "bin_preserving": Limit(epsilon, fraction=0.0),
        "phase_only": Limit(rms, "l2", phases_only=True),
    }


def saturation(
    attacks: Attacks, listener: Listener, maps: np.ndarray, limit: Limit, settings: Audit
) -> Saturation:
    """Attack maps (n, N, N) within a limit, again with twice the steps, and some with the long one.

    Args:
        attacks: on the posterior.
        listener: the posterior and the same maps.
        maps: clean, counts.
        limit: what the attacks may do.
        settings: numbers of steps, and of the reference's maps, which are evenly spaced.
    """
    steps = attacks.steps_within(limit)
    found = listener(attacks.strongest(maps, limit)).kl
    twice = listener(attacks.strongest(maps, limit, 2 * steps)).kl
    rows = np.unique(np.linspace(0, len(maps) - 1, settings.reference_maps).round().astype(int))
    long = attacks.reference(maps[rows], limit, settings.reference_steps)
    most = Listener(attacks.posterior, maps[rows])(long).kl
    return Saturation(
        limit,
        steps,
        attacks.restarts,
        found,
        twice,
        rows,
        np.max([most, found[rows], twice[rows]], axis=0),
        settings.reference_steps,
    )


def as_json(
    found: Mapping[str, Saturation], std: float, weights: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Each by the name of its limit; arguments as of `Saturation.as_json`."""
    return {name: one.as_json(std, weights) for name, one in found.items()}


def _finite(interval: Mapping[str, float]) -> dict[str, float | None]:
    return {key: _number(value) for key, value in interval.items()}


def _number(value: float) -> float | None:
    """None for numbers that JSON lacks."""
    return value if np.isfinite(value) else None
