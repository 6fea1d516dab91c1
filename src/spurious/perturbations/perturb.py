"""`spurious.perturb`: any entry of params.yaml on any maps and any posterior, from Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from spurious.data.maps import MapSet
from spurious.description.fields import filled
from spurious.description.section import Entry, parts
from spurious.errors import UserError, one_of
from spurious.params import one_line
from spurious.perturbations.build import Others, build
from spurious.perturbations.entry import Perturbation
from spurious.perturbations.objectives import OBJECTIVES
from spurious.posteriors.posterior import Posterior

QUANTITY = re.compile(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s+(\S+)\s*")


def perturb(
    maps: Any,
    kind: str | Mapping[str, Any],
    posterior: Posterior,
    truth: Any = None,
    *,
    box_size: float | None = None,
    seed: int = 0,
    training: MapSet | None = None,
    others: Mapping[str, Posterior] | None = None,
    **fields: Any,
) -> np.ndarray:
    """Perturb maps as an entry of `attacks` in params.yaml would.

    ```python
    fooled = spurious.perturb(maps, "bim", posterior, truth, alpha="0.01 std")
    spurious.measure(maps, fooled, posterior, box_size=128.0).row(seed=0)
    ```

    Args:
        maps: densities at or above zero in the posterior's counts: (batch, N, N), one map (N, N),
            or a `MapSet`, which brings its truth and its box.
        kind: what to do: a `kind` of params.yaml, the import path of a class, or a whole entry.
        posterior: what is attacked, and the unit `std` of budgets. Anything that is called with
            maps and has `names` and `standardiser`; see `Posterior.from_callable`.
        truth: the maps' parameters in the posterior's order, (batch, p) or (p,) for one map; only
            some objectives need it.
        box_size: side of a map, Mpc/h, for what has lengths or wavenumbers.
        seed: root of every random draw.
        training: other maps, which kind `universal` is trained on.
        others: posteriors by the names that `on` uses.
        fields: those of the kind as in params.yaml; a quantity may be short, "0.01 std" for
            {"value": 0.01, "unit": "std"}.

    Returns:
        The perturbed maps, float32, in the shape of `maps`.

    Raises:
        UserError: one line that names what is missing or wrong.
    """
    entry = {"kind": kind, **fields} if isinstance(kind, str) else {**kind, **fields}
    try:
        settings = _validated({name: _long(value) for name, value in entry.items()})
    except RecursionError as error:
        key = next(name for name, value in entry.items() if isinstance(value, Mapping | list))
        raise UserError(
            f"kind {entry.get('kind')}: {key}: holds itself, or is nested too deeply"
        ) from error
    _check_posterior(posterior)
    single = not isinstance(maps, MapSet) and np.ndim(maps) == 2
    data = _data(maps, truth, posterior, box_size)
    has_truth = truth is not None or isinstance(maps, MapSet)
    _check_objectives(settings, has_truth)
    _check_size(posterior, data.maps)
    lookup = None if others is None else _lookup(others)
    try:
        perturbation = build(settings, posterior, data, seed, training, lookup)
        changed = np.asarray(perturbation(data.maps, data.labels if has_truth else None))
    except ValueError as error:
        raise UserError(f"kind {settings.kind}: {_last_line(error)}") from error
    return changed[0] if single else changed


def _validated(entry: dict[str, Any]) -> Any:
    try:
        return TypeAdapter(Perturbation).validate_python(entry)
    except ValidationError as error:
        text = one_line(error, entry)
        first = error.errors(include_url=False)[0]
        if first["type"] == "model_type" and isinstance(first["input"], int | float):
            key, value = first["loc"][-1], first["input"]
            text = f"{key} = {value}: needs its unit, as in '0.01 std', '3 count' or '4 Mpc/h'"
        raise UserError(f"{entry.get('kind')}: {text}") from None


def _long(value: Any) -> Any:
    """A value with every short quantity written out."""
    if isinstance(value, str) and (match := QUANTITY.fullmatch(value)):
        return {"value": float(match[1]), "unit": match[2]}
    if isinstance(value, Mapping):
        return {name: _long(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_long(one) for one in value]
    return value


def _check_posterior(posterior: Any) -> None:
    missing = [name for name in ("names", "standardiser") if not hasattr(posterior, name)]
    if not callable(posterior) or missing:
        raise UserError(
            f"posterior = {type(posterior).__name__}: must be called with maps and have names and "
            "standardiser; see spurious.Posterior.from_keras and from_callable"
        )


def _data(maps: Any, truth: Any, posterior: Posterior, box_size: float | None) -> MapSet:
    """The maps as a data set whose labels are in the posterior's order; nan where unknown."""
    if isinstance(maps, MapSet):
        return _of_set(maps, truth, posterior, box_size)
    array = np.asarray(maps, np.float32)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1] != array.shape[2] or array.size == 0:
        raise UserError(f"maps have shape {np.shape(maps)}: must be (batch, N, N) or (N, N)")
    if not np.all(np.isfinite(array) & (array >= 0)):
        raise UserError("maps: must be densities, finite and not below 0")
    return MapSet(
        maps=array,
        labels=_labels(truth, len(array), len(posterior.names)),
        seeds=np.zeros(len(array), np.uint64),
        index=np.arange(len(array)),
        axis=np.full(len(array), -1, np.int8),
        box_size=np.nan if box_size is None else box_size,
        names=tuple(posterior.names),
    )


def _of_set(maps: MapSet, truth: Any, posterior: Posterior, box_size: float | None) -> MapSet:
    if truth is not None or box_size is not None:
        raise UserError("truth and box_size are those of the MapSet: leave them out")
    missing = [name for name in posterior.names if name not in maps.names]
    if missing:
        raise UserError(f"the maps have no {missing[0]}, only {', '.join(maps.names)}")
    columns = [maps.names.index(name) for name in posterior.names]
    return replace(maps, labels=maps.labels[:, columns], names=tuple(posterior.names))


def _labels(truth: Any, n: int, p: int) -> np.ndarray:
    if truth is None:
        return np.full((n, p), np.nan)
    labels = np.asarray(truth, np.float64)
    if labels.shape == (p,) and n == 1:
        labels = labels[None]
    if labels.shape != (n, p):
        raise UserError(f"truth has shape {labels.shape}: must be {(n, p)}")
    return labels


def _check_objectives(settings: Any, has_truth: bool) -> None:
    """Refuse what needs the truth where there is none."""
    for one in parts(settings):
        objective = getattr(one, "objective", None)
        if has_truth or not isinstance(objective, str):
            continue
        if isinstance(one, Entry) and {"training_truth", "simulation"} & {*filled(one.CLASS)}:
            continue  # made on other maps or on simulations, whose truth is known
        if OBJECTIVES[objective].needs_truth:
            allowed = [name for name, other in OBJECTIVES.items() if not other.needs_truth]
            raise UserError(
                f"objective = {objective} needs the truth: give truth, or another objective: "
                f"{', '.join(allowed)}, or a section of kind toward or shift_s8"
            )


def _check_size(posterior: Posterior, maps: np.ndarray) -> None:
    """Refuse maps that the posterior cannot take, before it is part of a graph."""
    try:
        posterior(maps[:1])
    except Exception as error:  # whatever the posterior raises
        n = maps.shape[-1]
        raise UserError(
            f"posterior: cannot take maps of {n} x {n} pixels: {_last_line(error)}"
        ) from error


def _last_line(error: Exception) -> str:
    """What an error says, without the places in a graph that TensorFlow puts before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()


def _lookup(others: Mapping[str, Posterior]) -> Others:
    def named(name: str) -> Posterior:
        if name not in others:
            raise UserError(f"on = {name}: {one_of(name, others, 'others')}")
        return others[name]

    return named
