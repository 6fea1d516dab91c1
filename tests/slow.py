"""Marks for what takes a good part of the time of `make test` alone; docs/testing.md lists it."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(kept: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Values of a parametrised test; those that are not kept are for `make test-slow`."""
    return [
        value
        if value in kept
        else pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow
        )
        for value in values
    ]
