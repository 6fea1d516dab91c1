"""What every perturbation promises, as checks that any can be put through.

A check takes what makes the perturbation of a given size, `make(size)`, and maps; it raises an
AssertionError that says which promise is broken. `check` makes them all.

```python
promises.check(lambda size: Vignetting(amplitude=size), maps, size=0.1)
```
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from spurious.lazy import tf
from spurious.perturbations.base import Perturbation
from spurious.perturbations.steps import Norm

Make = Callable[[float], Perturbation]
ROUNDING = 1e-4  # of a float32 density of up to 1000 counts, with some to spare


def check(
    make: Make,
    maps: np.ndarray,
    truth: Any = None,
    *,
    size: float,
    reach: float | None = None,
    norm: Norm = "linf",
) -> None:
    """All promises.

    Args:
        make: size -> the perturbation; size 0 changes nothing.
        maps: at least two, (batch, N, N) float32 in counts, at or above zero.
        truth: their parameters, if the perturbation needs them.
        size: one at which every map changes.
        reach: if the size is a budget: largest change allowed, in sizes.
        norm: how a change is measured against that budget.

    Raises:
        AssertionError: says which promise is broken.
    """
    one = make(size)
    keeps_shape_and_range(one, maps, truth)
    stays_possible(make(1e3 * size) if reach is not None else one, maps, truth)
    is_deterministic(one, make(size), maps, truth)
    ignores_companions(one, maps, truth)
    changes_nothing(make(0.0), maps, truth)
    if reach is not None:
        keeps_budget(one, maps, truth, reach * size, norm)


def keeps_shape_and_range(perturbation: Perturbation, maps: np.ndarray, truth: Any) -> None:
    """A tensor of the maps' shape and type, finite, at or above zero; every map has changed."""
    changed = perturbation(maps, truth)
    _require(isinstance(changed, tf.Tensor), "is no tensor")
    _require(changed.shape == maps.shape, f"has shape {changed.shape}, not {maps.shape}")
    _require(changed.dtype == maps.dtype, f"is {changed.dtype.name}, not {maps.dtype}")
    stays_possible(perturbation, maps, truth)
    _require(np.all(np.any(changed != maps, axis=(1, 2))), "leaves a map as it was")


def stays_possible(perturbation: Perturbation, maps: np.ndarray, truth: Any) -> None:
    """No density is negative or not finite."""
    changed = perturbation(maps, truth).numpy()
    _require(np.all(np.isfinite(changed)), "is not finite")
    _require(changed.min() >= 0, f"has the negative density {changed.min():g}")


def is_deterministic(
    perturbation: Perturbation, again: Perturbation, maps: np.ndarray, truth: Any
) -> None:
    """Two that are made alike do alike, and a tensor is taken like an array."""
    first = perturbation(maps, truth).numpy()
    second = again(maps, truth).numpy()
    _require(np.array_equal(first, second), "changes from one time to the next")
    tensors = perturbation(tf.constant(maps), None if truth is None else tf.constant(truth))
    _require(np.array_equal(first, tensors.numpy()), "treats a tensor unlike an array")


def ignores_companions(
    perturbation: Perturbation, maps: np.ndarray, truth: Any, tolerance: float = ROUNDING
) -> None:
    """A map is changed alike alone and in a batch."""
    last = None if truth is None else truth[-1:]
    together, alone = perturbation(maps, truth)[-1], perturbation(maps[-1:], last)[0]
    difference = float(np.max(np.abs(together - alone)))
    _require(difference <= tolerance, f"changes a map by {difference:g} more in other company")


def changes_nothing(nothing: Perturbation, maps: np.ndarray, truth: Any) -> None:
    """Without a size it changes nothing, bit by bit."""
    _require(np.array_equal(nothing(maps, truth), maps), "changes maps at size 0")


def keeps_budget(
    perturbation: Perturbation, maps: np.ndarray, truth: Any, budget: float, norm: Norm
) -> None:
    """No map changes by more than its budget."""
    used = float(np.max(size_of(perturbation(maps, truth) - maps, norm)))
    _require(used <= budget + ROUNDING, f"changes a map by {used:g}, more than {budget:g} counts")


def size_of(change: Any, norm: Norm) -> np.ndarray:
    """Size of each map's change under a norm, (batch,)."""
    change = np.asarray(change, np.float64)
    if norm == "linf":
        return np.abs(change).max((1, 2))
    return np.sqrt(np.mean(change**2, axis=(1, 2)))


def _require(holds: Any, otherwise: str) -> None:
    if not holds:
        raise AssertionError(f"the perturbation {otherwise}")
