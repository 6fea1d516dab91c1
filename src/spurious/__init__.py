"""Measures how easily a network that infers cosmology from maps can be fooled.

The names below are the public API. They are imported on first use, because TensorFlow takes
seconds to load and `spurious --help` should not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spurious.camels import read_camels as read_camels
    from spurious.cosmology import Cosmology as Cosmology
    from spurious.damage import measure as measure
    from spurious.description.marks import Doc as Doc
    from spurious.description.marks import Held as Held
    from spurious.description.marks import Searched as Searched
    from spurious.description.marks import Within as Within
    from spurious.inference.defence import Defence as Defence
    from spurious.inference.defended import Defended as Defended
    from spurious.inference.posterior import Posterior as Posterior
    from spurious.inference.posterior import load as load_posterior  # noqa: F401
    from spurious.inference.scaling import Scaling as Scaling
    from spurious.maps import MapSet as MapSet
    from spurious.maps import Standardiser as Standardiser
    from spurious.maps import join_maps as join_maps
    from spurious.maps import read_maps as read_maps
    from spurious.maps import write_maps as write_maps
    from spurious.perturbations.effect import Effect as Effect
    from spurious.perturbations.gradient import BIM as BIM
    from spurious.perturbations.gradient import FGSM as FGSM
    from spurious.perturbations.gradient import PGD as PGD
    from spurious.perturbations.noise import RandomSign as RandomSign
    from spurious.perturbations.perturb import perturb as perturb
    from spurious.perturbations.systematics import Logistic as Logistic
    from spurious.simulation import simulate as simulate
    from spurious.splitting import split as split

__version__ = "0.2.0"

_HOME = {
    "BIM": ("spurious.perturbations.gradient", "BIM"),
    "Cosmology": ("spurious.cosmology", "Cosmology"),
    "Defence": ("spurious.inference.defence", "Defence"),
    "Defended": ("spurious.inference.defended", "Defended"),
    "Doc": ("spurious.description.marks", "Doc"),
    "Effect": ("spurious.perturbations.effect", "Effect"),
    "FGSM": ("spurious.perturbations.gradient", "FGSM"),
    "Held": ("spurious.description.marks", "Held"),
    "Logistic": ("spurious.perturbations.systematics", "Logistic"),
    "MapSet": ("spurious.maps", "MapSet"),
    "PGD": ("spurious.perturbations.gradient", "PGD"),
    "Posterior": ("spurious.inference.posterior", "Posterior"),
    "RandomSign": ("spurious.perturbations.noise", "RandomSign"),
    "Scaling": ("spurious.inference.scaling", "Scaling"),
    "Searched": ("spurious.description.marks", "Searched"),
    "Standardiser": ("spurious.maps", "Standardiser"),
    "Within": ("spurious.description.marks", "Within"),
    "measure": ("spurious.damage", "measure"),
    "load_posterior": ("spurious.inference.posterior", "load"),
    "join_maps": ("spurious.maps", "join_maps"),
    "perturb": ("spurious.perturbations.perturb", "perturb"),
    "read_camels": ("spurious.camels", "read_camels"),
    "read_maps": ("spurious.maps", "read_maps"),
    "simulate": ("spurious.simulation", "simulate"),
    "split": ("spurious.splitting", "split"),
    "write_maps": ("spurious.maps", "write_maps"),
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOME[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
