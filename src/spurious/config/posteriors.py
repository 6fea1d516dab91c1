"""Posteriors in params.yaml: which networks and estimators there are, and how they are trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from spurious.config.defences import Defence
from spurious.config.wrapped import Abstaining, Smoothed
from spurious.description.lookup import OWN_BASES, OneOf, described_class, extending
from spurious.description.marks import Within
from spurious.description.names import PosteriorName
from spurious.description.quantities import Density, Range
from spurious.description.section import Entry, Section
from spurious.errors import shown


class Training(Section):
    """How networks are trained; a network's entry may override each of it but the fractions."""

    test_fraction: float = Field(0.3, gt=0, lt=1, description="of all simulations; paper")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="of the rest; picks the epoch")
    epochs: int = Field(60, ge=1, description="1000 in the paper")
    patience: int = Field(100, ge=1, description="epochs without a better validation loss")
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(3e-3, gt=0, le=1)
    weight_decay: float = Field(0.1, ge=0, le=1)
    clip_norm: float = Field(1.0, gt=0, description="largest norm of a step's gradient")
    augment: bool = Field(True, description="random translations, rotations by 90 degrees, flips")
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = Field(
        "float32", description="of the training; the network that comes out is float32"
    )
    recalibrate: bool = Field(False, description="one temperature, fitted on validation maps")


class Wavenumber(Section):
    """A size of |k|."""

    value: float = Field(gt=0)
    unit: Literal["h/Mpc"]


class Clipped(Section):
    """Maps without the height of their peaks: min(x, upper)."""

    kind: Literal["clipped"]
    upper: Annotated[Density, Within(1e-3, 1e6)]


class BandLimit(Section):
    """Maps without their small scales."""

    kind: Literal["band_limited"]
    high: Wavenumber = Field(description="largest |k| that is seen")


def _input_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


# Told apart before validation, so that an error names one of them and not all.
Input = Annotated[
    Annotated[Literal["counts", "contrast", "log", "rank"], Tag("name")]
    | Annotated[Clipped, Tag("clipped")]
    | Annotated[BandLimit, Tag("band_limited")],
    Discriminator(
        _input_kind,
        custom_error_type="input",
        custom_error_message=(
            "must be counts, contrast, log, rank, or a section of kind clipped or band_limited"
        ),
    ),
]
"""What a network sees of a map; see `spurious.networks.representations`."""

Head = Annotated[Entry, OneOf("head", own=extending(OWN_BASES["head"]))]
Preset = Annotated[str | Entry, OneOf("preset", names=True, own=extending(OWN_BASES["preset"]))]
SplitKind = Literal["random", "held_out"]


class Network(Section):
    """A network trained on the maps."""

    kind: Literal["network"]
    preset: Preset = Field("compact", description="its layers before the head")
    head: Head = Field(
        {"kind": "mixture"}, validate_default=True, description="the density that it ends in"
    )
    split: SplitKind = Field(
        "random", description="random by simulation (paper), or whole cosmologies held out"
    )
    input: Input = Field("counts", description="what it sees of a map")
    defence: Defence | None = Field(None, description="what it is trained against; none: nothing")
    seed: int = Field(0, ge=0, description="another one, another network of the same kind")
    trainings: int = Field(
        1, ge=1, le=100, description="independent trainings, which differ in nothing but the seed"
    )
    training: Training = Field(Training(), description="what differs from the section `training`")

    @model_validator(mode="after")
    def _settings(self) -> Network:
        preset = self.preset if isinstance(self.preset, str) else self.preset.kind
        inputs = described_class("preset", self.preset).INPUTS
        if inputs is not None and self.input not in inputs:
            raise ValueError(
                f"input = {shown(self.input)} must be {inputs[0]} for the preset {preset}"
            )
        for key in ("test_fraction", "validation_fraction"):
            if key in self.training.model_fields_set:
                raise ValueError(f"training.{key} must be the same for all: set it in `training`")
        return self

    def trained(self, shared: Training) -> Training:
        """The shared settings with this network's own laid over them."""
        own = {key: getattr(self.training, key) for key in self.training.model_fields_set}
        return shared.model_copy(update=own)


class Likelihood(Section):
    """Gaussian likelihood of ln P(k), its mean and covariance from the simulations."""

    kind: Literal["likelihood"]
    split: SplitKind = "random"
    cells: int = Field(64, ge=8, le=512, description="of the posterior's grid, per parameter")


Posterior = Annotated[Network | Likelihood | Smoothed | Abstaining, Field(discriminator="kind")]


class Tune(Section):
    """The Optuna study over architecture and training settings; ranges are searched in logarithm.

    The first trial is the network to beat; what it has and the lists lack is tried too.
    """

    trials: int = Field(20, ge=1)
    epochs: int = Field(30, ge=1, description="of each trial; hopeless ones end earlier")
    base: PosteriorName | None = Field(
        None, description="the network to beat; run.target if left out"
    )
    presets: list[Literal["compact", "resnet"]] = Field(["compact", "resnet"], min_length=1)
    width: Range = Range(low=0.5, high=1.5)
    heads: list[Literal["diagonal", "full", "flow"]] = Field(
        ["diagonal", "full", "flow"], min_length=1, description="covariance of a mixture, or a flow"
    )
    components: int = Field(4, ge=1, le=32, description="most Gaussians in a mixture")
    learning_rate: Range = Range(low=5e-4, high=1e-2)
    weight_decay: Range = Range(low=1e-3, high=0.5)
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field([16, 32, 64], min_length=1)
    startup_trials: int = Field(5, ge=1, description="finished before any is pruned")
    warmup_epochs: int = Field(5, ge=0, description="of a trial before it may be pruned")

    @model_validator(mode="after")
    def _possible(self) -> Tune:
        for key, most in (("width", 8.0), ("learning_rate", 1.0), ("weight_decay", 1.0)):
            bounds = getattr(self, key)
            if not 0 < bounds.low < bounds.high <= most:
                raise ValueError(
                    f"{key}: {bounds.low} to {bounds.high} must lie above 0 and at most at {most:g}"
                )
        return self
