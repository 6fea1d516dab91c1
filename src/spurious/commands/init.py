"""`spurious init`: a params.yaml to begin with."""

from __future__ import annotations

import shutil
from pathlib import Path

from spurious import shipped
from spurious.errors import UserError
from spurious.files import replacing


def write(path: Path) -> None:
    """Write the params.yaml that ships, with its comments.

    Raises:
        UserError: the file exists.
    """
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} exists and is kept: name another with --params")
    with replacing(path) as temporary:
        shutil.copyfile(shipped.params(), temporary)
    print(f"{path}: written. Sections that you delete keep their defaults; `spurious check`")
