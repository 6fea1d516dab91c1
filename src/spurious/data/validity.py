"""What a data set may hold: one line that names file, row and value where it holds anything else.

A stage that trusts its maps makes tables of nonsense from a negative pixel or a label that is no
number. All files of maps are checked here, once, by those who read them: in two passes over the
pixels and with no copy of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spurious.errors import UserError

# Of what the simulations can make; a parameter of any other name may have any finite value.
LIMITS = {"omega_m": (0.0, 1.0), "sigma_8": (0.0, 10.0)}
KINDS = {"maps": "fiu", "labels": "fiu", "fields": "fiu"}  # all else are whole numbers


def check_kind(path: Path, name: str, dtype: np.dtype) -> None:
    """Refuse an array whose type cannot be meant, such as text, or seeds with a fraction."""
    if dtype.kind not in KINDS.get(name, "iu"):
        wanted = "real" if name in KINDS else "whole"
        raise UserError(f"{path}: {name} are of type {dtype}: must be {wanted} numbers")


def check_maps(path: Path, maps: np.ndarray, name: str = "maps") -> None:
    """Refuse densities that are not finite or are negative, and maps without any structure.

    Args:
        path: of the file, which the message names.
        maps: (n, ...), a map a row.
        name: what the message calls the array.

    Raises:
        UserError: one line with the first such row, pixel and value.
    """
    if not maps.size:
        raise UserError(f"{path}: {name} have shape {maps.shape}: there must be at least one")
    rows = maps.reshape(len(maps), -1)
    low, high = rows.min(axis=1), rows.max(axis=1)  # both are NaN where a pixel is
    for row in np.flatnonzero(~((low >= 0) & (high < np.inf)))[:1]:
        pixel = np.argwhere(~(np.isfinite(maps[row]) & (maps[row] >= 0)))[0]
        place, value = ", ".join(map(str, pixel)), maps[row][tuple(pixel)]
        raise UserError(
            f"{path}: row {row} of {name} has {value:.6g} at pixel ({place}): must be a density, "
            "finite and not below 0, and not its logarithm"
        )
    for row in np.flatnonzero(low == high)[:1]:
        raise UserError(
            f"{path}: row {row} of {name} has {low[row]:.6g} in all its pixels: a map that is the "
            "same everywhere has no power spectrum"
        )


def check_labels(
    path: Path,
    labels: np.ndarray,
    names: Sequence[str],
    simulated: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Refuse parameters that are not finite, that no simulation can have, or that none here has.

    Args:
        path: of the file, which the message names.
        labels: (n, p).
        names: of the p parameters.
        simulated: the least and the greatest value of a parameter in the design of the
            simulations, where it is known.

    Raises:
        UserError: one line with the first such row, its parameter and its value.
    """
    for name, values in zip(names, labels.T, strict=True):
        low, high = LIMITS.get(name, (-math.inf, math.inf))
        for row in np.flatnonzero(~((values > low) & (values < high)))[:1]:
            allowed = f"between {low:g} and {high:g}" if name in LIMITS else "a finite number"
            raise UserError(f"{path}: row {row} has {name} = {values[row]:.6g}: must be {allowed}")
        least, most = (simulated or {}).get(name, (low, high))
        for row in np.flatnonzero((values < least) | (values > most))[:1]:
            raise UserError(
                f"{path}: row {row} has {name} = {values[row]:.6g}: only values from {least:g} to "
                f"{most:g} were simulated"
            )


def check_simulations(
    path: Path, index: np.ndarray, labels: np.ndarray, seeds: np.ndarray, names: Sequence[str]
) -> None:
    """Refuse maps that are said to be of one simulation but have different parameters or seeds.

    Raises:
        UserError: one line with the two rows and what differs.
    """
    _, first, place = np.unique(index, return_index=True, return_inverse=True)
    owner = first[place.reshape(-1)]
    for name, values in (*zip(names, labels.T, strict=True), ("seed", seeds)):
        for row in np.flatnonzero(values != values[owner])[:1]:
            raise UserError(
                f"{path}: row {row} has {name} = {values[row]} and row {owner[row]} "
                f"{values[owner[row]]}, but both have index = {index[row]}: maps of one "
                "simulation share its parameters and its seed"
            )


def check_about(path: Path, names: Sequence[str], unit: str, box_size: float) -> None:
    """Refuse attributes that say nothing.

    Raises:
        UserError: one line with the attribute, its value and what is allowed.
    """
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise UserError(f"{path}: names = {list(names)}: must name each parameter once")
    if not unit.strip():
        raise UserError(f"{path}: unit = {unit!r}: must say in which unit the maps are")
    if not (math.isfinite(box_size) and box_size > 0):
        raise UserError(
            f"{path}: box_size = {box_size}: must be the side of a map in Mpc/h, finite and above 0"
        )
