"""Who would notice? Perturbed test maps against clean ones of the same cosmologies.

A survey knows its cosmology no better than its statistics tell it; here it is known exactly, so
the numbers are what a survey could do at best, with one map (AUROC) or with many (p-values).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spurious import seeds
from spurious.bootstrap import bootstrap_weights, interval
from spurious.detection import two_sample
from spurious.detection.residuals import Residuals
from spurious.detection.statistics import standard
from spurious.errors import UserError
from spurious.maps import MapSet

MMD = "mmd"


def detect(
    clean_train: MapSet, clean_test: MapSet, perturbed: np.ndarray, seed: int
) -> dict[str, Any]:
    """How well each statistic tells perturbed from clean maps; see `Detector.row`."""
    return Detector(clean_train, clean_test, seed).row(perturbed)


class Detector:
    """What all perturbations of the same test maps share.

    Args:
        train: clean maps that teach what is to be expected at each cosmology.
        test: clean maps, of other simulations.
        seed: root of the halves, of the bootstrap and of the permutations.

    Raises:
        UserError: there are too few maps or cosmologies to train on, or fewer than four
            simulations to test.
    """

    def __init__(self, train: MapSet, test: MapSet, seed: int) -> None:
        if (found := len(test.simulations)) < 4:
            raise UserError(f"the test has {found} simulations: at least 4 are needed")
        self.test, self.seed = test, seed
        self.statistics = standard(train.maps, train.box_size)
        self.residuals = {
            name: Residuals.fit(statistic(train.maps), train.labels)
            for name, statistic in self.statistics.items()
        }
        self.clean = self._whitened(test.maps)
        self.half = _half(test.index, seed)
        self.weights = bootstrap_weights(len(test), seed, test.index)

    def row(self, perturbed: np.ndarray) -> dict[str, Any]:
        """Compare the test maps with what a perturbation made of them.

        Args:
            perturbed: (n, N, N) in counts, one for each test map.

        Returns:
            Ready for JSON. For each statistic `auroc_anomaly` and `auroc_known`, each with `mean`,
            `low` and `high`, and `p_value`; under "mmd" `value` and `p_value`. See
            docs/detection.md.

        Raises:
            ValueError: the shape is not that of the test maps, or a value is not finite.
        """
        if perturbed.shape != self.test.maps.shape:
            raise ValueError(f"{perturbed.shape} perturbed maps for {self.test.maps.shape} clean")
        if not np.isfinite(perturbed).all():
            raise ValueError("perturbed maps are not finite")
        changed = self._whitened(perturbed)
        row: dict[str, Any] = {
            name: {
                "auroc_anomaly": self._anomaly(self.clean[name], changed[name]),
                "auroc_known": self._known(self.clean[name], changed[name]),
                "p_value": two_sample.mean_test(
                    *self._independent(self.clean[name], changed[name]), self.seed
                ),
            }
            for name in self.statistics
        }
        joined = (np.concatenate(list(r.values()), axis=1) for r in (self.clean, changed))
        value, p_value = two_sample.mmd_test(*self._independent(*joined), self.seed)
        return {**row, MMD: {"value": value, "p_value": p_value}}

    def _whitened(self, maps: np.ndarray) -> dict[str, np.ndarray]:
        labels = self.test.labels
        return {
            name: self.residuals[name](statistic(maps), labels)
            for name, statistic in self.statistics.items()
        }

    def _anomaly(self, clean: np.ndarray, changed: np.ndarray) -> dict[str, float]:
        """AUROC of chi^2, in the direction, larger or smaller, in which the sample differs."""
        first, second = (clean**2).sum(axis=1), (changed**2).sum(axis=1)
        if two_sample.auroc(first, second, np.ones((1, len(first))))[0] < 0.5:
            first, second = -first, -second
        return interval(lambda w: two_sample.auroc(first, second, w), self.weights)

    def _known(self, clean: np.ndarray, changed: np.ndarray) -> dict[str, float]:
        """AUROC of discriminants learnt on one half of the simulations, tested on the other."""
        parts = []
        for held in (self.half, ~self.half):
            direction = two_sample.discriminant(clean[~held], changed[~held])
            parts.append((held, clean[held] @ direction, changed[held] @ direction))
        return interval(
            lambda w: np.mean(
                [two_sample.auroc(c, p, _filled(w[:, h])) for h, c, p in parts], axis=0
            ),
            self.weights,
        )

    def _independent(self, clean: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Perturbed maps of one half and clean maps of the other, a mean vector a simulation."""
        index, half = self.test.index, self.half
        return _means(changed[half], index[half]), _means(clean[~half], index[~half])


def _filled(weights: np.ndarray) -> np.ndarray:
    """Equal weights in resamples that hold none of these maps, which happens to very few."""
    return np.where(weights.sum(axis=1, keepdims=True) == 0, 1.0, weights)


def _half(index: np.ndarray, seed: int) -> np.ndarray:
    """Which maps are of a random half of the simulations, (n,)."""
    simulations, member = np.unique(index, return_inverse=True)
    order = seeds.generator(seed, "detection halves").permutation(len(simulations))
    return order[member] < len(simulations) // 2


def _means(vectors: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Mean over the maps of each simulation, (s, d)."""
    _, member, count = np.unique(index, return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), vectors.shape[1]))
    np.add.at(sums, member, vectors)
    return sums / count[:, None]
