"""The identity of a trained model: stored in its file, and compared when a stage reads it.

Otherwise a file that was copied over another, or was trained on other maps or settings, would give
wrong tables that look right.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from spurious.config import Config, Network
from spurious.data import hdf5
from spurious.errors import UserError
from spurious.networks.model_files import read_identity
from spurious.pipeline.layout import Layout
from spurious.posteriors import trained as inference
from spurious.posteriors.trained import NetworkPosterior
from spurious.tracking import flatten

PACKAGES = ("spurious", "keras", "tensorflow")
FRACTIONS = ("test_fraction", "validation_fraction")  # all that an estimator has of a training


def expected(config: Config, name: str, training: int) -> dict[str, Any]:
    """The identity that params.yaml and the maps of its scale give to a training.

    Raises:
        UserError: the maps are missing or damaged.
    """
    settings = config.posteriors[name]
    if isinstance(settings, Network):
        shared = settings.trained(config.training).model_dump(mode="json")
    else:
        shared = config.training.model_dump(mode="json", include=set(FRACTIONS))
    own = settings.model_dump(mode="json", exclude={"trainings", "training"})
    path = Layout(config.scale).maps.absolute()
    return {
        "scale": config.scale,
        "posterior": name,
        "training": training,
        "maps": _fingerprint(path, path.stat().st_mtime_ns if path.is_file() else 0),
        "root_seed": config.seed,  # decides which maps are tested
        "settings": {**own, "training": shared},
    }


def made(config: Config, name: str, training: int) -> dict[str, Any]:
    """The same with the versions that made it, which the file records but no stage compares."""
    versions = {package: metadata.version(package) for package in PACKAGES}
    return {**expected(config, name, training), "versions": versions}


def check(config: Config, name: str, training: int) -> Path:
    """The file of a training, if its identity is right; does not read its weights.

    Raises:
        UserError: it is missing, damaged, or something else; one line with what differs.
    """
    path = Layout(config.scale).posterior(name, training)
    if not path.is_file():
        raise UserError(f"{path} is missing: make it with `spurious train`")
    again = f"make it again with `spurious train {name}`"
    found = flatten(read_identity(path))
    if not found:
        raise UserError(f"{path} does not say what it is, as a file of `spurious train`: {again}")
    for key, value in flatten(expected(config, name, training)).items():
        if key not in found or found[key] != value:
            says, wanted = _short(found.get(key)), _short(value)
            raise UserError(f"{path} is of {key} = {says}, not {wanted}: {again}")
    return path


def load(config: Config, name: str, training: int = 1) -> NetworkPosterior:
    """A training of a posterior, read from its file.

    Raises:
        UserError: it is missing, damaged, or something else.
    """
    return inference.load(check(config, name, training))


@lru_cache(maxsize=8)
def _fingerprint(path: Path, modified: int) -> str:
    """Fingerprint of the maps; a file without checksums is read only once."""
    return hdf5.fingerprint(path)


def _short(value: Any) -> str:
    """A value as a message shows it; the first digits of a fingerprint are enough."""
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
