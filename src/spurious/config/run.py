"""What is run: the scales, posteriors and attacks of `dvc repro`, and how much of each."""

from __future__ import annotations

from pydantic import Field

from spurious.description.names import Name, PosteriorName, ScaleName
from spurious.description.section import Section


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
    wrapped: list[PosteriorName] = Field(
        [], description="posteriors that are made of another: smoothed, abstaining"
    )
    target: PosteriorName = Field(
        description="what attacks and search see; damage is measured on all"
    )
    attacks: list[Name] = Field(min_length=1, description="groups of attacks, a process each")
    tune: list[ScaleName] = Field([], description="scales whose networks are tuned")
    defences: list[PosteriorName] = Field(
        [], description="posteriors that are compared with the target, which has no defence"
    )

    @property
    def present(self) -> list[str]:
        """All posteriors that are trained, or made of those."""
        return [*self.posteriors, *self.ensembles, *self.wrapped]
