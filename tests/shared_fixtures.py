"""For mutmut: what tests share, fixtures and caches, counts for every test that uses it.

mutmut notes which functions each test reaches, and tries a mutant on the tests that reach it. By
itself it notes what a fixture of a module, or a function whose results are kept, runs for the
first test alone.
"""

import os
import sys

import pytest
from mutmut.state import state

_reached = {}


def pytest_runtest_setup(item):
    """Forget what mutated modules keep, while mutmut notes what is reached."""
    if os.environ.get("MUTANT_UNDER_TEST") == "stats":
        for module in list(sys.modules.values()):
            members = list(vars(module)) if module.__name__.startswith("spurious.") else []
            if any("__mutmut_" in name for name in members):
                _forget(module, members)


def _forget(module, names):
    for name in names:
        if hasattr(one := getattr(module, name), "cache_clear"):
            one.cache_clear()


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef):
    before = set(state()._stats)
    state()._stats.clear()
    try:
        return (yield)
    finally:
        _reached[fixturedef] = set(state()._stats)
        state()._stats.update(before)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item):
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        state()._stats.update(_reached.get(definitions[-1], ()))
