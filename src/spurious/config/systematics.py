"""Entries of the section `attacks` that describe a systematic or a control made from another entry.

Ranges are what is physically plausible; `ranges` reads them, for a search or a table.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    TypeAdapter,
    model_validator,
)

from spurious.description.marks import Within
from spurious.description.quantities import (
    Angle,
    Budget,
    Densities,
    Density,
    InverseDensity,
    Length,
)
from spurious.description.section import Section


def _entry(given: Any) -> Section:
    """Any entry of `attacks`; their union holds the sections below, so it is looked up late."""
    from spurious.config.perturbations import Perturbation

    entry: Section = TypeAdapter(Perturbation).validate_python(given)
    return entry


Entry = Annotated[SerializeAsAny[Section], BeforeValidator(_entry)]


class Matching(Section):
    """An amplitude chosen so that the mean squared change equals that of another entry.

    `sign` is that of the amplitude.
    """

    match: Entry
    sign: Literal[-1, 1] = 1


def _amplitude_kind(value: Any) -> str:
    given = isinstance(value, Matching) or (isinstance(value, dict) and "match" in value)
    return "match" if given else "plain"


T = TypeVar("T")
# Told apart before validation, so that an error names one of them and not both.
Matchable = Annotated[
    Annotated[T, Tag("plain")] | Annotated[Matching, Tag("match")], Discriminator(_amplitude_kind)
]


class Logistic(Section):
    """The paper's systematic (Eq. 3): x + beta / (1 + exp(a x + b))."""

    kind: Literal["logistic"]
    a: InverseDensity
    b: float
    beta: Matchable[Density]


class Calibration(Section):
    """Error of the calibration curve: a monotone spline in density through few knots."""

    kind: Literal["calibration"]
    amplitude: Matchable[Annotated[float, Within(-5, 5)]] = Field(
        1.0, description="factor on all log_slopes"
    )
    knots: Densities = Field(description="where the curve bends; straight beyond the last")
    log_slopes: tuple[Annotated[float, Within(-1, 1)], ...] = Field(
        description="ln of the mean slope between neighbouring knots"
    )

    @model_validator(mode="after")
    def _fits(self) -> Calibration:
        if len(self.log_slopes) != len(self.knots.values) - 1:
            raise ValueError(
                f"log_slopes: {len(self.log_slopes)} given, one fewer than the "
                f"{len(self.knots.values)} knots are needed"
            )
        return self


class Saturation(Section):
    """Detector saturation: the density's power falls by `strength` above the threshold."""

    kind: Literal["saturation"]
    strength: Matchable[Annotated[float, Within(0, 1)]]
    threshold: Annotated[Density, Within(1, 1e5)]
    sharpness: Annotated[float, Within(0.5, 20)] = 4.0


class GainDrift(Section):
    """Multiplicative gain that drifts across the field."""

    kind: Literal["gain_drift"]
    amplitude: Matchable[Annotated[float, Within(-0.5, 0.5)]] = Field(description="relative")
    angle: Annotated[Angle, Within(-360, 360)] = Field(
        Angle(value=0.0, unit="deg"), description="from a map's first axis towards its second"
    )
    order: int = Field(1, ge=1, le=8, description="waves across the field")


class Stripes(Section):
    """Offsets between bands of the field that were scanned one by one."""

    kind: Literal["stripes"]
    amplitude: Matchable[Budget] = Field(description="RMS of the offsets")
    stripes: int = Field(16, ge=2, le=4096, description="bands across the field")
    axis: Literal[0, 1] = Field(0, description="axis of a map along which a stripe runs")


class Masked(Section):
    """Holes filled in by interpolation."""

    kind: Literal["masked"]
    blend: Matchable[Annotated[float, Within(0, 1)]] = Field(1.0, description="1: filled in")
    fraction: Annotated[float, Within(0, 0.5)] = Field(description="share of pixels in holes")
    radius: Annotated[Length, Within(0, 50)] = Field(description="of a hole")


class Beam(Section):
    """Gaussian point-spread function whose width is not the one assumed."""

    kind: Literal["beam"]
    mismatch: Matchable[Annotated[float, Within(-0.5, 1)]] = Field(
        description="relative error of the width"
    )
    fwhm: Annotated[Length, Within(0, 50)] = Field(description="assumed width at half maximum")


class Baryons(Section):
    """Matter that feedback drives out of peaks."""

    kind: Literal["baryons"]
    amplitude: Matchable[Annotated[float, Within(-0.5, 0.5)]] = Field(
        description="share of the matter that is moved; negative: into peaks"
    )
    scale: Annotated[Length, Within(0, 20)] = Field(description="how far")
    threshold: Annotated[Density, Within(0, 1e5)] = Field(
        Density(value=0.0, unit="count"), description="density above which matter is moved"
    )


class CorrelatedNoise(Section):
    """Gaussian noise with the power spectrum k^index."""

    kind: Literal["correlated_noise"]
    rms: Matchable[Budget]
    index: Annotated[float, Within(-4, 2)]


class GaussianNoise(Section):
    """Control: white Gaussian noise."""

    kind: Literal["gaussian_noise"]
    rms: Matchable[Budget]


class ShuffledPixels(Section):
    """Control: another entry's change with its pixels in random order."""

    kind: Literal["shuffled_pixels"]
    of: Entry


class ShuffledPhases(Section):
    """Control: another entry's change with random phases."""

    kind: Literal["shuffled_phases"]
    of: Entry


Systematic = Annotated[
    Logistic
    | Calibration
    | Saturation
    | GainDrift
    | Stripes
    | Masked
    | Beam
    | Baryons
    | CorrelatedNoise
    | GaussianNoise
    | ShuffledPixels
    | ShuffledPhases,
    Field(discriminator="kind"),
]


def ranges(section: Section | type[Section]) -> dict[str, tuple[float, float, str]]:
    """Name -> (low, high, unit) of the numbers of an entry, or a section, that have limits.

    The limits are those of physical plausibility, for kinds of this package and any other.
    """
    section = section if isinstance(section, type) else type(section)
    found = {}
    for name, field in section.model_fields.items():
        for limits, unit in _limits(field.annotation, tuple(field.metadata)):
            found[name] = (limits.low, limits.high, unit)
    return found


def _limits(annotation: Any, metadata: tuple[Any, ...]) -> list[tuple[Within, str]]:
    """Every `Within` of a type, with the unit of the quantity that it limits."""
    here = [(limits, _unit(annotation)) for limits in metadata if isinstance(limits, Within)]
    inner, *marks = get_args(annotation) or (None,)
    if hasattr(annotation, "__metadata__"):
        return here + _limits(inner, tuple(marks))
    members = [_limits(member, ()) for member in get_args(annotation)]
    return here + [pair for member in members for pair in member]


def _unit(quantity: Any) -> str:
    fields = getattr(quantity, "model_fields", {})
    return str(get_args(fields["unit"].annotation)[0]) if "unit" in fields else ""
