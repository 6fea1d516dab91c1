"""Perturbed maps of a group that is not finished: a stage started again goes on with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spurious.data.hdf5 import read_maps, write_maps
from spurious.data.maps import MapSet
from spurious.files import inside, read_json, replacing, sweep, write_json


@dataclass(frozen=True)
class Made:
    """The maps before and after one perturbation.

    Attributes:
        clean: the maps.
        perturbed: the same, perturbed.
        parameters: numbers that describe how, in counts.
        extras: further arrays that the perturbation returned.
    """

    clean: MapSet
    perturbed: MapSet
    parameters: dict[str, float]
    extras: dict[str, np.ndarray]

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """Clean and perturbed maps, each (n, N, N) in counts."""
        return self.clean.maps, self.perturbed.maps


@dataclass(frozen=True)
class KeptMaps:
    """The perturbations that are made already; may go to other processes.

    Attributes:
        folder: has three files each, for this stage alone.
        of: identifies all that they depend on; what is of something else is made again.
    """

    folder: Path
    of: str

    def get(self, name: str, clean: MapSet, make: Callable[[], Made]) -> Made:
        """The maps of one perturbation on one training, made unless they are there.

        Args:
            name: of both.
            clean: the maps before, which are not stored again.
            make: makes them.

        Raises:
            UserError: a stored file is damaged.
        """
        about, maps, extras = (
            inside(self.folder, f"{name}.{end}") for end in ("json", "h5", "npz")
        )
        if about.is_file() and (kept := read_json(about))["of"] == self.of:
            with np.load(extras, allow_pickle=False) as arrays:
                return Made(clean, read_maps(maps), kept["parameters"], dict(arrays))
        made = make()
        about.unlink(missing_ok=True)  # the other files are about to be another's
        write_maps(maps, made.perturbed)
        with replacing(extras) as temporary:
            np.savez(temporary, **made.extras)  # type: ignore[arg-type]  # a name may be its option's
        write_json(about, {"of": self.of, "parameters": made.parameters})
        return made

    def sweep(self) -> None:
        """Remove what a killed process was writing."""
        sweep(self.folder)

    def clear(self) -> None:
        """Remove all: the group is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
