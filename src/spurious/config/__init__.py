"""What params.yaml may hold, as frozen models: every field has its unit, its range and its source.

`spurious.params` reads the file into them. Modules below `stages` take these sections as plain
arguments; they never read a file themselves.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from spurious.config.inference import Training
from spurious.config.perturbations import BIM, FGSM, Logistic, Match, Perturbation, RandomSign
from spurious.config.quantities import (
    UNKNOWN_KEY,
    Axis,
    Budget,
    Density,
    InverseDensity,
    Length,
    Range,
    Section,
)
from spurious.config.search import Bounds, Search
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

__all__ = [
    "BIM",
    "FGSM",
    "UNKNOWN_KEY",
    "Axis",
    "Background",
    "Bounds",
    "Budget",
    "Config",
    "Dask",
    "Density",
    "Design",
    "Execution",
    "Grid",
    "InverseDensity",
    "LatinHypercube",
    "Length",
    "Listed",
    "Local",
    "Logistic",
    "Match",
    "Perturbation",
    "RandomSign",
    "Range",
    "Report",
    "Run",
    "Search",
    "Simulation",
    "Slurm",
    "Sobol",
    "Stages",
    "Training",
    "Verify",
]


class Report(Section):
    """The report's examples."""

    examples: int = Field(3, ge=1, le=12, description="maps in Figure 2; 3 in the paper")


class Run(Section):
    """What `dvc repro` makes."""

    scales: list[str] = Field(min_length=1)
    attacks: list[str] = Field(min_length=1)


def _ends(values: Axis | Range) -> tuple[float, float]:
    return (values.start, values.stop) if isinstance(values, Axis) else (values.low, values.high)


class Config(Section):
    """All of params.yaml at one scale."""

    scale: str
    run: Run
    seed: int = Field(ge=0, lt=2**32, description="root of every random draw")
    background: Background = Background()
    design: Design
    simulation: Simulation
    execution: Execution = Execution()
    verify: Verify = Verify()
    training: Training
    attacks: dict[str, Perturbation]
    search: Search
    report: Report = Report()

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
