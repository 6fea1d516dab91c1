"""Schemas of results that other stages read: the keys they need, and what these must hold.

A file may have more keys. Reading checks the values and returns them unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)

from spurious.errors import UserError, shown
from spurious.files import read_json
from spurious.params import one_line

METRICS = (
    "rmse", "r2", "relative_error", "sigma", "z_mean", "z_rms", "coverage_68", "coverage_95",
)  # fmt: skip
AGAIN = "the stage that wrote it must run again"


class Result(BaseModel):
    """Part of a file: numbers must be finite; further keys are allowed."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True)


class PerParameter(Result):
    """Intervals whose keys name the parameters, such as `shift_omega_m`; whichever they are.

    Attributes:
        KEYS: of the intervals, with {} in the place of a parameter.
    """

    model_config = ConfigDict(extra="allow")
    KEYS: ClassVar[tuple[str, ...]]

    @property
    def parameters_named(self) -> list[str]:
        """Those that any of the keys names."""
        given = self.__pydantic_extra__ or {}
        patterns = [re.compile(key.format("(.+)")) for key in self.KEYS]
        found = (match[1] for key in given for one in patterns if (match := one.fullmatch(key)))
        return list(dict.fromkeys(found))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        given = self.__pydantic_extra__ or {}
        for key in self.KEYS:
            for name in self.parameters_named or ["PARAMETER"]:
                if (place := key.format(name)) not in given:
                    raise ValueError(f"{place}: missing")
                try:
                    Interval.model_validate(given[place], strict=True)
                except ValidationError as error:
                    raise ValueError(f"{place}: {one_line(error, given[place])}") from None
        return self


class Interval(Result):
    """A mean with its interval."""

    mean: float
    low: float
    high: float


class Hurt(Result):
    """Damage to a posterior that saw the maps."""

    kl_perturbed_clean: Interval


class Change(Result):
    """The change of a mean spectrum, bin by bin."""

    mean_change: list[float]


class Spectrum(Result):
    """Changes of the mean spectra."""

    k: list[float] = Field(min_length=1)
    cosmic_variance: list[float]
    raw: Change
    contrast: Change


class Parameters(Result):
    """Of a perturbation, in counts; the report quotes a step size."""

    alpha: float | None = None


class Summary(Result):
    """What the metrics file of a group has of an attack."""

    n_maps: int
    kl_perturbed_clean: Interval


_INTERVALS = [
    *(f"kl_{kind}" for kind in ("perturbed_clean", "clean_perturbed", "symmetrised")),
    *("rms_counts", "abs_mean_change"),
    *(
        f"{kind}_{spectrum}"
        for kind in ("power_change", "power_change_cosmic", "mean_power_change")
        for spectrum in ("raw", "contrast")
    ),
]
_intervals: dict[str, Any] = dict.fromkeys(_INTERVALS, (Interval, ...))


class _Row(create_model("_Intervals", __base__=PerParameter, **_intervals)):  # type: ignore[misc]
    """A row of damage; see `spurious.damage`."""

    KEYS = ("shift_{}", "abs_shift_{}")

    n_maps: int
    n_trainings: int
    largest_mean_change: float
    spectrum: Spectrum
    parameters: Parameters
    group: str
    others: dict[str, Hurt]
    retrained: Hurt | None = None


Row = _Row


class Trained(Result):
    """What `assess` reads of a training."""

    n_train: int
    n_validation: int
    n_test: int
    temperature: float


class TrainedPosterior(Trained):
    """The metrics of a posterior: its first training and all others."""

    others: list[Trained] = []


class Edge(Result):
    """Errors in a part of a parameter's range."""

    n_maps: int
    inward: Interval
    rmse: Interval
    z_rms: Interval


class _Assessed(PerParameter):
    KEYS = tuple(f"{{}}_{metric}" for metric in METRICS)

    split: str
    nll: Interval
    chi2: Interval
    tarp_deviation: float
    tarp_p_value: float
    edges: dict[str, dict[str, Edge]]

    @model_validator(mode="after")
    def _edged(self) -> Self:
        _same("edges", self.edges, self.parameters_named)
        return self


class _Alone(_Assessed):
    n_train: int
    n_validation: int
    n_test: int


class _Mixed(_Assessed):
    members: list[str]


def _is_mixed(value: Any) -> str:
    return "mixed" if isinstance(value, dict) and "members" in value else "alone"


def _same(key: str, value: Iterable[str], names: Sequence[str]) -> None:
    """Refuse a mapping that is not of these parameters."""
    for name in set(names).symmetric_difference(value):
        raise ValueError(f"{key}.{name}: " + ("missing" if name in names else "no such parameter"))


class _Fisher(Result):
    n_maps: int
    degree: int
    rmse: dict[str, float]
    rmse_with_prior: dict[str, float]
    differences: dict[str, float] | None


class _NoFisher(Result):
    left_out: str


def _is_left_out(value: Any) -> str:
    return "nothing" if isinstance(value, dict) and "left_out" in value else "forecast"


class Assess(Result):
    """`assess.json`."""

    target: str
    posteriors: dict[
        str,
        Annotated[
            Annotated[_Alone, Tag("alone")] | Annotated[_Mixed, Tag("mixed")],
            Discriminator(_is_mixed),
        ],
    ]
    ratios: dict[str, dict[str, dict[str, Interval]]]
    fisher: Annotated[
        Annotated[_Fisher, Tag("forecast")] | Annotated[_NoFisher, Tag("nothing")],
        Discriminator(_is_left_out),
    ]

    @model_validator(mode="after")
    def _target(self) -> Assess:
        if self.target not in self.posteriors:
            raise ValueError(f"target: {self.target!r} must be one of posteriors")
        names = self.posteriors[self.target].parameters_named
        for name, row in self.posteriors.items():
            _same(f"posteriors.{name}.edges", row.edges, names)
        for baseline, found in self.ratios.items():
            for name, ratio in found.items():
                _same(f"ratios.{baseline}.{name}", ratio, names)
        if isinstance(self.fisher, _Fisher):
            for key in ("rmse", "rmse_with_prior", "differences"):
                if (values := getattr(self.fisher, key)) is not None:
                    _same(f"fisher.{key}", values, names)
        return self


class _Check(Result):
    passed: bool | None
    value: float | None
    threshold: float
    sentence: str
    page: str


class Audit(Result):
    """`audit.json`."""

    checks: dict[str, _Check]


class _Pair(Result):
    first: str
    second: str
    kl_symmetrised: Interval


class Compare(Result):
    """`compare.json`."""

    pairs: list[_Pair]


class _Judgement(Result):
    verdict: str
    by: list[str]
    best: str
    auroc: Interval
    least_auroc: float
    n_maps: int
    detectors: list[str]


class _Noticed(Result):
    judgement: _Judgement


Detection = dict[str, _Noticed]
"""`detection.json`."""


class _Nothing(Result):
    """A family of which no proposal had a finite value."""

    feasible: bool


class _Wider(Result):
    feasible: bool
    kl: float
    at_bound: list[str]


class _Heights(Result):
    fences: dict[str, float]


class _Winner(Result):
    parameters: dict[str, float]
    feasible: bool
    holds: bool
    at_bound: list[str]
    beyond: list[str]
    wider: _Wider | None
    kl: float
    kl_confirmed: Interval
    confirmed: _Heights
    transfer: dict[str, Hurt]
    transfers_to: list[str]
    row: Row


def _is_found(value: Any) -> str:
    return "found" if isinstance(value, dict) and {"parameters", "row"} & set(value) else "nothing"


class _Gain(Result):
    gain: float
    kl: Interval


class Search(Result):
    """`search.json`."""

    families: dict[
        str,
        Annotated[
            Annotated[_Winner, Tag("found")] | Annotated[_Nothing, Tag("nothing")],
            Discriminator(_is_found),
        ],
    ]
    limits: dict[str, float]
    confidence: float
    n_search: int
    n_confirm: int
    kl_paper: float
    change_paper: float
    pure_gain: _Gain | None

    @model_validator(mode="after")
    def _measured(self) -> Search:
        for name, family in self.families.items():
            known = family.confirmed.fences if isinstance(family, _Winner) else self.limits
            for fence in self.limits:
                if fence not in known:
                    raise ValueError(f"families.{name}.confirmed.fences.{fence}: missing")
        return self


class _Hit(Result):
    """The worst systematic of a family; no numbers if none keeps within the fences."""

    kind: str
    seen: bool
    found_on: str | None
    kl: Interval | None
    rejected: Interval | None


class _Quality(PerParameter):
    KEYS = tuple(f"{{}}_{metric}" for metric in ("rmse", "z_rms", "coverage_68", "coverage_95"))

    nll: Interval
    rejected: Interval


class _Proved(Result):
    std: float
    shift: dict[str, Interval | None]


class _Bounded(Result):
    """Damage where P(k) is kept, and the checks of that attack."""

    damage: Interval
    unproven: list[str]
    checks: dict[str, _Check]


class _Defence(Result):
    kind: str
    unproven: list[str]
    checks: dict[str, _Check]
    damage: Interval
    bounded: _Bounded
    damage_left: float
    rejected: Interval
    information: Interval
    clean: _Quality
    inside: _Quality | None
    families: dict[str, _Hit]
    certified: list[_Proved]


class _Budget(Result):
    value: float
    unit: str


class Defences(Result):
    """`defences.json`."""

    target: str
    winner: str | None
    epsilon: _Budget
    fraction: float
    n_attacked: int
    keep: float
    inside: list[str]
    defences: dict[str, _Defence]

    @model_validator(mode="after")
    def _compared(self) -> Defences:
        if self.target not in self.defences:
            raise ValueError(f"target: {self.target!r} must be one of defences")
        first = list(next(iter(self.defences.values())).families)
        for name, row in self.defences.items():
            if list(row.families) != first:
                raise ValueError(f"defences.{name}.families: must be {', '.join(first)}")
        return self


class Verify(Result):
    """`verify.json`."""

    n_maps: int
    max_difference: float
    tolerance: float


def read(path: Path, schema: Any) -> Any:
    """Read a result.

    Raises:
        UserError: the file is missing or damaged, or a key that is needed is missing or holds
            something else.
    """
    value = read_json(path)
    check(path, value, schema)
    return value


def check(path: Path, value: Any, schema: Any) -> None:
    """Refuse what a file holds if it is not as its readers need it.

    Raises:
        UserError: one line that names the file and the key.
    """
    if not isinstance(value, dict):
        raise UserError(f"{path}: must be a mapping, not {shown(value)}; {AGAIN}")
    try:
        _adapter(schema).validate_python(value, strict=True)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error, value)}; {AGAIN}") from None


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)
