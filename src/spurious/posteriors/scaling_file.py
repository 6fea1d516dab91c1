"""A `Scaling` as a YAML file: the units of a user's own model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from spurious.data.maps import Standardiser
from spurious.description.section import Section
from spurious.errors import UserError
from spurious.files import beside
from spurious.params import constructed, one_line
from spurious.posteriors.scaling import Inputs, Scaling


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
    given = _read(path)
    try:
        file = ScalingFile.model_validate(given)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error, given)}") from None
    labels = {name: (label.shift, label.scale) for name, label in file.labels.items()}
    try:
        return Scaling(Standardiser(file.maps.mean, file.maps.std), labels, file.inputs)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _read(path: Path) -> Any:
    try:
        return constructed(Path(path).read_text(encoding="utf-8"), path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(
            f"{path} is missing: see docs/own_model.md for what it says{beside(path)}"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number that is none
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
