"""The rule of names, under the path that the stages import."""

from spurious.description.names import (
    LONGEST,
    RULE,
    AttackName,
    Name,
    PosteriorName,
    ScaleName,
    Word,
    checked,
    is_name,
)
from spurious.errors import cut, shown

__all__ = [
    "LONGEST",
    "RULE",
    "AttackName",
    "Name",
    "PosteriorName",
    "ScaleName",
    "Word",
    "checked",
    "cut",
    "is_name",
    "shown",
]
