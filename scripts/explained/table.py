"""What each reading does to each network, and how far that is from the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explained.readings import ALPHA, CLIPS, Unit
from spurious.bootstrap import Hierarchy
from spurious.damage import disagreement, measure, pooled_row
from spurious.data.maps import MapSet
from spurious.posteriors.posterior import Posterior
from spurious.progress import track
from spurious.report.findings import PAPER_KL, PAPER_PAIRS

ALPHAS = (0.0005, 0.001, 0.002, 0.004, 0.008)  # standard deviations; KL rises through the paper's
TRIED = 128  # maps on which the alpha is sought that gives the paper's KL
FITTED = "standardised, α fitted"
PAIRS = (
    ("standardised", "standardised"), ("counts", "counts"), ("contrast", "contrast"),
    ("log", "log"), ("0 to 1", "0 to 1"), ("standardised", "counts"), ("contrast", "counts"),
    ("log", "counts"),
)  # fmt: skip
"""Units of x in the attack and in the systematic: the same, or counts for the systematic, in which
alone its transition at x = 60 lies among the pixels."""
BETAS = ("fixed", "matched")  # the paper's, or such that the mean squared change is the attack's
KEPT = (
    "kl_perturbed_clean", "kl_symmetrised", "rms_counts", "mean_power_change_raw",
    "mean_power_change_contrast",
)  # fmt: skip
Row = dict[str, Any]


class Trainings:
    """Perturbations of the same maps on all trainings of a network, and what they did."""

    def __init__(self, posteriors: Sequence[Posterior], test: MapSet, seed: int) -> None:
        self.posteriors, self.test, self.seed = posteriors, test, seed
        self.groups = [test.index] * len(posteriors)

    def attacked(self, unit: Unit, clip: str, alpha: float = ALPHA) -> list[np.ndarray]:
        """The test maps, attacked on each training."""
        maps, labels = self.test.maps, self.test.labels
        return [unit.attack(one, maps, labels, alpha, clip) for one in self.posteriors]

    def damage(self, perturbed: Sequence[np.ndarray]) -> Row:
        """Of maps for each training: the numbers of the table, with intervals."""
        found = [
            measure(self.test.maps, maps, one, self.test.box_size)
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
            disagreement(first, second, posterior)
            for first, second, posterior in zip(one, other, self.posteriors, strict=True)
        ]
        return Hierarchy(self.groups, self.seed).mean_interval(values, positive=True)

    def fitted(self, unit: Unit, clip: str, goal: float) -> float:
        """The alpha whose attack has a mean KL of `goal` nats, between two of `ALPHAS`.

        By interpolation of ln KL in ln alpha, on the first maps; inf or 0: it lies beyond.
        """
        few = Trainings(
            self.posteriors, self.test.take(np.arange(min(TRIED, len(self.test)))), self.seed
        )
        found = [
            few.damage(few.attacked(unit, clip, alpha))["kl_perturbed_clean"]["mean"]
            for alpha in ALPHAS
        ]
        logs = np.interp(math.log(goal), np.log(found), np.log(ALPHAS), left=-np.inf, right=np.inf)
        return float(np.exp(logs))


def rows(network: str, trainings: Trainings, units: Mapping[str, Unit]) -> list[Row]:
    """Every reading of the paper on one network."""
    maps, count = trainings.test.maps, len(trainings.posteriors)
    fixed = {name: [unit.systematic(maps)] * count for name, unit in units.items()}
    ends = {
        (name, clip): trainings.attacked(unit, clip)
        for name, unit in track(units.items(), f"attacks on {network}", unit="unit")
        for clip in CLIPS
    }
    alphas = dict.fromkeys(ends, ALPHA)
    pairs = list(PAIRS)
    standard = units["standardised"]
    for clip in CLIPS:
        alpha = trainings.fitted(standard, clip, PAPER_KL["bim"])
        if 0 < alpha < math.inf:
            alphas[FITTED, clip] = alpha
            ends[FITTED, clip] = trainings.attacked(standard, clip, alpha)
    pairs += [(FITTED, "counts"), (FITTED, "standardised")]
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
