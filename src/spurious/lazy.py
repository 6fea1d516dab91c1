"""TensorFlow, imported when it is first used: it takes seconds, and reading params.yaml does not.

`from spurious.lazy import tf` stands in for `import tensorflow as tf` in modules of classes that
describe entries of params.yaml. Such a module must not use `tf` while it is imported.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["tf"]


class _TensorFlow(ModuleType):
    """Looks like the module, and becomes it at the first look."""

    def __getattr__(self, name: str) -> Any:
        import tensorflow

        found = getattr(tensorflow, name)
        setattr(self, name, found)
        return found


if not TYPE_CHECKING:
    tf = _TensorFlow("tensorflow")
