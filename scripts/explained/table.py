"""What each reading does to each network, and how far that is from the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from explained.readings import ALPHA, CLIPS, Attack, Unit
from spurious.bootstrap import Hierarchy
from spurious.damage import disagreement, measure, pooled_row
from spurious.data.maps import MapSet
from spurious.posteriors.posterior import Posterior
from spurious.progress import track
from spurious.report.findings import PAPER_KL, PAPER_PAIRS

ALPHAS = tuple(0.0005 * 2**power for power in range(9))  # tried where it is fitted
AT_A_TIME = 512  # maps: each batch has a cost of its own
TRIED = 128  # maps on which the alpha is sought that gives the paper's KL
FITTED = ("standardised", "log")  # units in which alpha is also fitted to the paper's KL
PAIRS = (
    ("standardised", "standardised"), ("counts", "counts"), ("contrast", "contrast"),
    ("log", "log"), ("0 to 1", "0 to 1"), ("standardised", "counts"), ("contrast", "counts"),
    ("log", "counts"),
)  # fmt: skip
"""Units of x in the attack and in the systematic: the same, or counts for the systematic, in which
alone its transition at x = 60 lies among the pixels."""
BETAS = ("fixed", "matched")  # the paper's, or such that the mean squared change is the attack's
KEPT = (
    "kl_perturbed_clean", "rms_counts", "mean_power_change_raw",
    "mean_power_change_contrast",
)  # fmt: skip
Row = dict[str, Any]


class Trainings:
    """Perturbations of the same maps on all trainings of a network, and what they did."""

    def __init__(self, posteriors: Sequence[Posterior], test: MapSet, seed: int) -> None:
        self._attacks = [Attack(one) for one in posteriors]
        self.posteriors, self.test, self.seed = posteriors, test, seed

    @property
    def groups(self) -> list[np.ndarray]:
        """Of each training, the number of the simulation that each map is of."""
        return [self.test.index] * len(self.posteriors)

    def attacked(self, unit: Unit, clip: str, alpha: float = ALPHA) -> list[np.ndarray]:
        """The test maps, attacked on each training."""
        maps, labels = self.test.maps, self.test.labels
        return [unit.attack(one, maps, labels, alpha, clip) for one in self._attacks]

    def damage(self, perturbed: Sequence[np.ndarray]) -> Row:
        """Of maps for each training: the numbers of the table, with intervals."""
        found = [
            measure(self.test.maps, maps, one, self.test.box_size, AT_A_TIME)
            for maps, one in zip(perturbed, self.posteriors, strict=True)
        ]
        row = pooled_row(found, self.seed, self.groups)
        kept = {key: row[key] for key in KEPT}
        for spectrum in ("raw", "contrast"):
            change = row["spectrum"][spectrum]["mean_change_cosmic"]
            kept[f"mean_power_change_cosmic_{spectrum}"] = float(np.abs(change).max())
        return kept

    def pair(self, one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> Row:
        """Mean symmetrised KL between the posteriors of two perturbations."""
        values = [
            disagreement(first, second, posterior, AT_A_TIME)
            for first, second, posterior in zip(one, other, self.posteriors, strict=True)
        ]
        return Hierarchy(self.groups, self.seed).mean_interval(values, positive=True)

    def fitted(self, unit: Unit, clip: str, goal: float) -> float:
        """The alpha whose attack has a mean KL of `goal` nats, between two of `ALPHAS`.

        By interpolation of ln KL in ln alpha, on the first maps; inf or 0: it lies beyond.
        """
        few = copy(self)
        few.test = self.test.take(np.arange(min(TRIED, len(self.test))))
        before: tuple[float, float] | None = None
        for alpha in ALPHAS:
            found = few.damage(few.attacked(unit, clip, alpha))["kl_perturbed_clean"]["mean"]
            if found >= goal:
                if before is None:
                    return 0.0
                kls, alphas = np.log([before[1], found]), np.log([before[0], alpha])
                return float(np.exp(np.interp(math.log(goal), kls, alphas)))
            before = alpha, found
        return math.inf


Attacked = dict[tuple[str, str], list[np.ndarray]]


def attacks(
    network: str, trainings: Trainings, units: Mapping[str, Unit]
) -> tuple[dict[tuple[str, str], float], Attacked]:
    """For each unit and clip, the paper's alpha or the fitted one, and the attacked maps."""
    clips = [(unit, clip) for unit in units for clip in CLIPS]
    alphas = dict.fromkeys(clips, ALPHA)
    ends = {}
    for unit, clip in track(clips, f"attacks on {network}", unit="attack"):
        ends[unit, clip] = trainings.attacked(units[unit], clip)
        if unit in FITTED:
            alpha = trainings.fitted(units[unit], clip, PAPER_KL["bim"])
            if 0 < alpha < math.inf:
                alphas[f"{unit}, α fitted", clip] = alpha
                ends[f"{unit}, α fitted", clip] = trainings.attacked(units[unit], clip, alpha)
    return alphas, ends


def rows(network: str, trainings: Trainings, units: Mapping[str, Unit]) -> list[Row]:
    """Every reading of the paper on one network."""
    maps, count = trainings.test.maps, len(trainings.posteriors)
    fixed = {name: [unit.systematic(maps)] * count for name, unit in units.items()}
    alphas, ends = attacks(network, trainings, units)
    pairs = [*PAIRS]
    for unit in FITTED:
        pairs += [(f"{unit}, α fitted", "counts"), (f"{unit}, α fitted", unit)]
    damages = {key: trainings.damage(one) for key, one in ends.items()}
    systematics = {name: trainings.damage(one) for name, one in fixed.items()}
    wanted = [(*pair, clip) for pair in pairs for clip in CLIPS if (pair[0], clip) in ends]
    found = []
    for attack, systematic, clip in track(wanted, f"readings on {network}", unit="reading"):
        attacked = ends[attack, clip]
        matched = [units[systematic].systematic(maps, like=one) for one in attacked]
        row: Row = {
            "network": network, "attack": attack, "clip": clip, "systematic": systematic,
            "n_trainings": count, "n_maps": len(maps),
            "alpha": alphas[attack, clip],
            "bim": damages[attack, clip],
        }  # fmt: skip
        made = (fixed[systematic], systematics[systematic]), (matched, trainings.damage(matched))
        for beta, (maps_made, damage) in zip(BETAS, made, strict=True):
            pair = trainings.pair(attacked, maps_made)
            away = distance(row["bim"], damage, pair)
            row[beta] = {"systematic": damage, "pair": pair, "distance": away}
        found.append(row)
    return found


def distance(bim: Row, systematic: Row, pair: Row) -> float:
    """The largest factor by which one of the three means is away from the paper's, as |ln|."""
    here = (bim["kl_perturbed_clean"], systematic["kl_perturbed_clean"], pair)
    paper = (PAPER_KL["bim"], PAPER_KL["systematic"], PAPER_PAIRS["bim", "systematic"])
    means = [max(one["mean"], 1e-12) for one in here]
    return max(abs(math.log(mean / one)) for mean, one in zip(means, paper, strict=True))
