"""From an entry of `attacks` in params.yaml to a perturbation, in one step.

Budgets become counts, other entries within it are built first, and the fields that no entry has are
filled in with what the maps and the run say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from spurious.config import Background, Simulation
from spurious.data.maps import MapSet
from spurious.description.fields import described, filled
from spurious.description.quantities import Density, Quantity
from spurious.description.section import Entry
from spurious.errors import UserError
from spurious.lazy import tf
from spurious.perturbations.base import Perturbation
from spurious.perturbations.effect import Effect
from spurious.perturbations.entry import Matching, PerturbationEntry
from spurious.perturbations.initial_conditions import InitialConditions
from spurious.perturbations.matching import matched
from spurious.posteriors.posterior import Posterior

Others = Callable[[str], Posterior]


@dataclass(frozen=True)
class Recalled:
    """A perturbation that is not made again for maps that it has perturbed before.

    Args:
        of: the perturbation.
        key: what it is, and of what it is made beside the maps.
        memory: where its results are kept.
    """

    of: Perturbation
    key: str
    memory: dict[bytes, np.ndarray]

    def __call__(self, maps: Any, truth: Any = None) -> tf.Tensor:
        """See `Perturbation`."""
        maps = np.asarray(maps)
        key = hashlib.sha256(self.key.encode() + maps.tobytes()).digest()
        if key not in self.memory:
            self.memory[key] = np.asarray(self.of(maps, truth))
        return tf.constant(self.memory[key])


@dataclass(frozen=True)
class Context:
    """What an entry is built for.

    Attributes:
        posterior: the target. Its standardiser is the unit `std` of every budget, also of an
            attack made on another posterior: so the same entry allows the same change in counts
            whatever it is made on, and damage can be compared.
        test: the maps to perturb; `box_size` nan if unknown. None for an attack on simulations.
        seed: root of every draw.
        training: other maps, which kind `universal` needs.
        others: name -> another posterior, for entries with `on`.
        memory: maps that entries within entries made, for builds that share it; none: forget.
        simulation: what made the maps, and `background`, for attacks on simulations.
    """

    posterior: Posterior
    test: MapSet | None
    seed: int
    training: MapSet | None = None
    others: Others | None = None
    memory: dict[bytes, np.ndarray] | None = None
    simulation: Simulation | None = None
    background: Background | None = None

    def on(self, name: str | None) -> Context:
        """The same with the posterior of this name in place of the target, units aside.

        Raises:
            UserError: there are no others, or it is about other parameters than the target.
        """
        return self if name is None else replace(self, posterior=self._other(name))

    def _other(self, name: str) -> Posterior:
        if self.others is None:
            raise UserError(
                f"on = {name}: there are no other posteriors here to make the attack on"
            )
        found = self.others(name)
        if tuple(found.names) != tuple(self.posterior.names):
            raise UserError(
                f"on = {name}: is about {', '.join(found.names)}, the target about "
                f"{', '.join(self.posterior.names)}"
            )
        return found

    def filling(self, name: str, kind: str) -> Any:
        """What a field is filled in with.

        Raises:
            UserError: it is unknown here.
        """
        if name == "box_size":
            return self._box_size(kind)
        if name in ("training_maps", "training_truth"):
            training = self._trained(kind)
            return training.maps if name == "training_maps" else training.labels
        if name in ("simulation", "background"):
            return self._simulated(name, kind)
        names = tuple(self.posterior.names)
        known = {"posterior": self.posterior, "seed": self.seed, "names": names}
        if name not in known:
            raise UserError(f"kind {kind}: nothing fills in its field {name}")
        return known[name]

    def _box_size(self, kind: str) -> float:
        """Side of a map, Mpc/h."""
        if self.test is None or np.isnan(self.test.box_size):
            raise UserError(f"kind {kind}: needs box_size, the side of a map in Mpc/h")
        return self.test.box_size

    def _trained(self, kind: str) -> MapSet:
        if self.training is None or len(self.training) == 0:
            raise UserError(f"kind {kind}: there are no training maps to find its pattern on")
        return self.training

    def _simulated(self, name: str, kind: str) -> Simulation | Background:
        if self.simulation is None or self.background is None:
            raise UserError(f"kind {kind} acts on simulations, not on any maps")
        if self.simulation.engine != "xla":
            raise UserError(
                f"simulation.engine = {self.simulation.engine}: must be xla for kind {kind}, "
                "which needs gradients"
            )
        return self.simulation if name == "simulation" else self.background


def build(
    settings: Entry,
    posterior: Posterior,
    test: MapSet,
    seed: int,
    training: MapSet | None = None,
    others: Others | None = None,
    memory: dict[bytes, np.ndarray] | None = None,
) -> Perturbation:
    """The perturbation that an entry of params.yaml describes, its budgets turned into counts.

    Args:
        settings: the entry, not one that acts on simulations.
        posterior: the target, which white-box entries without `on` attack; its standardiser has
            the unit `std` of all budgets.
        test: the maps to perturb, for their box and for matched amplitudes.
        seed: root of its random draws.
        training: other maps, which kind `universal` needs.
        others: name -> another posterior, which entries with `on` need.
        memory: a dictionary that builds for the same posteriors and seed may share, so that what
            several entries build on is made once.

    Raises:
        UserError: something of this is missing, does not fit together, or no amplitude matches.
    """
    return _build(settings, Context(posterior, test, seed, training, others, memory))


def build_initial_conditions(
    settings: Entry,
    posterior: Posterior,
    simulation: Simulation,
    background: Background,
    seed: int,
    others: Others | None = None,
) -> InitialConditions:
    """The attack on simulations of an entry of params.yaml.

    Raises:
        UserError: the simulations are not of the engine that has gradients, the objective needs
            a parameter that the posterior does not have, or `on` names nothing.
    """
    context = Context(
        posterior, None, seed, others=others, simulation=simulation, background=background
    )
    return cast(InitialConditions, _build(settings, context))


def apply(perturbation: Perturbation, data: MapSet) -> MapSet:
    """The data set with its maps perturbed."""
    return replace(data, maps=perturbation(data.maps, data.labels).numpy())


def parameters(perturbation: Any) -> dict[str, float]:
    """The numbers that describe a perturbation after budgets and matching, in counts."""
    return {
        name: value
        for name, value in vars(perturbation).items()
        if isinstance(value, int | float) and name not in ("seed", "batch_size")
    }


def extras(perturbation: Any) -> dict[str, np.ndarray]:
    """What a perturbation found besides the maps, after it was called; see `HasExtras`."""
    return perturbation.extras() if hasattr(perturbation, "extras") else {}


def _build(settings: Entry, context: Context) -> Any:
    here = context.on(getattr(settings, "on", None))
    given = {name: here.filling(name, settings.kind) for name in filled(settings.CLASS)}
    _check_upper(getattr(settings, "upper", None), context.test)
    for field in described(settings.CLASS):
        value = getattr(settings, field.name)
        if value is None and field.quantity is not None:
            value = field.default  # left out: the class has its own
        given[field.name] = _value(value, here, context)
    try:
        matching = any(isinstance(value, Matching) for value in given.values())
        return _matched(settings, given, context) if matching else settings.CLASS(**given)
    except ValueError as error:  # what only the class knows to be impossible
        prefix = f"kind {settings.kind}: " if isinstance(settings, PerturbationEntry) else ""
        raise UserError(f"{prefix}{error}") from error


def _value(given: Any, here: Context, context: Context) -> Any:
    """A field of an entry as its class wants it.

    Args:
        given: as params.yaml has it.
        here: with the posterior that the entry's `on` names; objectives are in its parameters.
        context: with the target, whose unit budgets have and which other entries are made on.
    """
    if isinstance(given, tuple):
        return tuple(_value(one, here, context) for one in given)
    if isinstance(given, Quantity):
        return given.number(context.posterior.standardiser.std)
    if isinstance(given, PerturbationEntry):
        return _recalled(given, context)
    return _build(given, here) if isinstance(given, Entry) else given


def _check_upper(upper: Any, test: MapSet | None) -> None:
    """Refuse a largest density that the test maps exceed, before work starts."""
    if isinstance(upper, Density) and test is not None:
        largest = float(test.maps.max())
        if upper.value < largest:
            raise UserError(
                f"upper = {upper.value} count: must be at least {largest:g}, the largest density "
                "of the test maps"
            )


def _recalled(settings: Entry, context: Context) -> Perturbation:
    """A perturbation that another entry builds on, made once for all that do."""
    made: Perturbation = _build(settings, context)
    if context.memory is None:
        return made
    return Recalled(made, settings.model_dump_json(), context.memory)


def _matched(settings: Entry, given: dict[str, Any], context: Context) -> Effect:
    """An effect whose amplitude changes the test maps as much as another entry does."""
    make, test = cast(type[Effect], settings.CLASS), cast(MapSet, context.test)
    matching = given[make.AMPLITUDE]
    perturbed = np.asarray(_recalled(matching.match, context)(test.maps, test.labels))
    mean_square = float(np.mean((perturbed.astype(np.float64) - test.maps) ** 2))
    # The sign is all that `matched` takes over; 0.01 is possible for every amplitude.
    try:
        start = make(**given | {make.AMPLITUDE: 0.01 * matching.sign})
        return matched(start, test.maps, mean_square)
    except ValueError as error:
        raise UserError(f"{settings.kind}.{make.AMPLITUDE}.match: {error}") from error
