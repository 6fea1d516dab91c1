"""Winners of the search, confirmed on other maps and on other posteriors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from spurious import figures, seeds
from spurious.config import Config
from spurious.damage import (
    OF_TRAINING,
    Damage,
    PosteriorChange,
    SpectrumChange,
    measure,
    pooled_row,
    posterior_change,
)
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet
from spurious.figures import map_posteriors
from spurious.perturbations.base import Perturbation, possible
from spurious.perturbations.systematics import Logistic
from spurious.pipeline.experiment import Experiment
from spurious.pipeline.inputs import batch, split_of, test_set
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import Outputs
from spurious.search.fences import FENCES, measure_heights
from spurious.search.goals import MeanKL, build_goal

DETECTABILITY = ("pdf", "scattering")  # fences in units of the scatter of many maps
LEAST_MAPS = 32  # of fewer, that scatter is not known


class Witnesses(Experiment):
    """All posteriors, and both halves of the test maps, to confirm what a search found.

    Attributes:
        searched: the test maps that the search sees.
        confirming: the others.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.searched, self.confirming = halves(config, self.test)
        self._own: dict[str, MapSet] = {}

    def maps_for(self, name: str) -> MapSet:
        """Maps that neither the search nor that posterior has seen.

        For those of the target's split, the maps that confirm; for others their own test maps, less
        those of the simulations that the search saw.
        """
        if name in self.bystanders or name == self.config.run.target:
            return self.confirming
        if name not in self._own:
            self._own[name] = unseen(test_set(self.config, name), self.searched)
        return self._own[name]


class Tried:
    """One systematic on all test maps; evaluates each posterior only once.

    Attributes:
        perturbation: the systematic.
        perturbed: the test maps as changed by it.
    """

    def __init__(self, witnesses: Witnesses, perturbation: Perturbation) -> None:
        self.perturbation = perturbation
        self._witnesses = witnesses
        self._changes: dict[str, PosteriorChange] = {}
        test = witnesses.test
        self.perturbed = replace(test, maps=np.asarray(perturbation(test.maps)))

    @cached_property
    def damages(self) -> list[Damage]:
        """The damage to each training of the target, on all test maps."""
        test = self._witnesses.test
        return [
            measure(test.maps, self.perturbed.maps, target, test.box_size, batch(test))
            for target in self._witnesses.targets
        ]

    def change(self, name: str) -> PosteriorChange:
        """The change of another posterior of the target's split, on all test maps."""
        if name not in self._changes:
            posterior = self._witnesses.posterior(name)
            pair = self._witnesses.test.maps, self.perturbed.maps
            self._changes[name] = posterior_change(*pair, posterior, batch(self._witnesses.test))
        return self._changes[name]

    def rows(self, half: MapSet) -> np.ndarray:
        """Rows of one half among all test maps."""
        return np.flatnonzero(np.isin(self._witnesses.test.index, half.index))


def halves(config: Config, test: MapSet) -> tuple[MapSet, MapSet]:
    """The maps of the search, from randomly drawn test simulations, and all other test maps."""
    simulations = np.unique(test.index)
    order = seeds.generator(config.seed, "search maps").permutation(simulations)
    searched = np.isin(test.index, order[: config.search.maps])
    return test.take(np.flatnonzero(searched)), test.take(np.flatnonzero(~searched))


def unseen(test: MapSet, searched: MapSet) -> MapSet:
    """The maps of simulations that the search did not see."""
    return test.take(np.flatnonzero(~np.isin(test.index, searched.index)))


def damaged(
    changes: Sequence[PosteriorChange], data: MapSet, seed: int, rows: np.ndarray | None = None
) -> dict[str, Any]:
    """A row of damage: means over trainings and maps with intervals that resample both.

    Args:
        changes: to each training, on the same maps.
        data: these maps.
        seed: draws the resamples.
        rows: of the maps that count; by default all.
    """
    if rows is not None:
        changes, data = [_of_maps(change, rows) for change in changes], data.take(rows)
    return pooled_row(changes, seed, [data.index] * len(changes))


def _of_maps(change: PosteriorChange, rows: np.ndarray) -> PosteriorChange:
    names = ["kl_perturbed_clean", "kl_clean_perturbed", "shift"]
    taken: dict[str, Any] = {}
    if isinstance(change, Damage):
        names += ["rms_counts", "mean_change"]
        for name in ("raw", "contrast"):
            both = getattr(change, name)
            taken[name] = SpectrumChange(both.clean[rows], both.perturbed[rows])
    taken |= {name: getattr(change, name)[rows] for name in names}
    return replace(change, **taken)


def confirmed(witnesses: Witnesses, tried: Tried) -> dict[str, dict[str, Any]]:
    """KL with its interval, fences and goal for both halves, "searched" and "confirmed".

    The KL on the search's maps was maximised, so it is too large; believe the other one. Heights of
    fences are those of the half itself, without a margin.
    """
    found = {}
    for half, data in (("searched", witnesses.searched), ("confirmed", witnesses.confirming)):
        rows = tried.rows(data)
        row = damaged(tried.damages, witnesses.test, witnesses.config.seed, rows)
        kls = [float(one.kl_perturbed_clean[rows].mean()) for one in tried.damages]
        found[half] = {
            "n_maps": len(data),
            "kl": row["kl_perturbed_clean"],
            "kls": kls,
            "kl_symmetrised": row["kl_symmetrised"],
            "power": row["mean_power_change_contrast"],
            "goal": _goal(witnesses, data.maps, tried.perturbed.maps[rows], kls),
            "fences": all_heights(data, tried.perturbed.maps[rows]),
        }
    return found


def all_heights(data: MapSet, perturbed: np.ndarray) -> dict[str, float]:
    """Every fence's height on these maps, by name, without a margin.

    With few maps, fences in units of the maps' scatter are left out.
    """
    enough = len(data) >= LEAST_MAPS
    measured = [name for name in FENCES if enough or name not in DETECTABILITY]
    return measure_heights(data, perturbed, measured)


def transfer(witnesses: Witnesses, tried: Tried) -> dict[str, dict[str, Any]]:
    """Damage on unseen maps to posteriors that the search did not see, by name."""
    config, rows = witnesses.config, {}
    for name in config.run.present:
        if name == config.run.target:
            continue
        if name in witnesses.bystanders:
            places = tried.rows(witnesses.confirming)
            row = damaged([tried.change(name)], witnesses.test, config.seed, places)
        else:
            data = witnesses.maps_for(name)
            perturbed = np.asarray(tried.perturbation(data.maps))
            change = posterior_change(data.maps, perturbed, witnesses.posterior(name), batch(data))
            row = damaged([change], data, config.seed)
        rows[name] = row | {"split": split_of(config, name)}
    return rows


def attack_row(
    witnesses: Witnesses, tried: Tried, parameters: Mapping[str, float]
) -> dict[str, Any]:
    """The row of damage on all test maps, like that of an attack; the search saw some of them."""
    config, test = witnesses.config, witnesses.test
    row = damaged(tried.damages, test, config.seed)
    alone = [damaged([one], test, config.seed) for one in tried.damages]
    row["trainings"] = [
        {key: one[key] for key in OF_TRAINING} | {"parameters": dict(parameters)} for one in alone
    ]
    row["others"] = {
        name: damaged([tried.change(name)], test, config.seed) for name in witnesses.bystanders
    }
    return row | {
        "parameters": dict(parameters),
        "target": config.run.target,
        "group": "search",
        "n_searched": len(witnesses.searched),
    }


def write_winners(out: Outputs, witnesses: Witnesses, winners: Mapping[str, Tried]) -> None:
    """Write the test maps as changed by the winner of each family, for the detectors."""
    layout = Layout(witnesses.config.scale)
    for family, tried in winners.items():
        write_maps(out.new(layout.attacked("search", family)), tried.perturbed)


def papers(witnesses: Witnesses) -> tuple[dict[str, Any], dict[str, float]]:
    """The paper's systematic on the maps of the search: its row of damage and all heights."""
    tried = Tried(witnesses, Logistic(**Logistic.KNOWN[0]))
    rows = tried.rows(witnesses.searched)
    row = damaged(tried.damages, witnesses.test, witnesses.config.seed, rows)
    return row, all_heights(witnesses.searched, tried.perturbed.maps[rows])


def pure_gain(witnesses: Witnesses) -> dict[str, Any] | None:
    """Damage that the fence on the mean admits by itself: the worse of two gains, on unseen maps.

    Returns:
        "gain", "fence" and "kl" with its interval; None where no fence limits the mean.
    """
    limits, data = witnesses.config.search.fences.limits, witnesses.confirming
    admitted = {name: limits[name] for name in ("mean_shift", "mean_density") if name in limits}
    if not admitted:
        return None
    fence = min(admitted, key=admitted.__getitem__)
    found = []
    for gain in (admitted[fence], -admitted[fence]):
        louder = np.asarray(possible(tf.constant(data.maps) * (1 + gain)))
        changes = [
            posterior_change(data.maps, louder, one, batch(data)) for one in witnesses.targets
        ]
        row = damaged(changes, data, witnesses.config.seed)
        found.append({"gain": gain, "fence": fence, "kl": row["kl_perturbed_clean"]})
    return max(found, key=lambda one: one["kl"]["mean"])


def pictures(witnesses: Witnesses, name: str, tried: Tried) -> dict[str, Figure]:
    """Of one systematic: the map of the search that it hurts most, and the mean spectra."""
    rows = tried.rows(witnesses.searched)
    hurt = np.mean([one.kl_perturbed_clean[rows] for one in tried.damages], axis=0)
    worst = rows[[int(np.argmax(hurt))]]
    row = damaged(tried.damages[:1], witnesses.test, witnesses.config.seed, rows)["spectrum"]
    changes = {name: {kind: row[kind]["mean_change"] for kind in ("raw", "contrast")}}
    variance = np.asarray(row["cosmic_variance"])
    pair = witnesses.test.take(worst), tried.perturbed.take(worst)
    return {
        "maps": map_posteriors.workflow(0, pair[0], {name: pair[1]}, witnesses.target),
        "spectra": figures.spectrum_changes(changes, np.asarray(row["k"]), variance),
    }


def _goal(
    witnesses: Witnesses, clean: np.ndarray, perturbed: np.ndarray, kls: Sequence[float]
) -> float:
    """The reported goal, averaged over trainings."""
    goal = build_goal(witnesses.config.search.goal, witnesses.target.names)
    if goal == MeanKL():
        return float(np.mean(kls))
    values = [float(goal.reported(one(perturbed), one(clean))) for one in witnesses.targets]
    return float(np.mean(values))
