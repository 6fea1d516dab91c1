"""Reading params.yaml: the chosen scale over the shared sections, checked as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from spurious.config import UNKNOWN_KEY, Config, Run
from spurious.errors import UserError

# What a profile may override: the sections that dvc.yaml tracks for each scale.
PROFILE_SECTIONS = ("simulation", "posteriors", "training", "search")


def load(path: Path, scale: str | None = None) -> Config:
    """Read and check all of params.yaml; return it at `scale` (default: the first of run.scales).

    Every scale is checked, also those not asked for.

    Raises:
        UserError: one line that names the key, the value and what is allowed.
    """
    raw = _read(path)
    profiles = raw.pop("profiles", None)
    if not isinstance(profiles, dict) or not profiles:
        raise UserError(f"{path}: profiles: must be a mapping from a scale's name to its settings")
    configs = {
        name: _validate(_overlaid(raw, overrides, path, name), path, name)
        for name, overrides in profiles.items()
    }
    run = next(iter(configs.values())).run
    _check_run(run, configs, path)
    scale = scale or run.scales[0]
    if scale not in configs:
        raise UserError(f"scale = {scale!r}: must be one of {', '.join(configs)}")
    return configs[scale]


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"{path} is missing: run in the project's folder or name it with --params"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: must be a mapping of sections, not {type(raw).__name__}")
    return raw


def _overlaid(shared: dict[str, Any], overrides: Any, path: Path, scale: str) -> dict[str, Any]:
    """Shared sections with one scale's overrides laid over them, key by key."""
    if not isinstance(overrides, dict):
        raise UserError(f"{path}: profiles.{scale}: must be a mapping, not {overrides!r}")
    for key in overrides:
        if key not in PROFILE_SECTIONS:
            allowed = ", ".join(PROFILE_SECTIONS)
            raise UserError(
                f"{path}: profiles.{scale}.{key}: unknown key, must be one of {allowed}"
            )
    if "scale" in shared:
        raise UserError(f"{path}: scale: unknown key; a scale is named by its key in profiles")
    return {**_merge(shared, overrides), "scale": scale}


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _merge(below.get(key), value) for key, value in above.items()}
    return above


def _check_run(run: Run, configs: dict[str, Config], path: Path) -> None:
    for scale in run.scales:
        if scale not in configs:
            raise UserError(
                f"{path}: run.scales: {scale!r} must be one of profiles: {', '.join(configs)}"
            )


def _validate(value: Any, path: Path, scale: str) -> Config:
    try:
        return Config.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path} at scale {scale}: {one_line(error, value)}") from None


def one_line(error: ValidationError, given: Any) -> str:
    """The first problem as 'key = value: what is allowed', and the number of others."""
    problems = sorted(error.errors(include_url=False), key=lambda e: e["type"] != UNKNOWN_KEY)
    first = problems[0]
    key = ".".join(_path(first["loc"], given, keep_last=first["type"] == "missing"))
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == UNKNOWN_KEY:
        text = f"{key}.{message}" if key else message
    elif first["type"] == "missing":
        text = f"{key}: missing"
    elif not key:
        text = message
    else:
        text = f"{key} = {first['input']!r}: {message}"
    others = len(problems) - 1
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
