"""How params.yaml writes what a defence has: marks beside the types of its fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from spurious.config.attacks import Constraint
from spurious.config.names import Name
from spurious.config.quantities import Budget
from spurious.config.search import AnyFamily


@dataclass(frozen=True)
class WrittenAs:
    """A field that params.yaml writes in another type, from which `build` makes its value."""

    written: Any

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """That of the other type."""
        return handler.generate_schema(self.written)


class Size:
    """Limits of a budget: above 0, and at most the standard deviation of the data's pixels.

    A change as large as the data's own leaves nothing to infer. One in counts is compared with the
    data when the defence is built.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check after whatever the type itself checks."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    @staticmethod
    def check(budget: Budget) -> Budget:
        """The same budget.

        Raises:
            ValueError: it is too small or too large.
        """
        if not (budget.value > 0 and (budget.unit != "std" or budget.value <= 1)):
            raise ValueError(
                f"{budget.value:g} {budget.unit}: must be above 0 and at most 1 std, the standard "
                "deviation of the training maps' pixels"
            )
        return budget


CONSTRAINTS = WrittenAs(tuple[Constraint, ...])
FAMILIES = WrittenAs(dict[Name, AnyFamily])
