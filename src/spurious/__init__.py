"""Measures how easily a network that infers cosmology from maps can be fooled.

The names below are the public API. They are imported on first use, because TensorFlow takes
seconds to load and `spurious --help` should not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spurious import startup

if TYPE_CHECKING:
    from spurious.cosmology import Cosmology as Cosmology
    from spurious.damage import measure as measure
    from spurious.data.camels import read_camels as read_camels
    from spurious.data.hdf5 import join_maps as join_maps
    from spurious.data.hdf5 import read_maps as read_maps
    from spurious.data.hdf5 import write_maps as write_maps
    from spurious.data.maps import MapSet as MapSet
    from spurious.data.maps import Standardiser as Standardiser
    from spurious.data.splits import split as split
    from spurious.description.marks import Doc as Doc
    from spurious.description.marks import Held as Held
    from spurious.description.marks import Searched as Searched
    from spurious.description.marks import Within as Within
    from spurious.networks.head import Head as Head
    from spurious.networks.preset import PixelPreset as PixelPreset
    from spurious.networks.preset import Preset as Preset
    from spurious.perturbations.effect import Effect as Effect
    from spurious.perturbations.gradient import BIM as BIM
    from spurious.perturbations.gradient import FGSM as FGSM
    from spurious.perturbations.gradient import PGD as PGD
    from spurious.perturbations.noise import RandomSign as RandomSign
    from spurious.perturbations.perturb import perturb as perturb
    from spurious.perturbations.systematics import Logistic as Logistic
    from spurious.posteriors.posterior import Posterior as Posterior
    from spurious.posteriors.scaling import Scaling as Scaling
    from spurious.posteriors.trained import load as load_posterior  # noqa: F401
    from spurious.simulation import simulate as simulate
    from spurious.training.defence import Defence as Defence
    from spurious.training.defended import Defended as Defended

__version__ = "0.2.0"

startup.quieten()

_HOME = {
    "BIM": ("spurious.perturbations.gradient", "BIM"),
    "Cosmology": ("spurious.cosmology", "Cosmology"),
    "Defence": ("spurious.training.defence", "Defence"),
    "Defended": ("spurious.training.defended", "Defended"),
    "Doc": ("spurious.description.marks", "Doc"),
    "Effect": ("spurious.perturbations.effect", "Effect"),
    "FGSM": ("spurious.perturbations.gradient", "FGSM"),
    "Head": ("spurious.networks.head", "Head"),
    "Held": ("spurious.description.marks", "Held"),
    "Logistic": ("spurious.perturbations.systematics", "Logistic"),
    "MapSet": ("spurious.data.maps", "MapSet"),
    "PGD": ("spurious.perturbations.gradient", "PGD"),
    "Posterior": ("spurious.posteriors.posterior", "Posterior"),
    "PixelPreset": ("spurious.networks.preset", "PixelPreset"),
    "Preset": ("spurious.networks.preset", "Preset"),
    "RandomSign": ("spurious.perturbations.noise", "RandomSign"),
    "Scaling": ("spurious.posteriors.scaling", "Scaling"),
    "Searched": ("spurious.description.marks", "Searched"),
    "Standardiser": ("spurious.data.maps", "Standardiser"),
    "Within": ("spurious.description.marks", "Within"),
    "measure": ("spurious.damage", "measure"),
    "load_posterior": ("spurious.posteriors.trained", "load"),
    "join_maps": ("spurious.data.hdf5", "join_maps"),
    "perturb": ("spurious.perturbations.perturb", "perturb"),
    "read_camels": ("spurious.data.camels", "read_camels"),
    "read_maps": ("spurious.data.hdf5", "read_maps"),
    "simulate": ("spurious.simulation", "simulate"),
    "split": ("spurious.data.splits", "split"),
    "write_maps": ("spurious.data.hdf5", "write_maps"),
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
