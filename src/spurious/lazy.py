"""TensorFlow and Keras, imported when first used: that takes seconds, and params.yaml needs none.

`from spurious.lazy import tf` stands in for `import tensorflow as tf`, `from spurious.lazy import
keras` for `import keras`, in modules of classes that describe entries of params.yaml. Such a module
must not use either while it is imported.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

__all__ = ["keras", "tf"]


class _Lazy(ModuleType):
    """Looks like a module, and becomes it at the first look."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(import_module(self.__name__), name)
        setattr(self, name, found)
        return found


if not TYPE_CHECKING:
    keras = _Lazy("keras")
    tf = _Lazy("tensorflow")
