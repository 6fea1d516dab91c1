"""Summary of a run of a suite, and the speed of each worker."""

from __future__ import annotations

from dataclasses import dataclass

from spurious.simulation.tasks import Outcome


@dataclass(frozen=True)
class Throughput:
    """What one worker did: its name, its simulations, and the seconds that it spent in them."""

    worker: str
    simulations: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        maps: in the data set.
        simulations: in the data set.
        made: simulations made by this run; the others were in shards that it kept.
        seconds: wall time, including the start of the workers.
        kept: finished shards found and used.
        remade: shards found but made again, because they were damaged or of another suite.
        workers: what each worker did, by name.
    """

    maps: int
    simulations: int
    made: int
    seconds: float
    kept: int
    remade: int
    workers: tuple[Throughput, ...]

    @property
    def rate(self) -> float:
        """Maps per second of this run."""
        return self.made * self.maps / self.simulations / self.seconds

    def __str__(self) -> str:
        lines = [
            f"{self.maps} maps of {self.simulations} simulations, {self.made} of them made now, "
            f"in {self.seconds:.0f} s: {self.rate:.2f} maps/s",
            f"shards kept: {self.kept}, made again: {self.remade}",
        ]
        lines += [
            f"  {worker.worker}: {worker.simulations} simulations, "
            f"{worker.simulations / max(worker.seconds, 1e-9):.2f} simulations/s"
            for worker in self.workers
        ]
        return "\n".join(lines)


class Tally:
    """Counts what each worker does."""

    def __init__(self) -> None:
        self._of: dict[str, list[float]] = {}

    def add(self, outcome: Outcome) -> None:
        """Count one simulation."""
        self._of.setdefault(outcome.worker, []).append(outcome.seconds)

    def throughputs(self) -> tuple[Throughput, ...]:
        """What each worker did, sorted by name."""
        return tuple(
            Throughput(name, len(times), sum(times)) for name, times in sorted(self._of.items())
        )
