"""Cosmologies, the particle mesh, where it runs, and its check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from spurious.description.names import Word
from spurious.description.quantities import Axis, Length, Range
from spurious.description.section import Section


class Background(Section):
    """What all simulations share: Planck 2015 (arXiv:1502.01589, Table 4, last column)."""

    h: float = Field(0.6774, ge=0.4, le=1.0)
    omega_b: float = Field(0.0486, gt=0, lt=1)
    n_s: float = Field(0.9667, ge=0.5, le=1.5)


class Grid(Section):
    """All combinations of the axes' values, dealt to the simulations in turn."""

    kind: Literal["grid"]
    omega_m: Axis
    sigma_8: Axis


class Ranges(Section):
    """A rectangle of cosmologies."""

    omega_m: Range
    sigma_8: Range


class LatinHypercube(Ranges):
    """One cosmology a simulation: a Latin hypercube of `simulation.simulations` points."""

    kind: Literal["latin_hypercube"]


class Sobol(Ranges):
    """One cosmology a simulation: a scrambled Sobol sequence, best at powers of two."""

    kind: Literal["sobol"]


class Listed(Section):
    """The cosmologies of a CSV file with the columns omega_m and sigma_8, dealt in turn."""

    kind: Literal["list"]
    path: Path


Design = Annotated[Grid | LatinHypercube | Sobol | Listed, Field(discriminator="kind")]


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
    linear_power: Literal["camb", "eisenstein_hu"] = "camb"
    axes: tuple[Literal[0, 1, 2], ...] = Field((2,), description="lines of sight, one map each")
    fields: bool = Field(False, description="keep the three-dimensional densities too")
    simulations: int = Field(1210, ge=1, le=1_000_000, description="dealt to the nodes in turn")
    shard_size: int = Field(
        55, ge=1, le=100_000, description="simulations a file of the resumable suite"
    )

    @field_validator("n_cells")
    @classmethod
    def _even(cls, n: int) -> int:
        if n % 2:
            raise ValueError("must be even")
        return n

    @field_validator("axes")
    @classmethod
    def _distinct(cls, axes: tuple[int, ...]) -> tuple[int, ...]:
        if not axes or len(set(axes)) < len(axes):
            raise ValueError("must name one to three different axes")
        return axes

    @field_validator("force_mesh")
    @classmethod
    def _supported(cls, force_mesh: int, info: ValidationInfo) -> int:
        if info.data.get("engine") == "flowpm" and force_mesh != 1:
            raise ValueError("must be 1 with simulation.engine = flowpm")
        return force_mesh


class Local(Section):
    """Spawned processes of one thread each on this machine."""

    kind: Literal["local"]
    workers: int | None = Field(None, ge=1, le=1024, description="none: one a core, 16 at most")


class Dask(Section):
    """The workers of a Dask cluster that is already running."""

    kind: Literal["dask"]
    scheduler: str = Field(min_length=1, description="address, such as tcp://head:8786")


class Slurm(Section):
    """Workers that dask-jobqueue starts as SLURM jobs, for as long as the suite runs."""

    kind: Literal["slurm"]
    jobs: int = Field(ge=1, le=10_000, description="SLURM jobs, each of one node")
    workers_per_job: int = Field(
        1, ge=1, le=1024, description="processes of one thread each in a job"
    )
    memory: Word = Field("4GB", description="of a job")
    walltime: Word = Field("01:00:00", description="of a job, hours:minutes:seconds")
    queue: Word | None = Field(None, description="partition")
    account: Word | None = None


class Execution(Section):
    """Where simulations, trainings and attacks run. No map depends on it."""

    workers: Annotated[Local | Dask | Slurm, Field(discriminator="kind")] = Local(kind="local")
    processes: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="of one thread each, for trainings and attacks; none: one a core",
    )


class Verify(Section):
    """Agreement with FlowPM's own maps below which the pipeline goes on."""

    tolerance: float = Field(
        1e-5, gt=0, lt=1, description="RMS difference over RMS fluctuation, per map"
    )
