"""What params.yaml may hold, as frozen models: every field has its unit, its range and its source.

`spurious.params` reads the file into them. Modules below `stages` take these sections as plain
arguments; they never read a file themselves.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

UNKNOWN_KEY = "unknown_key"  # the type of our own validation error


class Section(BaseModel):
    """One section of params.yaml: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, revalidate_instances="never"
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        """Refuse the first unknown key and say which there are."""
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                context = {"key": key, "value": values[key], "allowed": ", ".join(cls.model_fields)}
                raise PydanticCustomError(
                    UNKNOWN_KEY, "{key} = {value}: unknown key, must be one of {allowed}", context
                )
        return values


class Length(Section):
    """A comoving length."""

    value: float = Field(gt=0)
    unit: Literal["Mpc/h"]


class Density(Section):
    """A change of density."""

    value: float
    unit: Literal["count"]


class InverseDensity(Section):
    """A slope in density."""

    value: float
    unit: Literal["1/count"]


class Budget(Section):
    """Size of a change of a map: in standard deviations of all training pixels, or in counts."""

    value: float = Field(ge=0)
    unit: Literal["std", "count"]

    def counts(self, std: float) -> float:
        """The budget in counts, for a data set whose pixels have standard deviation `std`."""
        return self.value * std if self.unit == "std" else self.value


class Range(Section):
    """A closed interval."""

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low} must be less than high = {self.high}")
        return self


class Axis(Section):
    """Equally spaced values from start to stop, both included."""

    start: float
    stop: float
    step: float = Field(gt=0)

    @model_validator(mode="after")
    def _whole_steps(self) -> Axis:
        steps = (self.stop - self.start) / self.step
        if steps < 0 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"stop = {self.stop} is not start = {self.start} "
                f"plus a whole number of steps of {self.step}"
            )
        return self

    def values(self) -> list[float]:
        """The values, rounded to twelve decimals, so that 0.15000000000000002 is 0.15."""
        count = round((self.stop - self.start) / self.step) + 1
        return [round(self.start + i * self.step, 12) for i in range(count)]


class Background(Section):
    """What all simulations share: Planck 2015 (arXiv:1502.01589, Table 4, last column)."""

    h: float = Field(0.6774, ge=0.4, le=1.0)
    omega_b: float = Field(0.0486, gt=0, lt=1)
    n_s: float = Field(0.9667, ge=0.5, le=1.5)


class Grid(Section):
    """Nodes (Omega_m, sigma_8) of the suite; the paper's grid has 11 x 11."""

    omega_m: Axis
    sigma_8: Axis


class Stages(Section):
    """Scale factors of the leapfrog: `stages` of them, equally spaced, both ends included."""

    start: float = Field(0.1, ge=0.01, lt=1)
    stop: float = Field(1.0, gt=0.01, le=1)
    stages: int = Field(10, ge=2, le=200)

    @model_validator(mode="after")
    def _ordered(self) -> Stages:
        if not self.start < self.stop:
            raise ValueError(f"start = {self.start} must be less than stop = {self.stop}")
        return self


class Simulation(Section):
    """The particle mesh (the paper's Section 3: 64^3 particles in 128 Mpc/h, FlowPM)."""

    engine: Literal["xla", "flowpm"] = "xla"
    box_size: Length = Length(value=128.0, unit="Mpc/h")
    n_cells: int = Field(64, ge=16, le=512, description="cells and particles a side")
    force_mesh: int = Field(1, ge=1, le=4, description="force mesh cells per particle, a side")
    scale_factors: Stages = Stages()
    lpt_order: Literal[1, 2] = 2
    simulations: int = Field(1210, ge=1, description="dealt to the nodes in turn")
    shard_size: int = Field(55, ge=1, description="simulations a file of the resumable suite")

    @field_validator("n_cells")
    @classmethod
    def _even(cls, n: int) -> int:
        if n % 2:
            raise ValueError("must be even")
        return n

    @field_validator("force_mesh")
    @classmethod
    def _supported(cls, force_mesh: int, info: ValidationInfo) -> int:
        if info.data.get("engine") == "flowpm" and force_mesh != 1:
            raise ValueError("must be 1 with simulation.engine = flowpm")
        return force_mesh


class Verify(Section):
    """Agreement with FlowPM's own maps below which the pipeline goes on."""

    tolerance: float = Field(
        1e-4, gt=0, lt=1, description="RMS difference over RMS fluctuation, per map"
    )


class Training(Section):
    """Network and training."""

    preset: Literal["compact"] = "compact"
    components: int = Field(1, ge=1, le=32, description="Gaussians in the mixture; 1 in the paper")
    test_fraction: float = Field(0.3, gt=0, lt=1, description="of all simulations; paper")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="of the rest; picks the epoch")
    epochs: int = Field(60, ge=1, description="1000 in the paper")
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(3e-3, gt=0, le=1)
    weight_decay: float = Field(0.1, ge=0, le=1)
    augment: bool = Field(True, description="random translations, rotations by 90 degrees, flips")


class RandomSign(Section):
    """Control: every pixel moves by plus or minus epsilon at random."""

    kind: Literal["random_sign"]
    epsilon: Budget


class FGSM(Section):
    """Fast gradient sign method: one step of size epsilon (Goodfellow et al. 2015)."""

    kind: Literal["fgsm"]
    epsilon: Budget
    objective: Literal["nll", "kl"] = "nll"


class BIM(Section):
    """Basic iterative method (Kurakin et al. 2017; the paper's Eq. 2)."""

    kind: Literal["bim"]
    alpha: Budget
    steps: int = Field(10, ge=1, le=10_000)
    epsilon: Budget | None = Field(None, description="largest change of a pixel; none: alpha steps")
    objective: Literal["nll", "kl"] = "nll"


class Match(Section):
    """An amplitude chosen so that the mean squared change equals another perturbation's."""

    match: RandomSign | FGSM | BIM = Field(discriminator="kind")


def _amplitude_kind(value: Any) -> str:
    given = isinstance(value, Match) or (isinstance(value, dict) and "match" in value)
    return "match" if given else "density"


# Told apart before validation, so that an error names one of them and not both.
Amplitude = Annotated[
    Annotated[Density, Tag("density")] | Annotated[Match, Tag("match")],
    Discriminator(_amplitude_kind),
]


class Logistic(Section):
    """The paper's systematic (Eq. 3): x + beta / (1 + exp(a x + b))."""

    kind: Literal["logistic"]
    a: InverseDensity
    b: float
    beta: Amplitude


Perturbation = Annotated[RandomSign | FGSM | BIM | Logistic, Field(discriminator="kind")]


class Bounds(Section):
    """Where the search looks for a logistic systematic."""

    a: Range = Field(description="1/count; searched in its logarithm")
    transition: Range = Field(description="-b/a in counts, where it switches; in its logarithm")
    beta: Range = Field(description="counts; searched in asinh(beta), both signs")

    @field_validator("a", "transition")
    @classmethod
    def _positive(cls, searched_in_logarithm: Range) -> Range:
        if searched_in_logarithm.low <= 0:
            raise ValueError(f"low = {searched_in_logarithm.low} must be greater than 0")
        return searched_in_logarithm


class Search(Section):
    """The Optuna study over (a, b, beta)."""

    starts: int = Field(24, ge=1, description="proposals, each refined by gradients")
    refine_steps: int = Field(12, ge=0, le=1000, description="SLSQP iterations a start")
    maps: int = Field(128, ge=2, description="test maps in the objective; the rest confirm it")
    max_power_change: float = Field(
        0.05, gt=0, lt=1, description="fence: max over bins of |dP/P| of the contrast"
    )
    bounds: Bounds


class Report(Section):
    """The report's examples."""

    examples: int = Field(3, ge=1, le=12, description="maps in Figure 2; 3 in the paper")


class Run(Section):
    """What `dvc repro` makes."""

    scales: list[str] = Field(min_length=1)
    attacks: list[str] = Field(min_length=1)


class Config(Section):
    """All of params.yaml at one scale."""

    scale: str
    run: Run
    seed: int = Field(ge=0, lt=2**32, description="root of every random draw")
    background: Background = Background()
    grid: Grid
    simulation: Simulation
    verify: Verify = Verify()
    training: Training
    attacks: dict[str, Perturbation]
    search: Search
    report: Report = Report()

    @model_validator(mode="after")
    def _possible(self) -> Config:
        """Refuse combinations of valid values that cannot work together."""
        omega_m, sigma_8 = self.grid.omega_m, self.grid.sigma_8
        if not (omega_m.start > self.background.omega_b and omega_m.stop < 1):
            raise ValueError(
                f"grid.omega_m: {omega_m.start} to {omega_m.stop} must lie between "
                f"background.omega_b = {self.background.omega_b} and 1"
            )
        if sigma_8.start <= 0:
            raise ValueError(f"grid.sigma_8.start: {sigma_8.start} must be greater than 0")
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
