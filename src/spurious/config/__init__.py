"""What params.yaml may hold, as frozen models: every field has its unit, its range and its source.

`spurious.params` reads the file into them. Modules below `stages` take these sections as plain
arguments; they never read a file themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator

from spurious.config.audit import Audit
from spurious.config.defend import Defend
from spurious.config.detection import Detection
from spurious.config.posteriors import (
    BandLimit,
    Clipped,
    Input,
    Likelihood,
    Network,
    Posterior,
    Training,
    Tune,
)
from spurious.config.run import Damage, Report, Run
from spurious.config.search import Search
from spurious.config.simulation import (
    Background,
    Dask,
    Design,
    Execution,
    Grid,
    LatinHypercube,
    Listed,
    Local,
    Simulation,
    Slurm,
    Sobol,
    Stages,
    Verify,
)
from spurious.config.wrapped import Abstaining, Smoothed, Wrapped
from spurious.description.family import Bounds
from spurious.description.names import AttackName, Name, PosteriorName, ScaleName
from spurious.description.quantities import (
    Axis,
    Budget,
    Density,
    InverseDensity,
    Length,
    Range,
)
from spurious.description.section import WRONG_KEY, Section, parts
from spurious.errors import one_of
from spurious.perturbations.entry import Perturbation

__all__ = [
    "WRONG_KEY",
    "Abstaining",
    "Audit",
    "Axis",
    "Background",
    "BandLimit",
    "Bounds",
    "Budget",
    "Clipped",
    "Config",
    "Damage",
    "Dask",
    "Defend",
    "Density",
    "Design",
    "Detection",
    "Execution",
    "Grid",
    "Input",
    "InverseDensity",
    "LatinHypercube",
    "Length",
    "Likelihood",
    "Listed",
    "Local",
    "Network",
    "Perturbation",
    "Posterior",
    "Range",
    "Report",
    "Run",
    "Search",
    "Simulation",
    "Slurm",
    "Smoothed",
    "Sobol",
    "Stages",
    "Training",
    "Tune",
    "Verify",
    "Wrapped",
    "winner",
]


def winner(family: str) -> str:
    """What the worst systematic of a family is called among the attacks."""
    return f"searched_{family}"


def _named(key: str, names: Iterable[str], allowed: Iterable[str], where: str) -> None:
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise ValueError(f"{key}: {name!r} {one_of(name, allowed, where)}")


def _ends(values: Axis | Range) -> tuple[float, float]:
    return (values.start, values.stop) if isinstance(values, Axis) else (values.low, values.high)


class Config(Section):
    """All of params.yaml at one scale."""

    scale: ScaleName
    run: Run
    seed: int = Field(ge=0, lt=2**32, description="root of every random draw")
    background: Background = Background()
    design: Design
    simulation: Simulation
    execution: Execution = Execution()
    verify: Verify = Verify()
    training: Training
    posteriors: dict[PosteriorName, Posterior]
    ensembles: dict[PosteriorName, list[PosteriorName]] = Field(
        {}, description="equal-weight mixtures of posteriors"
    )
    tune: Tune = Tune()
    attacks: dict[Name, dict[AttackName, Perturbation]] = Field(
        description="group -> name -> what it is"
    )
    damage: Damage = Damage()
    audit: Audit = Audit()
    detection: Detection = Detection()
    search: Search
    defend: Defend = Defend()
    report: Report = Report()

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process, in which no module has the classes of sections that others make."""
        return Config.model_validate, (self.model_dump(exclude_unset=True),)

    @model_validator(mode="after")
    def _universes(self) -> Config:
        """Refuse ranges that hold impossible universes; a list is checked when it is read."""
        if isinstance(self.design, Listed):
            return self
        low, high = _ends(self.design.omega_m)
        if not (low > self.background.omega_b and high < 1):
            raise ValueError(
                f"design.omega_m: {low} to {high} must lie between "
                f"background.omega_b = {self.background.omega_b} and 1"
            )
        if _ends(self.design.sigma_8)[0] <= 0:
            raise ValueError(f"design.sigma_8: {_ends(self.design.sigma_8)[0]} must be above 0")
        return self

    @model_validator(mode="after")
    def _posteriors(self) -> Config:
        """Refuse names that mean nothing, and ensembles of what does not go together."""
        run = self.run
        trained = [name for name in self.posteriors if name not in self.wrapped]
        _named("run.posteriors", run.posteriors, trained, "posteriors that are trained")
        _named("run.ensembles", run.ensembles, self.ensembles, "ensembles")
        _named("run.wrapped", run.wrapped, self.wrapped, "posteriors made of another")
        _named("run.target", [run.target], run.present, "what is run")
        if both := self.posteriors.keys() & self.ensembles.keys():
            raise ValueError(f"ensembles.{min(both)}: is the name of a posterior too")
        labels = [one for name in run.present for one in self.labels(name)]
        if twice := {label for label in labels if labels.count(label) > 1}:
            raise ValueError(
                f"run.posteriors: {min(twice)} would name two results; several trainings of a "
                "posterior are called NAME_1, NAME_2 and so on"
            )
        for name, members in self.ensembles.items():
            _named(f"ensembles.{name}", members, self.posteriors, "posteriors")
            if len(set(members)) < len(members) or sum(map(self.trainings, members)) < 2:
                raise ValueError(
                    f"ensembles.{name} = {members}: must have at least two trainings, each once"
                )
        return self

    @model_validator(mode="after")
    def _made(self) -> Config:
        """Refuse what is made of nothing, of itself, or of networks that go apart."""
        for name, entry in self.wrapped.items():
            key = f"posteriors.{name}.of"
            _named(key, [entry.of], [*self.posteriors, *self.ensembles], "posteriors and ensembles")
            if name in self._below(name):
                raise ValueError(f"{key} = {entry.of!r}: is made of {name} itself")
        for name, members in self.ensembles.items():
            if len({self.split(one) for one in self.networks(name)}) > 1:
                raise ValueError(f"ensembles.{name} = {members}: must have the same split")
        for name in self.run.ensembles:
            _named(f"ensembles.{name}", self.networks(name), self.run.posteriors, "run.posteriors")
        for name in self.run.wrapped:
            key = f"posteriors.{name}.of"
            _named(key, self.networks(name), self.run.posteriors, "run.posteriors")
        return self

    @model_validator(mode="after")
    def _defences(self) -> Config:
        """Refuse defences that cannot be compared with the target."""
        run, families = self.run, self.search.families
        names = [name for name in (*self.posteriors, *self.ensembles) if name != run.target]
        _named("run.defences", run.defences, names, "posteriors and ensembles beside the target")
        for name in run.defences:
            _named("run.defences", self.networks(name), run.posteriors, "run.posteriors")
        _named("defend.families", self.defend.families or (), families, "search.families")
        wanted = self.split(run.target)
        for name in run.defences:
            if undeclared := self.undeclared(name):
                raise ValueError(undeclared)
        for name in run.defences:
            if self.split(name) != wanted:
                raise ValueError(
                    f"run.defences: {name!r} has the split {self.split(name)}, must have that of "
                    f"the target, {wanted}"
                )
        return self

    @model_validator(mode="after")
    def _attacks(self) -> Config:
        """Refuse groups that mean nothing or are empty, and names that mean two things."""
        _named("run.attacks", self.run.attacks, self.attacks, "attacks")
        seen: dict[str, str] = {"search": "the worst systematics of the search"}
        seen |= {winner(family): f"search.families.{family}" for family in self.search.families}
        for group, entries in self.attacks.items():
            if not entries:
                raise ValueError(f"attacks.{group}: must have at least one entry")
            for name in (group, *entries):
                if name in seen:
                    raise ValueError(f"attacks.{group}.{name}: is a name in {seen[name]} too")
            seen |= dict.fromkeys((group, *entries), f"attacks.{group}")
        present = self.run.present
        for group in self.run.attacks:
            for name, entry in self.attacks[group].items():
                on = [one for part in parts(entry) if (one := getattr(part, "on", None))]
                _named(f"attacks.{group}.{name}.on", on, present, "what is run")
        return self

    @property
    def wrapped(self) -> dict[str, Wrapped]:
        """The entries of `posteriors` that are made of another, without a training."""
        return {
            name: entry for name, entry in self.posteriors.items() if isinstance(entry, Wrapped)
        }

    def members(self, name: str) -> list[str]:
        """What a posterior is made of; of one that is trained, nothing."""
        entry = self.posteriors.get(name)
        if isinstance(entry, Wrapped):
            return [entry.of]
        return list(self.ensembles.get(name, ()))

    def how_made(self, name: str) -> list[str]:
        """What, beside its networks, decides a posterior that is made of others; else nothing."""
        chain = sorted({name, *self._below(name)} & self.wrapped.keys())
        return [f"{one}: {self.wrapped[one].model_dump_json()}" for one in chain]

    def networks(self, name: str) -> list[str]:
        """The trained posteriors that a posterior is made of; itself, if it is one."""
        if not (members := self.members(name)):
            return [name]
        return list(dict.fromkeys(one for member in members for one in self.networks(member)))

    def split(self, name: str) -> str:
        """How the maps were split for a posterior, or for each network that it is made of."""
        return str(getattr(self.posteriors[self.networks(name)[0]], "split", ""))

    @property
    def tested_families(self) -> list[str]:
        """The families of `search.families` against which defences are tested."""
        return list(self.defend.families or self.search.families)

    def trained_over(self, name: str) -> dict[str, Any]:
        """The families of systematics that a posterior, or what it is made of, was trained over."""
        found: dict[str, Any] = {}
        for one in self.networks(name):
            found |= getattr(getattr(self.posteriors[one], "defence", None), "families", {})
        return found

    def seen(self, name: str) -> set[str]:
        """Kinds of perturbations that a posterior, or what it is made of, was shown before."""
        found = {family.kind for family in self.trained_over(name).values()}
        for one in {name, *self._below(name)}:
            entry = self.posteriors.get(one)
            if isinstance(entry, Abstaining):
                found |= {other.kind for other in entry.against.values()}
        return found

    def undeclared(self, name: str) -> str:
        """What is wrong with a training over systematics that leaves open what is a fair test.

        Every kind of systematic that it is tested against must be one that it was trained over, or
        be named as left out. Empty if nothing is wrong.
        """
        for one in self.networks(name):
            defence = getattr(self.posteriors[one], "defence", None)
            trained = {family.kind for family in getattr(defence, "families", {}).values()}
            known = trained | set(getattr(defence, "left_out", ()))
            for family in self.tested_families if trained else ():
                kind = self.search.families[family].kind
                if kind not in known:
                    return (
                        f"posteriors.{one}.defence.left_out: {kind} is tested, as "
                        f"search.families.{family}, but neither trained over nor left out"
                    )
        return ""

    def _below(self, name: str) -> set[str]:
        """All that a posterior is made of, however deep; itself where it goes round in a circle."""
        found: set[str] = set()
        waiting = self.members(name)
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.members(one)
        return found

    def trainings(self, name: str) -> int:
        """How many networks of an entry of `posteriors` are trained; of an ensemble, one."""
        return getattr(self.posteriors.get(name), "trainings", 1)

    def labels(self, name: str) -> list[str]:
        """What the trainings of a posterior are called in tables; of an ensemble, itself."""
        count = self.trainings(name)
        return [name] if count == 1 else [f"{name}_{number + 1}" for number in range(count)]

    @property
    def entries(self) -> dict[str, Perturbation]:
        """All attacks by name, whatever their group."""
        return {name: one for entries in self.attacks.values() for name, one in entries.items()}

    @property
    def attacked(self) -> dict[str, str]:
        """Name -> group of the attacks that are run, in that order."""
        return {name: group for group in self.run.attacks for name in self.attacks[group]}

    @model_validator(mode="after")
    def _possible(self) -> Config:
        """Refuse combinations of valid values that cannot work together."""
        n = self.simulation.simulations
        n_test = round(n * self.training.test_fraction)
        n_validation = round((n - n_test) * self.training.validation_fraction)
        if min(n_test, n_validation, n - n_test - n_validation) < 1:
            raise ValueError(
                f"simulation.simulations: {n} leaves an empty part: train, validation and test "
                f"would have {n - n_test - n_validation}, {n_validation} and {n_test}"
            )
        if self.search.maps >= n_test:
            raise ValueError(
                f"search.maps: {self.search.maps} must be less than the {n_test} test maps, "
                "because the others confirm what the search found"
            )
        if self.report.examples > n_test:
            raise ValueError(
                f"report.examples: {self.report.examples} must be at most the {n_test} test maps"
            )
        return self
