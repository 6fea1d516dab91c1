"""How a network is defended while it is trained: the `defence` of an entry of `posteriors`.

Each kind is a frozen dataclass in a file of its own, whose fields are those of the entry; a kind
with a dot is the import path of one that is not of this package. None is imported before an entry
names it.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from inspect import isclass
from typing import Annotated, Any

from spurious.description.lookup import OneOf, found
from spurious.description.section import Entry
from spurious.training.defence import Defence as Described


class _OneDefence(OneOf):
    """As for all kinds, but an import path must lead to a defence."""

    def _class(self, kind: Any) -> type:
        if not (isinstance(kind, str) and "." in kind):
            return super()._class(kind)
        one: Any = found(kind)
        if not (isclass(one) and issubclass(one, Described) and is_dataclass(one)):
            name = kind.rpartition(".")[2]
            raise ValueError(f"{name} must be a dataclass that extends spurious.Defence")
        return one


Defence = Annotated[Entry, _OneDefence("defence")]
