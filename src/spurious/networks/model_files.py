"""Models as Keras 3 saves them, read without running code that is stored in the file.

A file of this package has one member more than Keras gives it, `spurious.json`: what the model is,
as the stage says that made it. It is inside, so that a file copied over another is noticed.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from spurious.errors import UserError
from spurious.files import absent

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
IDENTITY = "spurious.json"
SHARED = "shared_object_id"  # key of Keras's configurations
# Of Keras, what a layer may name as a function: the others act, on files, settings or the network.
FUNCTIONS = ("keras.activations", "keras.src.activations", "keras.ops", "keras.src.ops")
TEXT = 2**23  # bytes of a JSON member at most; the largest network here has 60 kB
RATIO = 100  # to which a member may be packed; Keras packs none
OLD = (
    "is a file of Keras 2 (tf_keras), which Keras 3 does not read: name a function of yours that "
    "calls the model, --model MODULE:FUNCTION, or export a SavedModel of its means and scales; see "
    "docs/own_model.md"
)
DAMAGE = (
    KeyError, ValueError, OSError, EOFError, NotImplementedError, RuntimeError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_model(path: Path | str) -> keras.Model:
    """A Keras model, read in safe mode.

    Raises:
        UserError: the file is missing, damaged, not Keras 3's, or needs code that is not there or
            must not be run; or a weight is not finite.
    """
    with _opened(path) as archive:
        try:
            _check_members(archive)
            config = json.loads(_text(archive, CONFIG))
            layers = list(_layers(config))
            metadata = json.loads(_text(archive, METADATA))
        except DAMAGE as error:
            raise UserError(f"{path} is damaged: {reason(error)}") from error
    old = isinstance(metadata, dict) and _is_old(metadata.get("keras_version"))
    _check_functions(path, config)
    lambdas = [name for kind, name in layers if kind == "Lambda"]
    if lambdas and old:
        raise UserError(f"{path} {OLD}")
    if lambdas:
        raise UserError(
            f"{path} has the Lambda layer {lambdas[0]!r}, which would run code stored in the file: "
            "use keras.ops or a registered layer in its place"
        )
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the damage provokes
        raise UserError(f"{path} {OLD}" if old else _unreadable(path, error)) from error
    _check_weights(path, model)
    return model


def read_identity(path: Path | str) -> dict[str, Any]:
    """What a model file says it is; empty if it says nothing.

    Raises:
        UserError: the file is missing or damaged.
    """
    with _opened(path) as archive:
        try:
            if IDENTITY not in archive.namelist():
                return {}
            return dict(json.loads(_text(archive, IDENTITY)))
        except (*DAMAGE, TypeError) as error:
            raise UserError(f"{path} is damaged: {IDENTITY}: {reason(error)}") from error


def finish(path: Path, identity: Mapping[str, Any]) -> None:
    """Write an archive of Keras anew: with what the model is, and equal for equal models.

    Keras writes the time of day, and for objects that layers share their addresses in memory.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(members[METADATA])
    members[METADATA] = json.dumps({**metadata, "date_saved": ""}).encode()
    members[CONFIG] = json.dumps(_renumbered(json.loads(members[CONFIG]), {})).encode()
    if identity:
        members[IDENTITY] = json.dumps(dict(identity), indent=2, sort_keys=True).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)


def _renumbered(config: Any, numbers: dict[int, int]) -> Any:
    """A configuration whose shared objects are numbered as they come, not by their addresses."""
    if isinstance(config, dict):
        return {
            key: numbers.setdefault(value, len(numbers) + 1)
            if key == SHARED
            else _renumbered(value, numbers)
            for key, value in config.items()
        }
    return [_renumbered(one, numbers) for one in config] if isinstance(config, list) else config


def _opened(path: Path | str) -> zipfile.ZipFile:
    if not Path(path).is_file():
        raise UserError(absent(path))
    if Path(path).suffix != ".keras" or not zipfile.is_zipfile(path):
        if _is_old(_version_of_hdf5(path)):
            raise UserError(f"{path} {OLD}")
        raise UserError(f"{path} is damaged or no file of Keras 3: model.save('name.keras')")
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        raise UserError(f"{path} is damaged: {reason(error)}") from error


def _is_old(version: Any) -> bool:
    """Whether a file says that Keras 2 wrote it."""
    return str(version).startswith("2.")


def _version_of_hdf5(path: Path | str) -> Any:
    """Which Keras wrote a file in its older format; None if it is none."""
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("keras_version")
    except DAMAGE:
        return None


def _check_members(archive: zipfile.ZipFile) -> None:
    """A ValueError for what is no archive of a network and nothing else, before Keras unpacks it.

    Also if a member was changed on the disk, or is far larger than its file.
    """
    names = archive.namelist()
    if missing := [name for name in (CONFIG, METADATA, WEIGHTS) if name not in names]:
        raise ValueError(f"it has no {missing[0]}")
    known = (CONFIG, METADATA, WEIGHTS, IDENTITY)
    if more := sorted(name for name in names if name not in known or names.count(name) > 1):
        allowed = ", ".join(known)
        raise ValueError(f"it holds {more[0]!r}: must hold {allowed}, each once, nothing else")
    for member in archive.infolist():
        if member.filename != WEIGHTS and member.file_size > TEXT:
            raise ValueError(
                f"{member.filename} has {member.file_size} bytes, at most {TEXT} are allowed"
            )
        if member.file_size > TEXT + RATIO * member.compress_size:
            raise ValueError(
                f"{member.filename} is packed, {member.file_size} bytes in {member.compress_size}"
            )
    if (bad := archive.testzip()) is not None:
        raise ValueError(f"{bad} does not have its checksum")


def _text(archive: zipfile.ZipFile, name: str) -> bytes:
    """A JSON member; a ValueError if it is too large for one."""
    size = archive.getinfo(name).file_size
    if size > TEXT:
        raise ValueError(f"{name} has {size} bytes, at most {TEXT} are allowed")
    return archive.read(name)


def _check_weights(path: Path | str, model: keras.Model) -> None:
    for weight in model.weights:
        values = keras.ops.convert_to_numpy(weight)
        if np.issubdtype(values.dtype, np.integer) or values.dtype == bool:
            continue
        bad = values[~np.isfinite(values)]
        if bad.size:
            raise UserError(
                f"{path} has {bad.size} of {values.size} weights like {bad.flat[0]} in "
                f"{weight.path}: must be finite"
            )


def _check_functions(path: Path | str, config: Any) -> None:
    """Refuse a configuration that names functions of Keras which are no mathematics.

    In safe mode, Keras 3.15 still calls whatever function of its own is an operand of a node.
    """
    todo = [config]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            name, module = str(one.get("class_name")), str(one.get("module"))
            acts = name[0:1].islower() and module.split(".")[0] == "keras"
            if acts and not module.startswith(FUNCTIONS):
                called = f"{module}.{one.get('config') if name == 'function' else name}"[:100]
                raise UserError(f"{path} would call {called!r}, which is no function of a layer")
        if isinstance(one, dict | list):
            todo += one.values() if isinstance(one, dict) else one


def _layers(config: Any) -> Any:
    """(class, name) of everything in a model's configuration."""
    if isinstance(config, dict):
        inner = config.get("config")
        if "class_name" in config:
            name = inner.get("name") if isinstance(inner, dict) else None
            yield config["class_name"], name or config.get("name")
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            yield from _layers(item)


def _unreadable(path: Path | str, error: Exception) -> str:
    """Why Keras could not read a file, in one line."""
    if found := re.search(r"Could not (?:locate \w+|deserialize) '([^']*)'", str(error)):
        return (
            f"{path} needs {found[1]}, which Keras does not know: register it with "
            "keras.saving.register_keras_serializable and import its module first (--import MODULE)"
        )
    return f"{path} is damaged or cannot be read: {reason(error)}"


def reason(error: Exception) -> str:
    """The first words of an exception, without what Keras wraps around them."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = str(error).split("Exception encountered:")[-1]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", " ".join(text.split()))  # Keras sets words in bold
    plain = "".join(letter for letter in plain if letter.isprintable())
    return plain[:200] or type(error).__name__
