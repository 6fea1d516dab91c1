"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)
PARAMS = click.option(
    "--params",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("params.yaml"),
    show_default=True,
    help="File with all parameters.",
)
SCALE = click.option(
    "--scale", help="Which of the file's profiles.  [default: first of run.scales]"
)


def own_model(function: Callable[..., None]) -> Callable[..., None]:
    """Options for a model and maps that this package did not make."""
    for option in (
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            help="With --model: folder of the results.  [default: results/own/MODEL]",
        ),
        click.option(
            "--import",
            "imports",
            multiple=True,
            metavar="MODULE",
            help="With --model: a Python module to import first, which registers layers of your "
            "own; from the current folder or installed. May be given several times.",
        ),
        click.option(
            "--scaling",
            type=FILE,
            help="With --model: YAML that says in which units it was trained; a model of this "
            "package needs none, nor does a function of maps in counts.",
        ),
        click.option("--maps", type=FILE, help="With --model: the maps to attack."),
        click.option(
            "--model",
            help="A model of your own: a .keras file, the folder of a SavedModel, or "
            "MODULE:FUNCTION of your Python code.",
        ),
    ):
        function = option(function)
    return function


def without_model(own: Mapping[str, Any]) -> None:
    """Refuse what only goes with --model.

    Raises:
        UserError: it was given.
    """
    from spurious.errors import UserError

    for name, value in own.items():
        if value:
            option = "import" if name == "imports" else name
            given = " ".join(value) if isinstance(value, tuple) else value
            raise UserError(f"--{option} {given}: only goes with --model")


def refuse_beside(option: str, others: Mapping[str, Any]) -> None:
    """Refuse options that have no meaning beside another.

    Raises:
        UserError: one of them was given.
    """
    from spurious.errors import UserError

    for name, value in others.items():
        if value is not None:
            raise UserError(f"{name} {value}: does not go with {option}")


def maps_of(model: str, own: Mapping[str, Any]) -> Path:
    """The maps on which a model is attacked.

    Raises:
        UserError: there are none.
    """
    from spurious.errors import UserError

    if own["maps"] is None:
        raise UserError(f"--maps is missing: the maps on which {model} is attacked")
    return Path(own["maps"])
