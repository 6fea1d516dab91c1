"""How a network is defended while it is trained: the `defence` of an entry of `posteriors`.

Each kind is a frozen dataclass in a file of its own, whose fields are those of the entry; a kind
with a dot is the import path of one that is not of this package. None is imported before an entry
names it.
"""

from __future__ import annotations

from typing import Annotated

from spurious.description.lookup import OWN_BASES, OneOf, extending
from spurious.description.section import Entry

Defence = Annotated[Entry, OneOf("defence", own=extending(OWN_BASES["defence"]))]
