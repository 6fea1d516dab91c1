"""Keras without the libraries that it loads only because they are installed.

MLflow brings scikit-learn, Matplotlib and pandas; Keras loads them for its scikit-learn wrappers,
galleries of images and data frames, which nothing here uses. docs/performance.md says how to
measure what that costs each process.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

LEFT_OUT = frozenset({"matplotlib", "pandas", "sklearn"})
KERAS = ("keras", "keras.src", "keras._tf_keras")


def load_less() -> None:
    """Let Keras find none of `LEFT_OUT` while it is imported; all else finds them, then and later.

    What was imported before stays visible to Keras: whoever wants `keras.wrappers` imports sklearn
    first.
    """
    if not any(isinstance(one, _Absent) for one in sys.meta_path):
        sys.meta_path.insert(0, _Absent())


class _Absent(MetaPathFinder):
    """Refuses what is left out, for as long as Keras is being imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in LEFT_OUT and any(map(_is_loading, KERAS)):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def _is_loading(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))
