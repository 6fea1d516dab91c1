"""Rows of a table that is not finished: a stage that is started again goes on with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spurious.files import inside, read_json, sweep, write_json

Row = dict[str, Any]


@dataclass(frozen=True)
class KeptRows:
    """The rows that are there already; may go to other processes.

    Attributes:
        folder: has one file a row, for this stage alone.
    """

    folder: Path

    def get(self, name: str, of: str, make: Callable[[], Row]) -> Row:
        """A row, made unless it is there.

        Args:
            name: of the row.
            of: identifies all that it depends on; a row of something else is made again.
            make: makes it.
        """
        path = inside(self.folder, f"{name}.json")
        if path.is_file() and (kept := read_json(path))["of"] == of:
            return dict(kept["row"])
        row = make()
        write_json(path, {"of": of, "row": row})
        return row

    def sweep(self) -> None:
        """Remove what a killed process was writing."""
        sweep(self.folder)

    def clear(self) -> None:
        """Remove all rows: the table is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)
