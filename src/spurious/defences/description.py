"""Marks beside the fields of a defence, besides those of `spurious.description`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spurious.description.family import AnyFamily
from spurious.description.marks import Within, WrittenAs
from spurious.description.names import Name


@dataclass(frozen=True)
class UpToStd(Within):
    """Limits of a budget: above 0, and at most the standard deviation of the data's pixels.

    A change as large as the data's own scatter leaves nothing to infer. A budget in counts is
    compared with the data when the defence is built.
    """

    low: float = 0.0
    high: float = 1.0

    def _check(self, given: Any) -> Any:
        if not (given.value > 0 and (given.unit != "std" or given.value <= 1)):
            raise ValueError(f"must be {self}, not {given.value:g} {given.unit}")
        return given

    def __str__(self) -> str:
        return "above 0 and at most 1 std"


FAMILIES = WrittenAs(dict[Name, AnyFamily], "name -> a family of systematics")
KINDS = WrittenAs(tuple[Name, ...], "a list of kinds of systematics")
