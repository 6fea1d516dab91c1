"""For mutmut: what a shared fixture runs counts for every test that uses the fixture.

mutmut notes which functions each test reaches, and tries a mutant on the tests that reach it. By
itself it notes what a fixture of a module runs for the first of its tests alone.
"""

import pytest
from mutmut.state import state

_reached = {}


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
