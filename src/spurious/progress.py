"""The progress bars of all stages: on a terminal only, so that a pipe or a log has none of them."""

from __future__ import annotations

from typing import Any

import tqdm as library


class tqdm(library.tqdm):
    """The bar of that library, silent unless its file is a terminal.

    Args:
        args: as there.
        disable: whether to show none even there.
        options: as there.
    """

    def __init__(self, *args: Any, disable: bool = False, **options: Any) -> None:
        options["disable"] = disable or None  # None: unless the file is a terminal
        super().__init__(*args, **options)
