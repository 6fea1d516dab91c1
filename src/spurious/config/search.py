"""The search: what it maximises, what it keeps within, and the families of systematics it tries."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from spurious.description.family import AnyFamily
from spurious.description.lookup import MadeBy, OneOf
from spurious.description.names import Name
from spurious.description.section import Entry, Section


class Fences(Section):
    """Limits on what a systematic changes; none: no limit.

    Those called `mean_...` bound a change of the mean over the search's maps, where changes of
    opposite sign cancel, as it is; `mean_shift` and all others bound the change of single maps, by
    its upper bound of the search's `confidence`. Rounding in float32 moves a height by less than
    its tolerance, which stands in `spurious.search.fences`.
    """

    @property
    def limits(self) -> dict[str, float]:
        """Name -> limit of the fences that are there."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: limit for name, limit in given.items() if limit is not None}

    @model_validator(mode="after")
    def _some(self) -> Fences:
        if not self.limits:
            allowed = ", ".join(type(self).model_fields)
            raise ValueError(f"no fence: the search needs at least one of {allowed}")
        return self


class Heights(Section):
    """Heights of a fence at which the Pareto front is wanted; none: no front along that fence."""

    @model_validator(mode="after")
    def _increasing(self) -> Heights:
        for name in type(self).model_fields:
            heights = getattr(self, name)
            if not all(one < other for one, other in pairwise(heights)):
                raise ValueError(f"{name}: {list(heights)} must increase")
        return self


class Search(Section):
    """One Optuna study a family, each with the same goal, fences and budget."""

    starts: int = Field(24, ge=1, description="proposals of a family, each refined by gradients")
    refine_steps: int = Field(12, ge=0, le=1000, description="evaluations a start, after its own")
    maps: int = Field(
        128, ge=2, description="test simulations in the objective; the rest confirm it"
    )
    goal: Annotated[str | Entry, OneOf("goal", names=True)] = Field(
        "kl", description="what is maximised"
    )
    fences: Annotated[Fences, MadeBy("spurious.search.fences.limits")] = Field(
        description="what must not change by more"
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="with which each fence holds for maps not searched on"
    )
    families: dict[Name, AnyFamily] = Field(min_length=1, description="what is tried, by name")
    front: Annotated[Heights, MadeBy("spurious.search.fences.heights")] = Field(
        {}, validate_default=True, description="fence heights of the Pareto front"
    )
