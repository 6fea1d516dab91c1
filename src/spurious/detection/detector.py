"""Who would notice? Perturbed test maps against clean ones of the same cosmologies.

A survey knows its cosmology no better than its statistics tell it; here it is known exactly, so
the numbers are what a survey could do at best, with one map (AUROC) or with many (p-values). The
learned detectors see no cosmology.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from spurious import seeds
from spurious.bootstrap import LEVEL, bootstrap_weights, equal_weights, interval
from spurious.config.detection import Detection
from spurious.data.maps import MapSet
from spurious.detection import network, two_sample
from spurious.detection.residuals import Residuals
from spurious.detection.statistics import standard
from spurious.errors import UserError

MMD = "mmd"
NETWORKS = {"network": "counts", "network_contrast": "contrast"}  # name: what it sees
FEWEST = 4  # simulations

Resampled = Callable[[np.ndarray], np.ndarray]


def detect(
    clean_train: MapSet,
    clean_test: MapSet,
    perturbed: np.ndarray,
    seed: int,
    settings: Detection | None = None,
) -> dict[str, Any]:
    """How well each detector tells perturbed from clean maps; see `Detector.row`."""
    return Detector(clean_train, clean_test, seed, settings).row(perturbed)


class Detector:
    """What all perturbations of the same test maps share.

    Args:
        train: clean maps that teach what is to be expected, at each cosmology or at all.
        test: clean maps, of other simulations.
        seed: root of the folds, of the bootstrap and of the permutations.
        settings: of the cross-fit; by default those of params.yaml's schema.

    Raises:
        UserError: there are too few maps or cosmologies to train on, or fewer than four
            simulations to test.
    """

    def __init__(
        self, train: MapSet, test: MapSet, seed: int, settings: Detection | None = None
    ) -> None:
        self.settings, self.seed = settings or Detection(), seed
        _check(test)
        self.statistics = standard(train.maps, train.box_size)
        self.residuals = {
            name: _fitted(name, statistic(train.maps), train.labels)
            for name, statistic in self.statistics.items()
        }
        self.units = {
            name: network.Whitening.fit(network.features(train.maps, sees == "contrast"))
            for name, sees in NETWORKS.items()
        }
        self._judge(test)

    def judging(self, test: MapSet) -> Detector:
        """The same, taught by the same clean maps, of other test maps.

        Raises:
            UserError: they are of fewer than four simulations.
        """
        _check(test)
        other = copy.copy(self)
        other._judge(test)
        return other

    def _judge(self, test: MapSet) -> None:
        self.test = test
        self.clean = self._whitened(test.maps)
        self.seen = {name: self._seen(name, test.maps) for name in NETWORKS}
        count = min(self.settings.folds, len(test.simulations) // 2)
        self.fold = folds(test.index, count, self.seed)
        self.weights = bootstrap_weights(len(test), self.seed, test.index)

    def row(self, perturbed: np.ndarray) -> dict[str, Any]:
        """Compare the test maps with what a perturbation made of them.

        Args:
            perturbed: (n, N, N) in counts, one for each test map.

        Returns:
            Ready for JSON. For each statistic `auroc_known` and `auroc_anomaly`, each with `mean`,
            `low` and `high`; `auroc`, the larger of both, with its `kind`, "known" or "anomaly";
            `p_mean`, `p_variance`, and `p_value`, the smaller of both, doubled. Under "mmd"
            `value` and `p_value`. Under the names of `NETWORKS`: `auroc` of `kind` "learned",
            `p_value`, `sees`, `folds` and `seconds`, the only number that differs from one run
            to the next. `n_maps` and `n_simulations` are
            how many there are. See docs/detection.md.

        Raises:
            ValueError: the shape is not that of the test maps, or a value is not finite.
        """
        if perturbed.shape != self.test.maps.shape:
            raise ValueError(f"{perturbed.shape} perturbed maps for {self.test.maps.shape} clean")
        if not np.isfinite(perturbed).all():
            raise ValueError("perturbed maps are not finite")
        changed = self._whitened(perturbed)
        row: dict[str, Any] = {
            name: self._statistic(self.clean[name], changed[name]) for name in self.statistics
        }
        joined = (np.concatenate(list(r.values()), axis=1) for r in (self.clean, changed))
        value, p_value = two_sample.mmd_test(*self._simulations(*joined), self.seed)
        row[MMD] = {"value": value, "p_value": p_value}
        row |= {name: self._network(name, perturbed) for name in NETWORKS}
        return {**row, "n_maps": len(perturbed), "n_simulations": len(self.test.simulations)}

    def _whitened(self, maps: np.ndarray) -> dict[str, np.ndarray]:
        labels = self.test.labels
        return {
            name: self.residuals[name](statistic(maps), labels)
            for name, statistic in self.statistics.items()
        }

    def _seen(self, name: str, maps: np.ndarray) -> np.ndarray:
        """Whitened features (n, c) of what the network of this name sees."""
        return self.units[name](network.features(maps, NETWORKS[name] == "contrast"))

    def _statistic(self, clean: np.ndarray, changed: np.ndarray) -> dict[str, Any]:
        known, odd = self._known(clean, changed), self._anomaly(clean, changed)
        before, after, fold = self._simulations(clean, changed)
        p_mean = two_sample.mean_test(before, after, fold, self.seed)
        sizes = self._simulations(_chi2(clean)[:, None], _chi2(changed)[:, None])
        p_variance = two_sample.rank_test(sizes[0][:, 0], sizes[1][:, 0], fold, self.seed)
        return {
            "auroc": larger({"known": known, "anomaly": odd}, self.weights),
            "auroc_known": interval(known, self.weights),
            "auroc_anomaly": interval(odd, self.weights),
            "p_mean": p_mean,
            "p_variance": p_variance,
            "p_value": min(1.0, 2 * min(p_mean, p_variance)),
        }

    def _network(self, name: str, perturbed: np.ndarray) -> dict[str, Any]:
        start = time.perf_counter()
        learned = self._known(self.seen[name], self._seen(name, perturbed))
        auroc = interval(learned, self.weights)
        return {
            "auroc": {**auroc, "kind": "learned"},
            "p_value": two_sample.auroc_test(auroc["mean"], len(self.test.simulations)),
            "sees": NETWORKS[name],
            "folds": int(self.fold.max()) + 1,
            "seconds": time.perf_counter() - start,
        }

    def _anomaly(self, clean: np.ndarray, changed: np.ndarray) -> Resampled:
        """AUROC of chi^2, in the direction, larger or smaller, in which the sample differs."""
        first, second = _chi2(clean), _chi2(changed)
        if two_sample.auroc(first, second, np.ones((1, len(first))))[0] < 0.5:
            first, second = -first, -second
        return lambda w: two_sample.auroc(first, second, w)

    def _known(self, clean: np.ndarray, changed: np.ndarray) -> Resampled:
        """AUROC of discriminants, each of which judges one fold and has learnt on all others."""
        parts = []
        for one in range(int(self.fold.max()) + 1):
            learn, held = learns(self.fold, one), self.fold == one
            direction = two_sample.discriminant(clean[learn], changed[learn])
            parts.append((held, clean[held] @ direction, changed[held] @ direction))
        return lambda w: np.mean(
            [two_sample.auroc(c, p, _filled(w[:, h])) for h, c, p in parts], axis=0
        )

    def _simulations(
        self, clean: np.ndarray, changed: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A mean vector a simulation, clean and perturbed, and its fold."""
        _, first = np.unique(self.test.index, return_index=True)
        index = self.test.index
        return _means(clean, index), _means(changed, index), self.fold[first]


def _check(test: MapSet) -> None:
    if (found := len(test.simulations)) < FEWEST:
        raise UserError(f"the test has {found} simulations: at least {FEWEST} are needed")


def folds(index: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Which of so many parts, as equal as can be, each map's simulation is in, (n,)."""
    simulations, member = np.unique(index, return_inverse=True)
    order = seeds.generator(seed, "detection folds").permutation(len(simulations))
    return order[member] % count


def learns(fold: np.ndarray, one: int) -> np.ndarray:
    """The maps from which a detector learns that judges fold `one`: those of all others."""
    return fold != one


def larger(found: dict[str, Resampled], weights: np.ndarray) -> dict[str, Any]:
    """The largest of several AUROCs, its interval, and which of them it is.

    The interval is that of the chosen one with the error shared out (Bonferroni): with probability
    `LEVEL` the intervals of all hold at once, so that of whichever is the largest does.
    """
    means = {name: float(f(equal_weights(weights))[0]) for name, f in found.items()}
    best = max(means, key=lambda name: means[name])
    tail = (1 - LEVEL) / 2 / len(found)
    low, high = np.quantile(found[best](weights), [tail, 1 - tail])
    return {"mean": means[best], "low": float(low), "high": float(high), "kind": best}


def _fitted(name: str, summaries: np.ndarray, labels: np.ndarray) -> Residuals:
    try:
        return Residuals.fit(summaries, labels)
    except UserError as error:
        raise UserError(f"detection by {name}, from the training maps: {error}") from error


def _chi2(residuals: np.ndarray) -> np.ndarray:
    return (residuals**2).sum(axis=1)


def _filled(weights: np.ndarray) -> np.ndarray:
    """Equal weights in resamples that hold none of these maps, which happens to very few."""
    return np.where(weights.sum(axis=1, keepdims=True) == 0, 1.0, weights)


def _means(vectors: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Mean over the maps of each simulation, (s, d)."""
    _, member, count = np.unique(index, return_inverse=True, return_counts=True)
    sums = np.zeros((len(count), vectors.shape[1]))
    np.add.at(sums, member, vectors)
    return sums / count[:, None]
