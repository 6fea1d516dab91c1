"""Designs: which cosmologies a suite simulates.

A grid and a list name cosmologies that are dealt to the simulations in turn. A Latin hypercube
and a Sobol sequence give each simulation its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import qmc

from spurious import config, seeds
from spurious.cosmology import Cosmology
from spurious.errors import UserError
from spurious.files import beside

COLUMNS = ("omega_m", "sigma_8")


def nodes(
    design: config.Design,
    simulations: int,
    root_seed: int,
    background: config.Background | None = None,
) -> np.ndarray:
    """The (Omega_m, sigma_8) of a design; simulation i is at row i modulo their number.

    Args:
        design: what params.yaml says.
        simulations: how many there will be. Only a Latin hypercube and a Sobol sequence depend on
            it; the points of a longer Sobol sequence begin with those of a shorter one.
        root_seed: root of all random draws; a grid and a list draw none.
        background: what a listed cosmology must be possible with; default: Planck 2015.

    Returns:
        (n_nodes, 2); sigma_8 runs fastest in a grid.

    Raises:
        UserError: the file of a list is missing, or a line of it describes no universe.
    """
    if isinstance(design, config.Grid):
        axes = design.omega_m.values(), design.sigma_8.values()
        return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)
    if isinstance(design, config.Listed):
        return _read(design.path, background or config.Background())
    unit = _unit_square(design, simulations, root_seed)
    low = [design.omega_m.low, design.sigma_8.low]
    return qmc.scale(unit, low, [design.omega_m.high, design.sigma_8.high])


def spread(nodes: np.ndarray, count: int) -> np.ndarray:
    """Row numbers of up to `count` different nodes that cover a design: centre, corners, between.

    The first is the node nearest to the middle; each other is the one farthest from those before
    it, both parameters counted in units of their range.
    """
    width = np.ptp(nodes, axis=0)
    scaled = (nodes - nodes.min(axis=0)) / np.where(width > 0, width, 1)
    chosen = [int(np.argmin(np.sum((scaled - scaled.max(axis=0) / 2) ** 2, axis=1)))]
    while len(chosen) < count:
        apart = np.sum((scaled[:, None] - scaled[chosen]) ** 2, axis=2).min(axis=1)
        if not apart.max() > 0:
            break
        chosen.append(int(np.argmax(apart)))
    return np.array(chosen)


def _unit_square(
    design: config.LatinHypercube | config.Sobol, simulations: int, root_seed: int
) -> np.ndarray:
    """(simulations, 2) points of the unit square."""
    generator = seeds.generator(root_seed, "design")
    if isinstance(design, config.LatinHypercube):
        return qmc.LatinHypercube(2, rng=generator).random(simulations)
    # SciPy warns unless asked for a power of two; the first points of one are the same points.
    return qmc.Sobol(2, rng=generator).random_base2((simulations - 1).bit_length())[:simulations]


def _read(path: Path, background: config.Background) -> np.ndarray:
    """The cosmologies of a CSV file, in its order."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(_rows(path, csv.DictReader(file), background))
    except FileNotFoundError as error:
        raise UserError(f"design.path = {path}: there is no such file{beside(path)}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"design.path = {path}: cannot be read as CSV: {error}") from error
    if not rows:
        raise UserError(f"{path}: must have at least one line below its header")
    return np.array(rows)


def _rows(
    path: Path, reader: csv.DictReader[str], background: config.Background
) -> Iterator[tuple[float, float]]:
    header = [name.strip() for name in reader.fieldnames or ()]
    for column in COLUMNS:
        if header.count(column) != 1:
            raise UserError(
                f"{path} line 1: {', '.join(header) or 'no header'}: must name the column "
                f"{column} once"
            )
    reader.fieldnames = header
    for row in reader:
        where = f"{path} line {reader.line_num}"
        omega_m, sigma_8 = (_number(where, column, row[column]) for column in COLUMNS)
        try:
            Cosmology(omega_m, sigma_8, **background.model_dump())
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        yield omega_m, sigma_8


def _number(where: str, column: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError as error:
        raise UserError(f"{where}: {column} = {text or ''!r}: must be a number") from error
