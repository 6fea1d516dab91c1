"""Many simulations: spawned single-threaded workers, resumable shards, one data set.

Simulation i is at node i modulo the number of nodes, and its white-noise seed follows from the
root seed and i alone. So the same maps come out, bit for bit, whatever the number of workers
and however often a run was killed and started again.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from spurious import config, seeds
from spurious.cosmology import Cosmology
from spurious.files import UserError
from spurious.maps import MapSet, concatenate, read_maps, write_maps
from spurious.simulation.engine import Engine, cosmology_at, make_engine, one_map

logger = logging.getLogger(__name__)

# How the work is cut is no property of a map: more simulations can be added to finished shards.
BOOKKEEPING = {"simulations", "shard_size"}
ONE_THREAD = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Task:
    """One simulation: its number in the suite, its cosmology, the seed of its white noise."""

    index: int
    cosmology: Cosmology
    seed: int


def run(
    settings: config.Simulation,
    background: config.Background,
    nodes: np.ndarray,
    root_seed: int,
    shard_dir: Path,
    workers: int = 1,
    progress: bool = True,
) -> MapSet:
    """Simulate a suite; valid shards that are already in `shard_dir` are kept.

    Args:
        settings: the particle mesh, the number of simulations, and how many make a shard.
        background: what all simulations share.
        nodes: (n_nodes, 2) of Omega_m and sigma_8, dealt to the simulations in turn.
        root_seed: root of all white-noise seeds.
        shard_dir: folder of the finished shards, made if need be.
        workers: processes of one thread each; with 1, this process does the work.
        progress: whether to show a progress bar.

    Returns:
        All maps, in the order of their number.

    Raises:
        UserError: a worker died, a field is not finite, or another run uses `shard_dir`.
    """
    suite = Suite(settings, background, nodes, root_seed, Path(shard_dir))
    with _locked(suite.shard_dir):
        shards = suite.finished()
        done = sum(len(shard) for shard in shards.values())
        with tqdm(
            total=settings.simulations,
            initial=done,
            desc="simulate",
            unit="map",
            disable=not progress,
        ) as bar:
            missing = [number for number in range(suite.n_shards) if number not in shards]
            shards |= suite.make(missing, workers, bar)
    data = concatenate([shards[number] for number in range(suite.n_shards)])
    return replace(data, provenance=suite.provenance)


@dataclass(frozen=True)
class Suite:
    """What is to be simulated, and where its shards are; fields as the arguments of `run`."""

    settings: config.Simulation
    background: config.Background
    nodes: np.ndarray
    root_seed: int
    shard_dir: Path

    @property
    def provenance(self) -> dict[str, Any]:
        """All that decides what the maps are, beside their labels and seeds."""
        return provenance(self.settings, self.background, self.root_seed)

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

    def finished(self) -> dict[int, MapSet]:
        """Shards that are there and valid; one warning for each other file that is there."""
        shards = {}
        for number in range(self.n_shards):
            if not self.path(number).exists():
                continue
            try:
                shards[number] = self._read(number)
            except UserError as error:
                logger.warning("%s; simulating it again", error)
        return shards

    def make(self, numbers: list[int], workers: int, bar: tqdm) -> dict[int, MapSet]:
        """Simulate shards and write each as soon as it is whole."""
        shards: dict[int, MapSet] = {}
        parts: dict[int, dict[int, np.ndarray]] = {number: {} for number in numbers}
        tasks = [self.task(i) for number in numbers for i in self.indices(number)]
        with closing(_simulated(tasks, self.settings, workers)) as results:
            for index, counts in results:
                bar.update()
                number = index // self.settings.shard_size
                parts[number][index] = counts
                if len(parts[number]) == len(self.indices(number)):
                    shards[number] = self._shard(number, parts.pop(number))
                    write_maps(self.path(number), shards[number])
        return shards

    def _shard(self, number: int, maps: Mapping[int, np.ndarray]) -> MapSet:
        tasks = [self.task(i) for i in self.indices(number)]
        shard = MapSet(
            maps=np.stack([maps[task.index] for task in tasks]),
            labels=self._labels(tasks),
            seeds=np.array([task.seed for task in tasks], np.uint64),
            index=np.array([task.index for task in tasks], np.int64),
            box_size=self.settings.box_size.value,
        )
        return replace(shard, provenance={**self.provenance, "sha256": _digest(shard)})

    def _read(self, number: int) -> MapSet:
        """Read and check a shard; a UserError says in one line what is wrong with it."""
        path = self.path(number)
        try:
            shard = read_maps(path)
        except UserError:
            raise
        except Exception as error:  # HDF5 on damaged bytes raises almost anything
            raise UserError(f"{path} is damaged: {' '.join(str(error).split())}") from error
        if shard.provenance.get("sha256") != _digest(shard):
            raise UserError(f"{path} is damaged: its checksum does not match its content")
        if not self._is_mine(number, shard):
            raise UserError(f"{path} was made with other settings, seeds or versions")
        return shard

    def _is_mine(self, number: int, shard: MapSet) -> bool:
        """Whether a shard is what would be simulated now; its own checksum is left out."""
        expected = self.provenance | {"sha256": shard.provenance["sha256"]}
        tasks = [self.task(i) for i in self.indices(number)]
        return (
            shard.provenance == expected
            and shard.index.tolist() == [task.index for task in tasks]
            and shard.seeds.tolist() == [task.seed for task in tasks]
            and np.array_equal(shard.labels, self._labels(tasks))
            and bool(np.isfinite(shard.maps).all())
        )

    def _labels(self, tasks: list[Task]) -> np.ndarray:
        return np.array([(task.cosmology.omega_m, task.cosmology.sigma_8) for task in tasks])


def provenance(
    settings: config.Simulation, background: config.Background, root_seed: int
) -> dict[str, Any]:
    """All that decides what maps are, beside their labels and seeds: settings and versions."""
    packages = ["spurious", "tensorflow", "camb", "numpy"]
    if settings.engine == "flowpm":
        packages.append("flowpm")
    return {
        "simulation": settings.model_dump(mode="json", exclude=BOOKKEEPING),
        "background": background.model_dump(mode="json"),
        "root_seed": root_seed,
        "versions": {package: metadata.version(package) for package in packages},
    }


def _digest(shard: MapSet) -> str:
    """SHA-256 of a shard's arrays."""
    digest = hashlib.sha256()
    for values in (shard.maps, shard.labels, shard.seeds, shard.index):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


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


def _simulated(
    tasks: list[Task], settings: config.Simulation, workers: int
) -> Generator[tuple[int, np.ndarray], None, None]:
    """(number, map) of each task, as they come."""
    if not tasks:
        return
    if workers <= 1:
        engine = make_engine(settings)
        for task in tasks:
            yield _simulate(engine, task)
    else:
        yield from _simulated_by_workers(tasks, settings, min(workers, len(tasks)))


def _simulate(engine: Engine, task: Task) -> tuple[int, np.ndarray]:
    try:
        return task.index, one_map(engine, task.cosmology, task.seed)
    except FloatingPointError as error:
        raise UserError(f"simulation {task.index}: {error}") from error


def _simulated_by_workers(
    tasks: list[Task], settings: config.Simulation, workers: int
) -> Generator[tuple[int, np.ndarray], None, None]:
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _start_worker, (settings,)
    )
    try:
        for future in as_completed([pool.submit(_work, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a simulation worker died, perhaps for want of memory: run again to go on "
            f"from the last finished shard, if need be with fewer than {workers} workers"
        ) from error
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_engine: Engine  # one a worker process, set when it starts


def _start_worker(settings: config.Simulation) -> None:
    """Prepare a worker before TensorFlow is imported."""
    global _engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _engine = make_engine(settings)


def _end_with_parent() -> None:
    """End this process as soon as its parent has ended, even if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(task: Task) -> tuple[int, np.ndarray]:
    return _simulate(_engine, task)
