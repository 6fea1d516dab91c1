"""What the search found, looked at again: on other maps, and by other posteriors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from spurious import figures, seeds
from spurious.config import Config
from spurious.damage import Damage, measure, posterior_change
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet
from spurious.perturbations.base import Perturbation
from spurious.perturbations.systematics import Logistic
from spurious.search.families import PAPER
from spurious.search.fences import FENCES, FenceValue, Observed
from spurious.search.goals import build_goal
from spurious.stages import examples
from spurious.stages.inputs import BATCH, Posteriors, bystanders, split_of, test_set


class Witnesses:
    """The two halves of the test maps, and all posteriors, each loaded when it is first needed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.test = test_set(config)
        self.searched, self.confirming = halves(config, self.test)
        self.posterior = Posteriors(config)
        self._own: dict[str, MapSet] = {}

    @cached_property
    def target(self) -> Posterior:
        """What is fooled."""
        return self.posterior(self.config.run.target)

    def maps_for(self, name: str) -> MapSet:
        """Maps that neither the search nor that posterior has seen.

        For those of the target's split, the maps that confirm; for others their own test maps, less
        those of the simulations that the search saw.
        """
        if name in bystanders(self.config) or name == self.config.run.target:
            return self.confirming
        if name not in self._own:
            self._own[name] = unseen(test_set(self.config, name), self.searched)
        return self._own[name]


def halves(config: Config, test: MapSet) -> tuple[MapSet, MapSet]:
    """The maps of the search, of test simulations drawn at random, and those of all others."""
    simulations = np.unique(test.index)
    order = seeds.generator(config.seed, "search maps").permutation(simulations)
    searched = np.isin(test.index, order[: config.search.maps])
    return test.take(np.flatnonzero(searched)), test.take(np.flatnonzero(~searched))


def unseen(test: MapSet, searched: MapSet) -> MapSet:
    """The maps of simulations that are not among those of the search."""
    return test.take(np.flatnonzero(~np.isin(test.index, searched.index)))


def damaged(witnesses: Witnesses, perturbation: Perturbation, data: MapSet) -> Damage:
    """What a perturbation does to the target on some maps."""
    perturbed = np.asarray(perturbation(data.maps))
    return measure(data.maps, perturbed, witnesses.target, data.box_size, BATCH)


def confirmed(witnesses: Witnesses, perturbation: Perturbation) -> dict[str, dict[str, Any]]:
    """Of both halves, "searched" and "confirmed": the KL with its interval, fences and goal.

    The KL on the search's maps is the one that was maximised, so it is too large; the other is what
    to believe.
    """
    told = {}
    both = {"searched": witnesses.searched, "confirmed": witnesses.confirming}
    for half, data in both.items():
        row = damaged(witnesses, perturbation, data).row(witnesses.config.seed, data.index)
        told[half] = {
            "n_maps": len(data),
            "kl": row["kl_perturbed_clean"],
            "kl_symmetrised": row["kl_symmetrised"],
            "power": row["mean_power_change_contrast"],
            "goal": _goal(witnesses, perturbation, data),
            "fences": heights(data, np.asarray(perturbation(data.maps))),
        }
    return told


def heights(data: MapSet, perturbed: np.ndarray) -> dict[str, float]:
    """Every fence's height, by name."""
    before = Observed(tf.constant(data.maps), data.box_size)
    after = Observed(tf.constant(perturbed), data.box_size)
    return {
        name: FenceValue.of(fence.values(after, before).numpy().astype(float), None).height
        for name, fence in FENCES.items()
    }


def transfer(witnesses: Witnesses, perturbation: Perturbation) -> dict[str, dict[str, Any]]:
    """Damage to posteriors that the search did not see, on maps that it did not see, by name."""
    config, rows = witnesses.config, {}
    for name in [*config.run.posteriors, *config.run.ensembles]:
        if name == config.run.target:
            continue
        data = witnesses.maps_for(name)
        perturbed = np.asarray(perturbation(data.maps))
        change = posterior_change(data.maps, perturbed, witnesses.posterior(name), BATCH)
        rows[name] = change.row(config.seed, data.index) | {"split": split_of(config, name)}
    return rows


def papers(witnesses: Witnesses) -> tuple[dict[str, Any], dict[str, float]]:
    """The paper's systematic on the maps of the search: its row of damage and all heights."""
    data, systematic = witnesses.searched, Logistic(**PAPER)
    row = damaged(witnesses, systematic, data).row(witnesses.config.seed, data.index)
    return row, heights(data, np.asarray(systematic(data.maps)))


def pictures(witnesses: Witnesses, name: str, perturbation: Perturbation) -> dict[str, Figure]:
    """Of one systematic: the map that it hurts most, and the mean spectra of all maps."""
    data = witnesses.searched
    damage = damaged(witnesses, perturbation, data)
    perturbed = np.asarray(perturbation(data.maps))
    worst = int(np.argmax(damage.kl_perturbed_clean))
    pair = data.take(np.array([worst]))
    changed = replace(pair, maps=perturbed[worst : worst + 1])
    row = damage.row(witnesses.config.seed, data.index)["spectrum"]
    changes = {name: {kind: row[kind]["mean_change"] for kind in ("raw", "contrast")}}
    variance = np.asarray(row["cosmic_variance"])
    return {
        "maps": examples.workflow(0, pair, {name: changed}, witnesses.target),
        "spectra": figures.spectrum_changes(changes, np.asarray(row["k"]), variance),
    }


def _goal(witnesses: Witnesses, perturbation: Perturbation, data: MapSet) -> float:
    goal = build_goal(witnesses.config.search.goal, witnesses.target.names)
    perturbed = witnesses.target(np.asarray(perturbation(data.maps)))
    return float(goal.reported(perturbed, witnesses.target(data.maps)))


def ceilings(
    config: Config, rows: Mapping[str, Mapping[str, Any]], fence: str
) -> dict[str, list[tuple[float, float]]]:
    """(height, KL) of the white-box attacks, which no systematic is expected to pass.

    "BIM" has every entry of kind bim that attacks the target plainly; "phase only" those that keep
    the amplitudes of every mode.

    Args:
        config: has the entries.
        rows: damage of each attack.
        fence: "power" or "cosmic".
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for name, row in rows.items():
        label = _ceiling(config.entries[name])
        if label is None:
            continue
        spectrum = row["spectrum"]["contrast"]
        key = "mean_change" if fence == "power" else "mean_change_cosmic"
        height = float(np.max(np.abs(spectrum[key])))
        found.setdefault(label, []).append((height, row["kl_perturbed_clean"]["mean"]))
    return {label: sorted(points) for label, points in found.items()}


def _ceiling(entry: Any) -> str | None:
    constraints = [one.kind for one in getattr(entry, "constraints", ())]
    if "phase_only" in constraints:
        return "phase only"
    plain = getattr(entry, "on", None) is None and getattr(entry, "objective", "nll") == "nll"
    return "BIM" if getattr(entry, "kind", "") == "bim" and not constraints and plain else None
