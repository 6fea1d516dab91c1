"""One simulation of a suite made again, and compared with the suite's manifest."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from spurious.errors import CheckFailed, UserError
from spurious.simulation.manifest import TOLERANCE, Line, Manifest
from spurious.simulation.suite import Suite
from spurious.simulation.workers import Processes


@dataclass(frozen=True)
class Remade:
    """A map that was made again: what it should be, and what it is."""

    expected: Line
    found: Line

    @property
    def equal(self) -> bool:
        """Whether all its bits are the same."""
        return self.expected.md5 == self.found.md5

    def __str__(self) -> str:
        if self.equal:
            return f"axis {self.found.axis}: MD5 {self.found.md5}, bit for bit the same"
        return (
            f"axis {self.found.axis}: MD5 {self.found.md5}, not {self.expected.md5}; deviation and "
            f"largest pixel differ by {self.expected.difference(self.found):.1e} standard "
            f"deviations (allowed on another kind of processor: {TOLERANCE:.0e})"
        )


def remake(suite: Suite, manifest: Manifest, index: int) -> list[Remade]:
    """Simulate number `index` of a suite again, on one thread as its workers do.

    Returns:
        Its maps, one a line of sight; all bits are the same, or they agree within `TOLERANCE`.

    Raises:
        UserError: the manifest is that of another suite, or has no such simulation; the density is
            not finite; the worker died.
        CheckFailed: a map is another one.
    """
    manifest.check(suite.provenance, suite.labels_digest(manifest.lines))
    expected = manifest.of(index)
    settings = suite.settings.model_copy(update={"fields": False})
    with closing(Processes(settings, 1).outcomes([suite.task(index)])) as made:
        (outcome,) = made
    if outcome.maps is None:
        raise UserError(outcome.problem)
    found = map(Line.of, outcome.maps, settings.axes)
    remade = [Remade(*both) for both in zip(expected, found, strict=True)]
    for one in remade:
        if not one.equal and one.expected.difference(one.found) > TOLERANCE:
            raise CheckFailed(f"simulation {index} is not that of {manifest.path}: {one}")
    return remade
