"""Many simulations: workers, resumable shards, one data set.

Simulation i is at node i modulo the number of nodes, and its white-noise seed depends only on the
root seed and i. So the maps are the same, bit for bit, for any workers and any number of
interruptions.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spurious import config, seeds
from spurious.data.hdf5 import join_maps, read_maps, write_maps
from spurious.data.maps import NAMES, ROWS, MapSet
from spurious.errors import UserError
from spurious.files import replacing
from spurious.progress import Bar
from spurious.simulation.engine import cosmology_at
from spurious.simulation.manifest import labels_digest
from spurious.simulation.summary import Summary, Tally
from spurious.simulation.tasks import Outcome, Task, versions
from spurious.simulation.workers import Place, open_workers

logger = logging.getLogger(__name__)

# How the work is cut is no property of a map: more simulations can be added to finished shards.
BOOKKEEPING = {"simulations", "shard_size"}


def run(
    settings: config.Simulation,
    background: config.Background,
    nodes: np.ndarray,
    root_seed: int,
    shard_dir: Path,
    path: Path,
    place: Place | None = None,
    progress: bool = True,
) -> Summary:
    """Simulate a suite and write it as one data set; valid shards in `shard_dir` are kept.

    At no time are more than a few shards in memory.

    Args:
        settings: the particle mesh, the number of simulations, and how many make a shard.
        background: what all simulations share.
        nodes: (n_nodes, 2) of Omega_m and sigma_8, dealt to the simulations in turn.
        root_seed: root of all white-noise seeds.
        shard_dir: folder of the finished shards, made if need be; they are left there.
        path: the data set to write, maps in the order of their simulations.
        place: where the work is done; default: this process.
        progress: whether to show a progress bar.

    Raises:
        UserError: a field is not finite (all shards begun until then are finished first), the
            workers cannot go on, or another run uses `shard_dir`.
        OSError: the disk is full; names the file.
    """
    began = time.perf_counter()
    suite = Suite(settings, background, nodes, root_seed, Path(shard_dir))
    tally = Tally()
    with _locked(suite.shard_dir):
        kept, remade = suite.look()
        missing = [number for number in range(suite.n_shards) if number not in kept]
        done = sum(len(suite.indices(number)) for number in kept)
        with Bar(
            total=settings.simulations,
            initial=done,
            name="simulate",
            unit="simulation",
            disable=not progress,
        ) as bar:
            if missing:
                suite.make(missing, place or config.Local(kind="local", workers=1), tally, bar)
        with _named(path):
            shards = map(suite.path, range(suite.n_shards))
            limits = zip(NAMES, nodes.T.tolist(), strict=True)
            ranges = {name: [min(values), max(values)] for name, values in limits}
            join_maps(path, shards, {**suite.provenance, "ranges": ranges})
    return Summary(
        maps=settings.simulations * len(settings.axes),
        simulations=settings.simulations,
        made=settings.simulations - done,
        seconds=time.perf_counter() - began,
        kept=len(kept),
        remade=remade,
        workers=tally.throughputs(),
    )


@dataclass(frozen=True)
class Suite:
    """A suite and the place of its shards; fields as the arguments of `run`."""

    settings: config.Simulation
    background: config.Background
    nodes: np.ndarray
    root_seed: int
    shard_dir: Path

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Everything that determines the maps besides their labels and seeds."""
        made = provenance(self.settings, self.background, self.root_seed)
        return json.loads(json.dumps(made))  # as it comes back from a file

    @property
    def n_shards(self) -> int:
        """Number of shards; the last one may be short."""
        return -(-self.settings.simulations // self.settings.shard_size)

    def indices(self, number: int) -> range:
        """Numbers of the simulations in one shard."""
        first = number * self.settings.shard_size
        return range(first, min(first + self.settings.shard_size, self.settings.simulations))

    def path(self, number: int) -> Path:
        """File of one shard."""
        return self.shard_dir / f"shard-{number:05d}.h5"

    def task(self, index: int) -> Task:
        """Simulation number `index`."""
        omega_m, sigma_8 = self.nodes[index % len(self.nodes)]
        cosmology = cosmology_at(omega_m, sigma_8, self.background)
        return Task(index, cosmology, seeds.integer(self.root_seed, "white noise", index))

    def labels_digest(self, indices: Iterable[int]) -> str:
        """What a manifest says of the cosmologies and seeds of these simulations."""
        rows = self._rows(indices)
        return labels_digest(rows["labels"], rows["seeds"])

    def look(self) -> tuple[set[int], int]:
        """Numbers of the valid shards, read one at a time, and how many there are beside them.

        There is one warning for each of the others.
        """
        kept, remade = set(), 0
        for number in range(self.n_shards):
            if not self.path(number).exists():
                continue
            try:
                self._check(number, self.path(number))
                kept.add(number)
            except UserError as error:
                logger.warning("%s; simulating it again", error)
                remade += 1
        return kept, remade

    def make(self, numbers: list[int], place: Place, tally: Tally, bar: Bar) -> None:
        """Simulate shards; write each as soon as it is whole."""
        parts: dict[int, dict[int, Outcome]] = {}
        problems: list[str] = []

        def tasks() -> Iterator[Task]:
            for number in numbers:
                if problems:
                    return  # what is begun is finished; nothing new
                yield from map(self.task, self.indices(number))

        with (
            open_workers(place, self.settings, self.shard_dir) as workers,
            closing(workers.outcomes(tasks())) as outcomes,
        ):
            for outcome in outcomes:
                bar.update()
                tally.add(outcome)
                if outcome.problem:
                    problems.append(outcome.problem)
                    continue
                number = outcome.index // self.settings.shard_size
                part = parts.setdefault(number, {})
                part[outcome.index] = outcome
                if len(part) == len(self.indices(number)):
                    self._write(number, parts.pop(number))
        if problems:
            others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise UserError(f"{problems[0]}{others}; the other shards begun are kept")

    def _write(self, number: int, outcomes: Mapping[int, Outcome]) -> None:
        """Write a shard under a temporary name, check it there, and only then rename it."""
        path = self.path(number)
        with _named(path), replacing(path) as temporary:
            write_maps(temporary, self._shard([outcomes[i] for i in self.indices(number)]))
            self._check(number, temporary)

    def _shard(self, outcomes: list[Outcome]) -> MapSet:
        rows = self._rows([outcome.index for outcome in outcomes])
        fields = [outcome.field for outcome in outcomes if outcome.field is not None]
        shard = MapSet(
            maps=np.concatenate([outcome.maps for outcome in outcomes if outcome.maps is not None]),
            labels=rows["labels"],
            seeds=rows["seeds"],
            index=rows["index"],
            axis=rows["axis"],
            box_size=self.settings.box_size.value,
            fields=np.stack(fields) if fields else None,
        )
        return replace(shard, provenance={**self.provenance, "sha256": _digest(shard)})

    def _check(self, number: int, path: Path) -> None:
        """Read a shard; a UserError says in one line what is wrong with it."""
        try:
            shard = read_maps(path, fields=self.settings.fields)
        except UserError:
            raise
        except Exception as error:  # HDF5 on damaged bytes raises almost anything
            raise UserError(f"{path} is damaged: {' '.join(str(error).split())}") from error
        if shard.provenance.get("sha256") != _digest(shard):
            raise UserError(f"{path} is damaged: its checksum does not match its content")
        expected = self.provenance | {"sha256": shard.provenance["sha256"]}
        rows = self._rows(self.indices(number))
        if (
            shard.provenance != expected
            or shard.box_size != self.settings.box_size.value
            or not all(np.array_equal(getattr(shard, name), rows[name]) for name in rows)
        ):
            raise UserError(f"{path} was made with other settings, seeds or versions")

    def _rows(self, indices: Iterable[int]) -> dict[str, np.ndarray]:
        """What a data set says of each map, for these simulations."""
        tasks = [self.task(index) for index in indices]
        views = len(self.settings.axes)
        labels = [(task.cosmology.omega_m, task.cosmology.sigma_8) for task in tasks]
        return {
            "labels": np.repeat(np.array(labels, np.float64), views, axis=0),
            "seeds": np.repeat(np.array([task.seed for task in tasks], np.uint64), views),
            "index": np.repeat(np.array([task.index for task in tasks], np.int64), views),
            "axis": np.tile(np.array(self.settings.axes, np.int8), len(tasks)),
        }


def provenance(
    settings: config.Simulation, background: config.Background, root_seed: int
) -> dict[str, Any]:
    """Everything that determines maps besides their labels and seeds: settings and versions."""
    return {
        "simulation": settings.model_dump(mode="json", exclude=BOOKKEEPING),
        "background": background.model_dump(mode="json"),
        "root_seed": root_seed,
        "versions": versions(settings),
    }


def _digest(shard: MapSet) -> str:
    """SHA-256 of all of a shard's arrays."""
    digest = hashlib.sha256()
    for name in (*ROWS, "fields"):
        if (values := getattr(shard, name)) is not None:
            digest.update(f"{name} {values.dtype} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the disk name the file, which HDF5 does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone; the system frees it however the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder} is in use by another run: wait until it ends") from error
        for part in folder.glob(".*.part.h5"):
            part.unlink()  # what a killed run was writing
        yield
