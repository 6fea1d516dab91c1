"""Posteriors in params.yaml that are made of another one, without a training of their own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spurious.description.names import AttackName, PosteriorName
from spurious.description.quantities import Budget
from spurious.description.section import Section
from spurious.perturbations.entry import Perturbation


class Angles(Section):
    """Size of random angles."""

    value: float = Field(gt=0, le=10, description="2 or more leaves next to nothing of the phases")
    unit: Literal["rad"]


class Noise(Section):
    """White Gaussian noise."""

    kind: Literal["noise"]
    rms: Budget = Field(description="of a pixel")

    @model_validator(mode="after")
    def _some(self) -> Noise:
        if self.rms.value == 0:
            raise ValueError("rms.value = 0: must be above 0, without noise nothing is averaged")
        return self


class Phases(Section):
    """Random turns of the Fourier modes, whose amplitudes stay."""

    kind: Literal["phases"]
    angle: Angles


class Smoothed(Section):
    """Another posterior, averaged over noisy versions of the map (Cohen et al. 2019)."""

    kind: Literal["smoothed"]
    of: PosteriorName = Field(description="a posterior or an ensemble; of several trainings, one")
    over: Annotated[Noise | Phases, Field(discriminator="kind")]
    draws: int = Field(16, ge=1, le=1000, description="noisy versions of each map")
    seed: int = Field(0, ge=0, description="another one, other noise")


class Abstaining(Section):
    """Another posterior that gives no answer for maps which a detector finds odd."""

    kind: Literal["abstaining"]
    of: PosteriorName = Field(description="a posterior or an ensemble; of several trainings, one")
    detector: Literal["network", "network_contrast", "log_power", "pdf", "scattering"] = "network"
    against: dict[AttackName, Perturbation] = Field(
        min_length=1, description="what the detector learns to tell from clean maps"
    )
    false_alarms: float = Field(
        0.05, gt=0, lt=0.5, description="share of clean maps that are rejected"
    )
    maps: int = Field(256, ge=20, description="training maps that the detector learns from")


Wrapped = Smoothed | Abstaining
