"""Hostile models: `.keras` files that would run code, read a secret, write or fill the memory.

`root` is the folder around the project: the secret stands in it, and hostile files write there.
"""

from __future__ import annotations

import base64
import io
import json
import marshal
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fuzzing.damaged import datasets, members, members_of
from fuzzing.guarded import OUTSIDE, SECRET, SECRET_H5
from fuzzing.outcomes import Case

FILE = "fuzz/hostile.keras"
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
HARMLESS = {
    "compile_config", "metadata", "old version",
}  # fmt: skip  # what Keras never looks at may stand in a file, if nothing happens


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("open('EVIL', 'w').close()",)


def cases(model: bytes, root: Path) -> Iterator[Case]:
    """All hostile models, made from a sound one."""
    made = {**_layers(model, root), **_objects(model, root), **_archives(model, root)}
    made |= _weights(model, root)
    for number, (what, content) in enumerate(made.items()):
        must_refuse = not any(what.startswith(one) for one in HARMLESS)
        named = ("hostile.keras", FILE)
        yield Case("hostile models", number, "hostile", {FILE: content}, named, must_refuse, what)


def _configured(model: bytes, change: Callable[[Any], Any]) -> bytes:
    """A model whose configuration was changed in place, or is what the change returns."""
    config = json.loads(members(model)[CONFIG])
    config = change(config) or config
    return members_of(model, {CONFIG: json.dumps(config).encode()})


def _replaced(model: bytes, layer: dict[str, Any], at: str = "channel") -> bytes:
    """A model in which another layer stands in the place of one."""

    def change(config: Any) -> None:
        for one in config["config"]["layers"]:
            if one["name"] == at:
                one.pop("build_config", None)
                one.update({"registered_name": None, **layer})
                one["config"] = {"name": at, **one["config"]} if _named(one) else one["config"]

    return _configured(model, change)


def _named(one: dict[str, Any]) -> bool:
    return isinstance(one["config"], dict)


def _set(model: bytes, key: str, value: Any) -> bytes:
    """A model whose first convolution has something else in its configuration."""

    def change(config: Any) -> None:
        for one in config["config"]["layers"]:
            if one["class_name"] == "Conv2D":
                one["config"][key] = value
                return

    return _configured(model, change)


def _object(module: Any, name: str, config: Any = None, registered: Any = None) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": name,
        "config": {} if config is None else config,
        "registered_name": registered,
    }


def _code(source: str = "(open('EVIL', 'w').close(), x)[1]") -> dict[str, Any]:
    """A lambda as Keras stores it: its byte code."""
    function = eval(f"lambda x: {source}")
    code = base64.b64encode(marshal.dumps(function.__code__)).decode()
    return {
        "class_name": "__lambda__",
        "config": {"code": code, "defaults": None, "closure": None},
    }


def _layers(model: bytes, root: Path) -> dict[str, bytes]:
    """Layers that do something else than layers do."""
    secret, touch = str(root / SECRET), f"touch {root / OUTSIDE / 'EVIL'}"
    words = {"max_tokens": None, "vocabulary": secret, "output_mode": "int"}
    inner = _object("keras.layers", "Lambda", {"name": "inner", "function": _code()})
    system = {"class_name": "function", "config": "system", "module": "os"}
    others = {
        "Lambda with byte code": _object("keras.layers", "Lambda", {"function": _code()}),
        "Lambda with os.system": _object("keras.layers", "Lambda", {"function": system}),
        "Lambda, old byte code": _object(
            "keras.layers", "Lambda", {"function": [_code()["config"]["code"], None, None]}
        ),
        "Lambda of another module": _object("keras.src.layers.core.lambda_layer", "Lambda",
                                            {"function": _code()}),
        "Lambda by registered name": _object(None, "X", {"function": _code()}, "Lambda"),
        "Lambda within a wrapper": _object("keras.layers", "TimeDistributed", {"layer": inner}),
        "os.system": _object("os", "system", {"command": touch}),
        "os.system, text": _object("os", "system", touch),
        "posix.system": _object("posix", "system", {"command": touch}, "posix>system"),
        "subprocess.Popen": _object("subprocess", "Popen", {"args": touch.split()}),
        "builtins.eval": _object("builtins", "eval", {"source": "open('EVIL','w')"}),
        "registered builtins>exec": _object("builtins", "exec", {}, "builtins>exec"),
        "keras.utils.get_file": _object(
            "keras.utils", "get_file", {"fname": "EVIL", "origin": f"file://{secret}"}
        ),
        "get_file, inner name": _object(
            "keras.src.utils.file_utils", "get_file", {"origin": f"file://{secret}"}
        ),
        "keras load_model": _object("keras.saving", "load_model", {"filepath": secret}),
        "a module within a module": _object("keras.src.utils.file_utils", "os.system", touch),
        "spurious.tracking._git": _object("spurious.tracking.origin", "_git", {}, "spurious>_git"),
        "spurious.files.write_json": _object(
            "spurious.files", "write_json", {"path": "EVIL", "value": 1}
        ),
        "TextVectorization": _object("keras.layers", "TextVectorization", {"vocabulary": secret}),
        "StringLookup": _object("keras.layers", "StringLookup", words),
        "IntegerLookup": _object("keras.layers", "IntegerLookup", words),
        "StringLookup, IDF": _object(
            "keras.layers", "StringLookup",
            {**words, "output_mode": "tf_idf", "idf_weights": secret},
        ),
        "TFSMLayer": _object("keras.layers", "TFSMLayer", {"filepath": str(root / OUTSIDE)}),
        "TorchModuleWrapper": _object(
            "keras.layers", "TorchModuleWrapper",
            {"module": base64.b64encode(pickle.dumps(_Evil())).decode()},
        ),
        "JaxLayer": _object("keras.layers", "JaxLayer", {"call_fn": _code(), "init_fn": _code()}),
        "numpy.load": _object("numpy", "load", {"file": secret, "allow_pickle": True}),
        "pickle.loads": _object("pickle", "loads", {"data": "x"}),
        "a huge Dense": _object("keras.layers", "Dense", {"units": 10**9}),
        "a huge Reshape": _object("keras.layers", "Reshape", {"target_shape": [64, 64, 10**9]}),
        "a huge padding": _object("keras.layers", "ZeroPadding2D", {"padding": 10**6}),
    }  # fmt: skip
    return {what: _replaced(model, layer) for what, layer in others.items()}


def lambda_model(model: bytes) -> bytes:
    """The plainest hostile model: a layer of byte code."""
    return _replaced(model, _object("keras.layers", "Lambda", {"function": _code()}))


def _objects(model: bytes, root: Path) -> dict[str, bytes]:
    """Parts of a sound layer that are something else."""
    touch = f"touch {root / OUTSIDE / 'EVIL'}"
    system = {"class_name": "function", "config": "system", "module": "os"}
    unsafe = {
        "class_name": "function",
        "config": "enable_unsafe_deserialization",
        "module": "keras.config",
    }

    def unlocked(config: Any) -> None:
        """Switch the safe mode off in one layer, run code in the next."""
        layers = config["config"]["layers"]
        convolutions = [one for one in layers if one["class_name"] == "Conv2D"]
        convolutions[0]["config"]["activation"] = unsafe
        convolutions[1]["config"]["activation"] = _code()

    def compiled(config: Any) -> None:
        config["compile_config"] = {"optimizer": _object("os", "system", touch), "loss": _code()}

    def built(config: Any) -> None:
        for one in config["config"]["layers"]:
            one["build_config"] = {"input_shape": [None, 64, 64, 10**12]}

    def another(config: Any) -> None:
        config.update(_object("subprocess", "Popen", {"args": touch.split()}))

    def looped(config: Any) -> None:
        for one in config["config"]["layers"]:
            one["inbound_nodes"] = one["inbound_nodes"] * 10_000

    def dead(function: dict[str, Any], *arguments: Any) -> bytes:
        """A node that leads nowhere, and whose operation calls a function when it is built."""

        def change(config: Any) -> None:
            node = {"args": [0, [{"registered_name": None, **function}], *arguments], "kwargs": {}}
            switch = {**_object("keras.src.ops.core", "Switch", {"name": "dead"}, "Switch")}
            config["config"]["layers"].append({**switch, "name": "dead", "inbound_nodes": [node]})

        return _configured(model, change)

    def called(module: str, name: str) -> dict[str, Any]:
        return {"class_name": "function", "module": module, "config": name}

    secret = f"file://{root / SECRET}"
    return {
        "a dead node, dtype policy": dead(
            called("keras.config", "set_dtype_policy"), "mixed_float16"
        ),
        "a dead node, get_file": dead(called("keras.utils", "get_file"), "EVIL", secret),
        "a dead node, data set": dead(called("keras.datasets.mnist", "load_data"), "EVIL.npz"),
        "a dead node, load_model": dead(called("keras.saving", "load_model"), secret),
        "a dead node, os.system": dead(system, touch),
        "activation of byte code": _set(model, "activation", _code()),
        "activation os.system": _set(model, "activation", system),
        "activation eval": _set(model, "activation", {**system, "module": "builtins",
                                                      "config": "eval"}),
        "activation by a path": _set(model, "activation", "os>system"),
        "safe mode switched off": _configured(model, unlocked),
        "initializer os.system": _set(model, "kernel_initializer", _object("os", "system", touch)),
        "initializer Popen": _set(
            model, "kernel_initializer", _object("subprocess", "Popen", {"args": touch.split()})
        ),
        "regularizer exec": _set(model, "kernel_regularizer", _object("builtins", "exec", touch)),
        "dtype os.system": _set(model, "dtype", _object("os", "system", touch)),
        "compile_config": _configured(model, compiled),
        "build_config huge": _configured(model, built),
        "another class": _configured(model, another),
        "10 000 nodes a layer": _configured(model, looped),
        "huge filters": _set(model, "filters", 10**10),
        "filters -1": _set(model, "filters", -1),
    }  # fmt: skip


def _archives(model: bytes, root: Path) -> dict[str, bytes]:
    """Zip archives that are not what they seem."""
    outside = f"{root / OUTSIDE}/EVIL"
    deep = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    nested = b'{"class_name":"Sequential","config":{"layers":[' * 2000 + b"]}}" * 2000
    found = {
        "absolute member": members_of(model, {outside: b"x"}),
        "member ..": members_of(model, {f"../../{OUTSIDE}/EVIL": b"x"}),
        "asset ..": members_of(model, {f"assets/../../../{OUTSIDE}/EVIL": b"x"}),
        "huge extra member": members_of(model, {"assets/huge.bin": bytes(3 * 10**8)}),
        "huge config.json": members_of(model, {CONFIG: b" " * (4 * 10**8) + b"{}"}),
        "10 000 levels": members_of(model, {CONFIG: deep}),
        "100 000 lists": members_of(model, {CONFIG: b"[" * 100_000 + b"]" * 100_000}),
        "2 000 models in each other": members_of(model, {CONFIG: nested}),
        "two config.json": _twice(model),
        "metadata": members_of(model, {"metadata.json": b'{"keras_version": "../../x"}'}),
        "old version": members_of(model, {"metadata.json": b'{"keras_version": "3.0.0"}'}),
        "symlink config": _linked(model, CONFIG, str(root / SECRET)),
        "symlink to the secret": _linked(model, WEIGHTS, str(root / SECRET)),
        "symlink outside": _linked(model, "assets/x", str(root / OUTSIDE)),
    }
    arrays = io.BytesIO()
    np.savez(arrays, layers=np.array([_Evil()], dtype=object))
    found["weights as npz with pickles"] = members_of(
        model, {WEIGHTS: None, "model.weights.npz": arrays.getvalue()}
    )
    found["weights a pickle"] = members_of(model, {WEIGHTS: pickle.dumps(_Evil())})
    found["a pickle"] = pickle.dumps(_Evil())
    return found


def _twice(model: bytes) -> bytes:
    """A sound configuration, and after it one that runs code under the same name."""
    hostile = lambda_model(model)
    buffer = io.BytesIO(model)
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(zipfile.ZipInfo(CONFIG), members(hostile)[CONFIG])
    return buffer.getvalue()


def _linked(model: bytes, name: str, target: str) -> bytes:
    """An archive with a symbolic link in the place of a member."""
    buffer = io.BytesIO(members_of(model, {name: None}))
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo(name)
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, target)
    return buffer.getvalue()


def _weights(model: bytes, root: Path) -> dict[str, bytes]:
    """Weights that are elsewhere, or more than there is room for."""

    def elsewhere(file: h5py.File) -> None:
        one = datasets(file)[-1]
        name, shape, dtype = one.name, one.shape, one.dtype
        del file[name]
        place = (str(root / SECRET), 0, int(np.prod(shape)) * dtype.itemsize)
        file.create_dataset(name, shape, dtype, external=[place])

    def linked(file: h5py.File) -> None:
        one = datasets(file)[-1]
        name = one.name
        del file[name]
        file[name] = h5py.ExternalLink(str(root / SECRET_H5), "/secret")

    def virtual(file: h5py.File) -> None:
        one = datasets(file)[-1]
        name, shape, dtype = one.name, one.shape, one.dtype
        del file[name]
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource(str(root / SECRET_H5), "/secret", shape=shape)
        file.create_virtual_dataset(name, layout)

    def whole(file: h5py.File) -> None:
        del file["layers"]
        file["layers"] = h5py.ExternalLink(str(root / SECRET_H5), "/")

    def huge(file: h5py.File) -> None:
        one = datasets(file)[0]
        name, dtype = one.name, one.dtype
        del file[name]
        file.create_dataset(name, (2**30, 2**10), dtype, chunks=(1024, 1024))

    def looped(file: h5py.File) -> None:
        del file["layers"]
        file["layers"] = h5py.SoftLink("/")

    def objects(file: h5py.File) -> None:
        name = datasets(file)[0].name
        del file[name]
        file[name] = np.array(["x" * 100] * 10, dtype=h5py.string_dtype())

    changes = {
        "weights in the secret file": elsewhere,
        "weights linked to another file": linked,
        "weights a view of another file": virtual,
        "all weights in another file": whole,
        "weights of 4 TB": huge,
        "weights in a circle": looped,
        "weights of text": objects,
    }
    return {what: _reweighted(model, change) for what, change in changes.items()}


def _reweighted(model: bytes, change: Callable[[h5py.File], None]) -> bytes:
    buffer = io.BytesIO(members(model)[WEIGHTS])
    with h5py.File(buffer, "r+") as file:
        change(file)
    return members_of(model, {WEIGHTS: buffer.getvalue()})
