"""Marks beside the fields of a defence, besides those of `spurious.description`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from spurious.description.families import AnyFamily
from spurious.description.names import Name
from spurious.description.quantities import Budget


@dataclass(frozen=True)
class WrittenAs:
    """A field that params.yaml writes in another type, from which `build` makes its value."""

    written: Any

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """That of the other type."""
        return handler.generate_schema(self.written)


class UpToStd:
    """Limits of a budget: above 0, and at most the standard deviation of the data's pixels.

    A change as large as the data's own scatter leaves nothing to infer. A budget in counts is
    compared with the data when the defence is built.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check after whatever the type itself checks."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    @staticmethod
    def _check(budget: Budget) -> Budget:
        if not (budget.value > 0 and (budget.unit != "std" or budget.value <= 1)):
            raise ValueError(
                f"must be above 0 and at most 1 std, not {budget.value:g} {budget.unit}"
            )
        return budget


FAMILIES = WrittenAs(dict[Name, AnyFamily])
