"""Names in params.yaml: each becomes part of a path and a word of a command, so all obey one rule.

The rule leaves nothing that a shell, a path, a table or a page of HTML reads in another way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

LONGEST = 64  # characters; a folder's name may have 255 bytes, and names are joined to others
RULE = (
    f"a name has 1 to {LONGEST} letters (a to z, A to Z), digits, _ and -, and begins with a "
    "letter or a digit"
)
_PLAIN = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{LONGEST - 1}}}")  # no -: that is an option


def is_name(value: Any) -> bool:
    """Whether the rule allows it."""
    return isinstance(value, str) and _PLAIN.fullmatch(value) is not None


def checked(value: Any) -> str:
    """The same name.

    Raises:
        ValueError: the rule does not allow it.
    """
    if not is_name(value):
        raise ValueError(RULE)
    return str(value)


def _not(reserved: dict[str, str]) -> Callable[[str], str]:
    def free(value: str) -> str:
        if value in reserved:
            raise ValueError(f"is reserved: {reserved[value]}")
        return value

    return free


Name = Annotated[str, BeforeValidator(checked)]
"""A name by the rule."""

ScaleName = Annotated[
    Name,
    AfterValidator(
        _not(
            {
                "code": "data/code has the lists of the stage `code`",
                "reference": "data/reference has FlowPM's maps",
                "released": "data/released has the sets that ship",
                "shards": "data/shards has suites that are being made",
                "checkpoints": "data/checkpoints has trainings that go on",
                "own": "results/own has the results of your own models",
            }
        )
    ),
]
"""The name of a scale: not that of a folder that all scales share."""

PosteriorName = Annotated[
    Name,
    AfterValidator(
        _not(
            {
                "tune": "its checkpoints would be those of the stage `tune`",
                "defend": "its checkpoints would be those of the stage `defend`",
                "target": "the audit calls so what is attacked",
            }
        )
    ),
]
"""The name of a posterior or of an ensemble."""

AttackName = Annotated[
    Name, AfterValidator(_not({"run_id": "a group's metrics call so the run they are from"}))
]
"""The name of an attack."""

Word = Annotated[str, Field(max_length=128, pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.:,/@+=-]*\z")]
"""A word of a job script: nothing that ends its line or that a shell reads."""
