"""Reading params.yaml: the chosen scale over the shared sections, checked as a whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from spurious import defaults
from spurious.config import WRONG_KEY, Config, Run
from spurious.description.names import RULE, is_name
from spurious.errors import UserError, cut, nearest, one_of, shown
from spurious.files import beside

# What a profile may override: the sections that dvc.yaml tracks for each scale.
PROFILE_SECTIONS = ("simulation", "posteriors", "training", "search", "defend")
MAX_DEPTH = 32  # levels of mappings and lists; the shipped file has seven
LONGEST = 200  # characters of a key in a message
MAX_VALUES = 100_000  # with every alias written out; the shipped file has less than a thousand


def load(path: Path, scale: str | None = None) -> Config:
    """Read and check all of params.yaml; return it at `scale` (default: the first of run.scales).

    Every scale is checked, also those not asked for. `spurious.defaults` says what a file may
    leave out.

    Raises:
        UserError: one line that names the key, the value and what is allowed.
    """
    raw = _read(path)
    profiles = raw.pop("profiles", {defaults.SCALE: {}})
    if not isinstance(profiles, dict) or not profiles:
        raise UserError(f"{path}: profiles: must be a mapping from a scale's name to its settings")
    for name in profiles:
        if not is_name(name):
            raise UserError(f"{path}: profiles: {shown(name)}: {RULE}")
    raw = defaults.completed(raw, list(profiles))
    overlaid = {name: _overlaid(raw, one, path, name) for name, one in profiles.items()}
    for name, overrides in profiles.items():
        _check_hidden(raw, overrides, path, name)
    configs = {name: _validate(whole, path, name) for name, whole in overlaid.items()}
    run = next(iter(configs.values())).run
    _check_run(run, configs, path)
    scale = scale or run.scales[0]
    if scale not in configs:
        raise UserError(f"scale = {shown(scale)}: {one_of(scale, configs)}")
    return configs[scale]


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = constructed(Path(path).read_text(encoding="utf-8"), path)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: run in the project's folder, name it with --params, or write one "
            f"with `spurious init`{beside(path)}"
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number or a date that is none
        reason = _printable(" ".join(str(error).split()))
        raise UserError(f"{path} is not valid YAML: {reason}") from error
    if raw is None:  # it is empty, or all of it is comments
        return {}
    if not isinstance(raw, dict):
        raise UserError(f"{path}: must be a mapping of sections, not {type(raw).__name__}")
    return raw


def constructed(text: str, path: Path) -> Any:
    """What YAML says, as `yaml.safe_load`, if it is a tree of reasonable depth and size.

    Aliases can make a value part of itself, or a short file a huge tree: both are refused before
    anything walks through the values. So is a key that stands twice, of which YAML would silently
    drop the first value.

    Raises:
        UserError: one line that names the key.
        yaml.YAMLError: it is no YAML.
        ValueError: a number or a date is none.
    """
    loader = yaml.SafeLoader(text)
    try:
        if (root := loader.get_single_node()) is None:
            return None
        _check_tree(root, path)
        return loader.construct_document(root)
    except RecursionError as error:
        raise UserError(
            f"{path} line {_first_deep_line(text)}: is nested too deeply, at most {MAX_DEPTH} "
            "levels allowed"
        ) from error
    finally:
        loader.dispose()


def _check_tree(root: yaml.Node, path: Path) -> None:
    """Refuse a value that holds itself, is too deep, or is too large with its aliases written out.

    Raises:
        UserError: one line that names the key.
    """
    above: dict[int, str] = {}  # collections that hold the present one, and their keys
    todo: list[tuple[yaml.Node, str, bool]] = [(root, "", False)]
    count = 0
    while todo:
        node, key, done = todo.pop()
        if done:
            del above[id(node)]
            continue
        count += 1
        where = f"{path}: {_shortened(key)}"
        if id(node) in above:
            raise UserError(f"{where}: refers to {above[id(node)] or 'the file'}, which holds it")
        if len(above) > MAX_DEPTH:
            raise UserError(f"{where}: is nested too deeply, at most {MAX_DEPTH} levels allowed")
        if count > MAX_VALUES:
            raise UserError(f"{where}: more than {MAX_VALUES} values with every alias written out")
        if isinstance(node, yaml.CollectionNode):
            if twice := _twice(node):
                whole = f"{key}.{twice}".lstrip(".")
                raise UserError(f"{path}: {_shortened(whole)}: stands twice")
            above[id(node)] = key
            todo.append((node, key, True))
            todo += [
                (one, f"{key}.{name}".lstrip("."), False) for name, one in reversed(_children(node))
            ]


def _children(node: yaml.CollectionNode) -> list[tuple[str, yaml.Node]]:
    """What a collection holds, with its keys in it; a key may be a collection too."""
    if isinstance(node, yaml.SequenceNode):
        return [(str(number), one) for number, one in enumerate(node.value)]
    found = []
    for key, value in node.value:
        plain = isinstance(key, yaml.ScalarNode)
        found += [(key.value if plain else "?", value)] + ([] if plain else [("?", key)])
    return found


def _twice(node: yaml.CollectionNode) -> str | None:
    """The first key that stands twice in a mapping; a key that `<<` brings in counts once."""
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                return str(key.value)
            seen.add((key.tag, key.value))
    return None


def _shortened(key: str) -> str:
    names = key.split(".")
    return cut(_printable(key if len(names) <= 8 else ".".join(names[:8]) + " ..."), LONGEST)


def _first_deep_line(text: str) -> int:
    """Number of the line where the nesting becomes too deep; 1 if nowhere."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH and event.start_mark is not None:
            return event.start_mark.line + 1
    return 1


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _overlaid(shared: dict[str, Any], overrides: Any, path: Path, scale: str) -> dict[str, Any]:
    """Shared sections with one scale's overrides laid over them, key by key."""
    if not isinstance(overrides, dict):
        raise UserError(f"{path}: profiles.{scale}: must be a mapping, not {shown(overrides)}")
    for key in overrides:
        if key not in PROFILE_SECTIONS:
            where = f"{path}: profiles.{scale}.{_shortened(str(key))}"
            raise UserError(f"{where}: unknown key, {one_of(key, PROFILE_SECTIONS)}")
        if not isinstance(shared.get(key, {}), dict):  # which the overrides would hide
            raise UserError(f"{path}: {key}: must be a mapping, not {shown(shared[key])}")
    if "scale" in shared:
        raise UserError(f"{path}: scale: unknown key; a scale is named by its key in profiles")
    return {**_merge(shared, overrides), "scale": scale}


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _merge(below.get(key), value) for key, value in above.items()}
    return above


def _check_hidden(shared: dict[str, Any], overrides: Any, path: Path, scale: str) -> None:
    """Refuse a wrong value of a shared section that a profile would hide with its own."""
    try:
        Config.model_validate({**shared, "scale": scale})
    except ValidationError as error:
        hidden = [
            one
            for one in error.errors(include_url=False)
            if one["type"] != "missing" and _holds(overrides, _path(one["loc"], shared, False))
        ]
        if hidden:
            raise UserError(f"{path}: {_describe(hidden, shared)}") from None


def _holds(overrides: Any, keys: list[str]) -> bool:
    """Whether a profile gives a value of its own at these keys."""
    for key in keys:
        if not isinstance(overrides, dict) or key not in overrides:
            return False
        overrides = overrides[key]
    return bool(keys)


def _check_run(run: Run, configs: dict[str, Config], path: Path) -> None:
    for key in ("scales", "tune"):
        for scale in getattr(run, key):
            if scale not in configs:
                allowed = one_of(scale, configs, "profiles")
                raise UserError(f"{path}: run.{key}: {scale!r} {allowed}")


def _validate(value: Any, path: Path, scale: str) -> Config:
    try:
        return Config.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path} at scale {scale}: {one_line(error, value)}") from None


def one_line(error: ValidationError, given: Any) -> str:
    """The first problem as 'key = value: what is allowed', and the number of others."""
    return _describe(error.errors(include_url=False), given)


def _describe(errors: list[ErrorDetails], given: Any) -> str:
    problems = sorted(errors, key=lambda e: e["type"] != WRONG_KEY)
    first = problems[0]
    keys = _path(first["loc"], given, keep_last=first["type"] == "missing")
    message, value = first["msg"].removeprefix("Value error, "), first["input"]
    if first["type"] == "union_tag_invalid":
        keys, value = [*keys, "kind"], value["kind"]
        message = f"must be one of {first['ctx']['expected_tags']}"
        message += nearest(value, re.findall("'([^']*)'", message))
    elif first["type"] == "literal_error":
        message += nearest(value, re.findall("'([^']*)'", message))
    is_key = bool(first["loc"]) and first["loc"][-1] == "[key]"  # of a mapping, says pydantic
    key = _shortened(".".join(keys[:-1] if is_key else keys))
    if is_key:
        text = f"{key}: {shown(value)}: {message}"
    elif first["type"] == WRONG_KEY:
        text = f"{key}.{message}" if key else message
    elif first["type"] == "missing":
        text = f"{key}: missing"
    elif not key:
        text = message
    else:
        text = f"{key} = {shown(value)}: {message}"
    others = len(problems) - 1
    text = _printable(text)
    return text + (f" (and {others} more problem{'s' if others > 1 else ''})" if others else "")


def _path(location: tuple[int | str, ...], given: Any, keep_last: bool) -> list[str]:
    """The keys of params.yaml in a pydantic location, which also names members of unions."""
    keys = []
    for i, part in enumerate(location):
        inside = isinstance(given, dict) and part in given
        inside |= isinstance(given, list) and isinstance(part, int)
        if inside:
            given = given[part]
        if inside or (keep_last and i == len(location) - 1):
            keys.append(str(part))
    return keys
