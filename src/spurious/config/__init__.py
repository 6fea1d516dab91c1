"""What params.yaml may hold, as frozen models: every field has its unit, its range and its source.

`spurious.params` reads the file into them. Modules below `stages` take these sections as plain
arguments; they never read a file themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field, model_validator

from spurious.config.audit import Audit
from spurious.config.detection import Detection
from spurious.config.inference import (
    BandLimit,
    Clipped,
    FlowHead,
    Input,
    Likelihood,
    MixtureHead,
    Network,
    Posterior,
    Training,
    Tune,
)
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
from spurious.description.families import Bounds
from spurious.description.names import AttackName, Name, PosteriorName, ScaleName
from spurious.description.quantities import (
    Axis,
    Budget,
    Density,
    InverseDensity,
    Length,
    Range,
)
from spurious.description.section import UNKNOWN_KEY, Section, parts
from spurious.perturbations.entry import Perturbation

__all__ = [
    "UNKNOWN_KEY",
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
    "Density",
    "Design",
    "Detection",
    "Execution",
    "FlowHead",
    "Grid",
    "Input",
    "InverseDensity",
    "LatinHypercube",
    "Length",
    "Likelihood",
    "Listed",
    "Local",
    "MixtureHead",
    "Network",
    "Perturbation",
    "Posterior",
    "Range",
    "Report",
    "Run",
    "Search",
    "Simulation",
    "Slurm",
    "Sobol",
    "Stages",
    "Training",
    "Tune",
    "Verify",
    "winner",
]


class Damage(Section):
    """On how many maps the trainings of the target are attacked."""

    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of an attack's maps, those on which it is made on each training after the "
        "first, evenly spaced; at least one",
    )

    def count(self, n: int) -> int:
        """How many of n maps that is."""
        return max(1, round(self.share * n))


class Report(Section):
    """The report's examples."""

    examples: int = Field(3, ge=1, le=12, description="maps in Figure 2; 3 in the paper")


class Run(Section):
    """What `dvc repro` makes."""

    scales: list[ScaleName] = Field(min_length=1)
    posteriors: list[PosteriorName] = Field(min_length=1, description="trained, in this order")
    ensembles: list[PosteriorName] = Field([], description="made of those")
    target: PosteriorName = Field(
        description="what attacks and search see; damage is measured on all"
    )
    attacks: list[Name] = Field(min_length=1, description="groups of attacks, a process each")
    tune: list[ScaleName] = Field([], description="scales whose networks are tuned")


def winner(family: str) -> str:
    """What the worst systematic of a family is called among the attacks."""
    return f"searched_{family}"


def _named(key: str, names: Iterable[str], allowed: Iterable[str], where: str) -> None:
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise ValueError(f"{key}: {name!r} must be one of {where}: {', '.join(allowed)}")


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
        _named("run.posteriors", run.posteriors, self.posteriors, "posteriors")
        _named("run.ensembles", run.ensembles, self.ensembles, "ensembles")
        _named("run.target", [run.target], [*run.posteriors, *run.ensembles], "what is run")
        if both := self.posteriors.keys() & self.ensembles.keys():
            raise ValueError(f"ensembles.{min(both)}: is the name of a posterior too")
        labels = [one for name in [*run.posteriors, *run.ensembles] for one in self.labels(name)]
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
            if len({self.posteriors[member].split for member in members}) > 1:
                raise ValueError(f"ensembles.{name} = {members}: must have the same split")
        for name in run.ensembles:
            _named(f"ensembles.{name}", self.ensembles[name], run.posteriors, "run.posteriors")
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
        present = [*self.run.posteriors, *self.run.ensembles]
        for group in self.run.attacks:
            for name, entry in self.attacks[group].items():
                on = [one for part in parts(entry) if (one := getattr(part, "on", None))]
                _named(f"attacks.{group}.{name}.on", on, present, "what is run")
        return self

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
