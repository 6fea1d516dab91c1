"""What an entry is built for: maps, what is attacked, and the units of its budgets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from spurious.config import Density, InverseDensity, Length
from spurious.config import attacks as cfg
from spurious.config.quantities import Budget, Section
from spurious.description.quantities import Angle, Densities
from spurious.errors import UserError
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet
from spurious.perturbations import objectives, spectral
from spurious.perturbations.base import Perturbation
from spurious.perturbations.constraints import Constraint
from spurious.perturbations.objectives import Objective

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
        test: the maps to perturb; `box_size` nan if unknown.
        seed: root of every draw.
        training: other maps, which kind `universal` needs.
        others: name -> another posterior, for entries with `on`.
        memory: maps that entries within entries made, for builds that share it; none: forget.
    """

    posterior: Posterior
    test: MapSet
    seed: int
    training: MapSet | None = None
    others: Others | None = None
    memory: dict[bytes, np.ndarray] | None = None

    def recalled(self, settings: Section, made: Perturbation) -> Perturbation:
        """A perturbation that another entry builds on, made once for all that do."""
        if self.memory is None:
            return made
        return Recalled(made, settings.model_dump_json(), self.memory)

    def box_size(self, kind: str) -> float:
        """Side of a map, Mpc/h.

        Raises:
            UserError: it is unknown.
        """
        if np.isnan(self.test.box_size):
            raise UserError(f"kind {kind}: needs box_size, the side of a map in Mpc/h")
        return self.test.box_size

    def trained(self, kind: str) -> MapSet:
        """The other maps.

        Raises:
            UserError: there are none.
        """
        if self.training is None or len(self.training) == 0:
            raise UserError(f"kind {kind}: there are no training maps to find its pattern on")
        return self.training

    def attacked(self, name: str | None) -> Posterior:
        """The posterior of this name; without one, the target."""
        return self.posterior if name is None else other(name, self.posterior, self.others)

    def value(self, given: Any, posterior: Posterior) -> Any:
        """A field of an entry as the classes want it: in counts, Mpc/h or degrees.

        Args:
            given: a number, a quantity, an objective or constraints.
            posterior: on which an attack is made; objectives are in its parameters.

        Raises:
            UserError: the posterior lacks a parameter, or the box is unknown.
        """
        if isinstance(given, Budget):
            return given.counts(self.posterior.standardiser.std)
        if isinstance(given, Densities):
            return given.values
        if isinstance(given, Density | InverseDensity | Length | Angle):
            return given.value
        if isinstance(given, cfg.Toward | cfg.ShiftS8):
            return objective(given, posterior)
        if isinstance(given, cfg.PhaseOnly | cfg.BinPreserving | cfg.Bounded | cfg.BandLimited):
            return self._constraint(given)
        if isinstance(given, tuple):
            return tuple(self.value(one, posterior) for one in given)
        return given

    def checked_upper(self, upper: Density) -> float:
        """The largest density allowed, counts.

        Raises:
            UserError: the test maps exceed it.
        """
        largest = float(self.test.maps.max())
        if upper.value < largest:
            raise UserError(
                f"upper = {upper.value} count: must be at least {largest:g}, the largest density "
                "of the test maps"
            )
        return upper.value

    def _constraint(self, settings: cfg.Constraint) -> Constraint:
        if isinstance(settings, cfg.PhaseOnly):
            return spectral.PhaseOnly()
        if isinstance(settings, cfg.BinPreserving):
            return spectral.BinPreserving()
        if isinstance(settings, cfg.Bounded):
            return spectral.Bounded(settings.fraction)
        return spectral.BandLimited(settings.k.low, settings.k.high, self.box_size(settings.kind))


def other(name: str, target: Posterior, others: Others | None) -> Posterior:
    """The posterior that an entry's `on` names.

    Raises:
        UserError: there are no others, or it is about other parameters than the target.
    """
    if others is None:
        raise UserError(f"on = {name}: there are no other posteriors here to make the attack on")
    found = others(name)
    if tuple(found.names) != tuple(target.names):
        raise UserError(
            f"on = {name}: is about {', '.join(found.names)}, the target about "
            f"{', '.join(target.names)}"
        )
    return found


def objective(settings: cfg.Objective, posterior: Posterior) -> str | Objective:
    """What an entry's `objective` describes.

    Raises:
        UserError: it needs a parameter that the posterior does not have.
    """
    try:
        if isinstance(settings, cfg.Toward):
            cosmology = {"omega_m": settings.omega_m, "sigma_8": settings.sigma_8}
            return objectives.target(cosmology, posterior.names)
        if isinstance(settings, cfg.ShiftS8):
            return objectives.ShiftS8(settings.sigmas, posterior.names)
    except ValueError as error:  # the posterior has other parameters
        raise UserError(str(error)) from error
    return settings
