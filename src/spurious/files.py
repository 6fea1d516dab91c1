"""Files that are either whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from spurious.errors import UserError, nearest

MAKERS = {
    r"data/(?:reference|released)/.+": "fetch it with `dvc pull data.dvc`",
    r"data/verify\.csv|results/verify\.json": "make it with `spurious verify`",
    r"data/[^/]+/maps\.h5|results/[^/]+/maps\.md5": "make it with `spurious simulate`",
    r"models/[^/]+/([^/]+)/.+": r"make it with `spurious train \1`",
    r"results/[^/]+/posteriors/([^/]+?)(?:/.+|\.json)": r"make it with `spurious train \1`",
    r"results/[^/]+/(?:tune|tuning_.+)\.\w+": "make it with `spurious tune`",
    r"results/[^/]+/(?:assess|posteriors)\.\w+": "make it with `spurious assess`",
    r"data/[^/]+/attacks/search/.+": "make it with `spurious search`",
    r"(?:data|results)/[^/]+/attacks/([^/]+?)(?:/.+|\.json)": r"make it with `spurious attack \1`",
    r"results/[^/]+/(?:audit|curves|security_curves)\.\w+": "make it with `spurious audit`",
    r"results/[^/]+/(?:search/.+|(?:search|study)\.json)": "make it with `spurious search`",
    r"results/[^/]+/(?:attacks|compare|damage|detection|pareto|spectra)\.\w+": (
        "make it with `spurious compare`"
    ),
    r"results/[^/]+/defences(?:_.+)?\.\w+": "make it with `spurious defend`",
    r"results/[^/]+/(?:figure_\d|headline|metrics|overview|report)\.\w+": (
        "make it with `spurious report`"
    ),
}
"""Pattern of a path, as dvc.yaml has them -> what makes the file."""


def absent(path: Path | str) -> str:
    """`path is missing`, and what makes it; of any other file, which one was perhaps meant.

    >>> absent("results/pilot/search.json")
    'results/pilot/search.json is missing: make it with `spurious search`'
    """
    path = Path(path)
    for pattern, maker in MAKERS.items():
        if found := re.fullmatch(pattern, path.as_posix()):
            return f"{path} is missing: {found.expand(maker)}"
    return f"{path} is missing{beside(path)}"


def beside(path: Path | str) -> str:
    """`; did you mean 'two.keras'?` if what lies beside a missing file has a name like its own."""
    path = Path(path)
    with suppress(OSError, ValueError):  # there may be no such folder, nor can be
        names = sorted(one.name for one in path.parent.iterdir())
        return nearest(path.name, [name for name in names if name[0] != "."])
    return ""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` only if the block succeeds.

    A full disk, an exception or a kill leaves no half-written file under the final name.
    The temporary name keeps the suffix, because writers such as Keras choose a format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except OSError as error:
        # An open file does not name itself, and its temporary name says little.
        if error.errno is not None and error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _flush(path: Path) -> None:
    """Force the bytes to disk, so that a power cut after the rename cannot lose them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what killed processes were writing below a folder, which must have no other writer."""
    for left in Path(folder).rglob(".*.part*"):
        left.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN is refused."""
    with replacing(path) as temporary:
        text = json.dumps(value, indent=2, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or damaged file, or one with NaN, is a `UserError` that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except FileNotFoundError as error:
        raise UserError(absent(path)) from error
    except OSError as error:  # such as a folder
        raise UserError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def inside(folder: Path, name: str) -> Path:
    """The path of `name` below `folder`, a last resort for names that nobody has checked.

    The folder may be a link, as to another disk, and so may the file itself, as into DVC's cache:
    writing replaces it. No folder between them may lead elsewhere.

    Raises:
        UserError: the path is not below the folder.
    """
    folder, path = Path(folder), Path(folder) / name
    if "\0" not in name and ".." not in Path(name).parts and path != folder:
        home, parent = os.path.realpath(folder), os.path.realpath(path.parent)
        if Path(parent).is_relative_to(home):
            return path
    raise UserError(f"{str(path)!r} would lie outside of {folder}")


def md5(path: Path) -> str:
    """MD5 of a file's bytes, which is what DVC calls the file's hash."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
