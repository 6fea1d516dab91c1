"""The comparison of defences: on how many maps, at which budgets, and which systematics."""

from __future__ import annotations

from pydantic import Field, model_validator

from spurious.config.audit import Budgets
from spurious.description.names import Name
from spurious.description.quantities import Budget
from spurious.description.section import Section


class Defend(Section):
    """How each posterior of `run.defences` is attacked, beside the undefended target."""

    maps: int = Field(32, ge=4, description="test maps attacked, drawn once")
    linf: Budgets = Field(
        Budgets(values=(0.003, 0.01, 0.03, 0.1), unit="std"),
        description="largest changes of a pixel, of the curve of damage",
    )
    l2: Budgets = Field(
        Budgets(values=(0.003, 0.01, 0.03), unit="std"), description="RMS changes of the other"
    )
    epsilon: Budget = Field(
        Budget(value=0.03, unit="std"),
        description="largest change of a pixel at which defences are ranked and checked; of `linf`",
    )
    rms: Budget = Field(
        Budget(value=0.01, unit="std"), description="RMS change at which they are checked; of `l2`"
    )
    fraction: float = Field(
        0.1,
        ge=0,
        le=100,
        description="of one map's cosmic variance by which P(k) may change where it is kept, "
        "within `epsilon`",
    )
    steps: int = Field(20, ge=2, le=10_000, description="of the strongest attack")
    constrained_steps: int = Field(
        40, ge=2, le=10_000, description="the same where P(k) is kept too"
    )
    restarts: int = Field(2, ge=1, le=100, description="its random starts; the best is kept")
    reference_maps: int = Field(8, ge=1, description="maps of which a long attack is made")
    reference_steps: int = Field(100, ge=2, le=10_000, description="of that long attack")
    families: list[Name] | None = Field(
        None, min_length=1, description="of search.families, searched anew; by default all"
    )
    starts: int = Field(
        1, ge=1, le=1000, description="climbs of a family, beside one from what the search found"
    )
    refine_steps: int = Field(8, ge=0, le=1000, description="evaluations of a climb")
    certificate_draws: int = Field(
        500, ge=1, le=100_000, description="of the noise, for what smoothing with noise proves"
    )
    keep: float = Field(
        0.5, ge=0, le=1, description="information that a winner keeps at the least, as a share"
    )

    @model_validator(mode="after")
    def _on_the_curves(self) -> Defend:
        for one, curve in (("epsilon", "linf"), ("rms", "l2")):
            budget, along = getattr(self, one), getattr(self, curve)
            if budget.unit != along.unit or budget.value not in along.values:
                raise ValueError(
                    f"{one} = {budget.value} {budget.unit}: must be one of {curve}, "
                    f"{', '.join(map(str, along.values))} {along.unit}"
                )
        return self
