"""The file that says what units a model of one's own has: a `Scaling` as YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from spurious.config.quantities import UNKNOWN_KEY, Section
from spurious.errors import UserError
from spurious.inference.scaling import Inputs, Scaling
from spurious.maps import Standardiser


class Units(Section):
    """Of the pixels of the training maps, in the unit of the maps."""

    mean: float
    std: float = Field(gt=0)


class Label(Section):
    """physical = shift + scale x output."""

    shift: float
    scale: float


class ScalingFile(Section):
    """All of the file; the fields are those of `Scaling`."""

    maps: Units
    labels: dict[str, Label] = Field(min_length=1)
    inputs: Inputs = "standardised"


def read_scaling(path: Path) -> Scaling:
    """Read and check a scaling file.

    Raises:
        UserError: one line that names the key, the value and what is allowed.
    """
    try:
        given = ScalingFile.model_validate(_read(path))
    except ValidationError as error:
        raise UserError(f"{path}: {_problem(error)}") from None
    labels = {name: (label.shift, label.scale) for name, label in given.labels.items()}
    try:
        return Scaling(Standardiser(given.maps.mean, given.maps.std), labels, given.inputs)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(Path(path).read_text())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{path} is missing: see docs/own_model.md for what it says") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _problem(error: ValidationError) -> str:
    """The first problem, unknown keys before others: a misspelt one is missing too."""
    problems = sorted(error.errors(include_url=False), key=lambda e: e["type"] != UNKNOWN_KEY)
    first = problems[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == UNKNOWN_KEY:
        return f"{key}.{first['msg']}" if key else str(first["msg"])
    if first["type"] == "missing":
        return f"{key}: missing"
    return f"{key} = {first['input']!r}: {first['msg']}" if key else str(first["msg"])
