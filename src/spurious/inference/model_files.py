"""Models as Keras 3 saves them, read without running code that is stored in the file."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import keras

from spurious.errors import UserError

MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}
# Of Keras, what a layer may name as a function: the others act, on files, settings or the network.
FUNCTIONS = ("keras.activations", "keras.src.activations", "keras.ops", "keras.src.ops")
LARGEST_CONFIG = 2**23  # bytes of a model's configuration; those of the presets have 20 kB


def read_model(path: Path | str) -> keras.Model:
    """A Keras model, read in safe mode.

    Raises:
        UserError: the file is missing, damaged, not Keras 3's, or needs code that is not there or
            must not be run.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} is missing")
    check_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            layers = list(_layers(json.loads(archive.read("config.json"))))
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged: {reason(error)}") from error
    if lambdas := [name for kind, name in layers if kind == "Lambda"]:
        raise UserError(
            f"{path} has the Lambda layer {lambdas[0]!r}, which would run code stored in the file: "
            "use keras.ops or a registered layer in its place"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever the damage provokes
        raise UserError(_unreadable(path, error)) from error


def check_archive(path: Path | str) -> None:
    """Refuse, before Keras opens it, what is no archive of a network and nothing else.

    Keras reads `.h5` files in no safe mode, and unpacks all of an archive that holds more than
    these members.

    Raises:
        UserError: that, or the configuration is larger than any network's.
    """
    if Path(path).suffix != ".keras" or not zipfile.is_zipfile(path):
        raise UserError(f"{path} is damaged or no file of Keras 3: model.save('name.keras')")
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except (ValueError, OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path} is damaged: {reason(error)}") from error
    names = [member.filename for member in found]
    if more := sorted({name for name in names if name not in MEMBERS or names.count(name) > 1}):
        raise UserError(
            f"{path} holds {more[0]!r}: must hold each of {', '.join(sorted(MEMBERS))} once, and "
            "nothing else"
        )
    for member in found:
        if member.filename != "model.weights.h5" and member.file_size > LARGEST_CONFIG:
            raise UserError(
                f"{path}: its {member.filename} has {member.file_size} bytes, at most "
                f"{LARGEST_CONFIG} are allowed"
            )
    _check_functions(path)


def _check_functions(path: Path | str) -> None:
    """Refuse a configuration that names functions of Keras which are no mathematics.

    In safe mode, Keras 3.15 still calls whatever function of its own is an operand of a node.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            todo = [json.loads(archive.read("config.json"))]
    except RecursionError as error:
        raise UserError(f"{path} is damaged: its config.json is nested too deeply") from error
    except Exception as error:  # whatever damage provokes in the archive
        raise UserError(f"{path} is damaged: {reason(error)}") from error
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
            "keras.saving.register_keras_serializable and import its module first"
        )
    return f"{path} is damaged or cannot be read: {reason(error)}"


def reason(error: Exception) -> str:
    """The first words of an exception, without what Keras wraps around them."""
    text = str(error).split("Exception encountered:")[-1]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", " ".join(text.split()))  # Keras sets words in bold
    return "".join(letter for letter in plain if letter.isprintable())[:200]
