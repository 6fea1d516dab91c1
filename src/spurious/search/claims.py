"""Who works on what: several workers share the starts of a study, and none is run twice.

A start waits in the study as a trial that carries its number. A worker claims it by setting that
trial's state to running, which a storage lets only one do. Two workers may at the same moment put
the same number into the queue; the trial with the lower number is the start then, and the other is
dropped. A worker that dies is noticed by its process being gone, if it was on the same machine, or
else by its heartbeat; its trial then has failed, and one with the same parameters waits instead.

=================  =================================================================================
system attribute   meaning
=================  =================================================================================
`worker`           machine, process and when it began
`pulse`            counts the seconds of work, where the storage keeps no heartbeats (gRPC)
=================  =================================================================================
"""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import optuna
import psutil
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from spurious.search.storage import HEARTBEAT, RETRIES, Heartbeat, retry

CLOCK = 2.0  # seconds by which two looks at when a process began may differ
POLL = 0.5  # seconds between looks at what other workers do
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
PENDING = (TrialState.WAITING, TrialState.RUNNING)
GIVEN_UP = "given_up"  # why a start ended without a value; it is not tried again


class Claims:
    """The starts 0 ... n - 1 of a study, to be claimed one by one.

    Args:
        study: where they are.
        starts: n.
        fixed: parameters of a start that are decided beforehand; the sampler proposes the others.
        heartbeat: how often to say that a claimed start is worked on, and how long to believe it.
    """

    def __init__(
        self,
        study: optuna.Study,
        starts: int,
        fixed: Callable[[int], dict[str, float]],
        heartbeat: Heartbeat = HEARTBEAT,
    ) -> None:
        self._study = study
        self._storage = study._storage
        self._starts = starts
        self._fixed = fixed
        self._heartbeat = heartbeat
        self._seen: dict[int, tuple[Any, float]] = {}

    @property
    def settled(self) -> int:
        """How many starts have ended."""
        return len(self._settled(self._trials()))

    def next(self) -> Trial | None:
        """Claim a start; wait while others work on the last ones; None when all have ended."""
        while True:
            self._retry_dead()
            trials = self._trials()
            settled = self._settled(trials)
            if len(settled) == self._starts:
                return None
            taken = settled | {start_of(t) for t in trials if t.state in PENDING}
            free = [start for start in range(self._starts) if start not in taken]
            waiting = [t for t in trials if t.state == TrialState.WAITING]
            if free and not waiting:
                start = free[0]
                attributes = {"start": start, "kind": "proposal"}
                self._study.enqueue_trial(self._fixed(start), user_attrs=attributes)
            elif waiting:
                trial = self._pop(min(waiting, key=lambda t: (start_of(t), t.number)))
                if trial is not None:
                    return trial
            else:
                time.sleep(POLL)

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Say so while working on a trial; hand it back if the work is interrupted."""
        stop = Event()
        pulse = Thread(target=self._beat, args=(trial._trial_id, stop), daemon=True)
        pulse.start()
        try:
            yield
        except BaseException:
            with suppress(Exception):  # of the storage; the first exception is what matters
                self._retry(self._storage.get_trial(trial._trial_id), count=False)
            raise
        finally:
            stop.set()
            pulse.join()

    def owned(self, trial: Trial) -> bool:
        """False if this worker was slept over, believed dead, and its start given to another."""
        return bool(self._storage.get_trial(trial._trial_id).state == TrialState.RUNNING)

    def _trials(self) -> list[FrozenTrial]:
        """The proposals of our starts."""
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.user_attrs.get("kind") == "proposal" and start_of(trial) < self._starts
        ]

    def _settled(self, trials: list[FrozenTrial]) -> set[int]:
        """Starts that need no more work: ended, or given up, or too often retried."""
        failed = [t for t in trials if t.state == TrialState.FAIL]
        pending = {start_of(t) for t in trials if t.state in PENDING}
        hopeless = {
            start_of(t) for t in failed if GIVEN_UP in t.user_attrs or _retries(t) > RETRIES
        }
        return {start_of(t) for t in trials if t.state in ENDED} | (hopeless - pending)

    def _pop(self, waiting: FrozenTrial) -> Trial | None:
        """Claim this trial; None if another was faster or has the same start already."""
        identity = waiting._trial_id
        try:
            if not self._storage.set_trial_state_values(identity, state=TrialState.RUNNING):
                return None
        except UpdateFinishedTrialError:
            return None
        self._storage.set_trial_system_attr(identity, "worker", worker())
        self._record(identity, 0)
        alive = (*ENDED, *PENDING)
        same = [t for t in self._trials() if start_of(t) == start_of(waiting) and t.state in alive]
        if min(t.number for t in same) < waiting.number:
            self._storage.set_trial_state_values(identity, state=TrialState.FAIL)
            return None
        return Trial(self._study, identity)

    def _retry_dead(self) -> None:
        """Put the starts of dead workers back into the queue."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self._study)
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and (_is_gone(trial) or self._is_silent(trial)):
                self._retry(trial)

    def _is_silent(self, trial: FrozenTrial) -> bool:
        """Whether a trial without heartbeats did not change for longer than the grace."""
        token = [trial.system_attrs.get(key) for key in ("worker", "pulse")]
        if hasattr(self._storage, "record_heartbeat") and token[0] is not None:
            return False  # its heartbeats have been looked at
        last, since = self._seen.get(trial.number, (None, 0.0))
        now = time.monotonic()
        if last != token:
            self._seen[trial.number] = (token, now)
            return False
        return now - since > self._heartbeat.grace

    def _retry(self, trial: FrozenTrial, count: bool = True) -> None:
        """Mark as failed and queue one with the same parameters; of several, one does it."""
        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
            retry(self._study, trial, count)

    def _record(self, identity: int, count: int) -> None:
        if hasattr(self._storage, "record_heartbeat"):
            self._storage.record_heartbeat(identity)
        else:
            self._storage.set_trial_system_attr(identity, "pulse", count)

    def _beat(self, identity: int, stop: Event) -> None:
        count = 0
        while not stop.wait(self._heartbeat.interval):
            count += 1
            with suppress(Exception):  # a storage that is away for a moment, or a trial just ended
                self._record(identity, count)


def start_of(trial: FrozenTrial | Trial) -> int:
    """Number of a trial's start."""
    return int(trial.user_attrs["start"])


def worker() -> str:
    """This process, told apart from all others: machine, process number, when it began."""
    process = psutil.Process()
    return f"{_machine()} {process.pid} {process.create_time():.2f}"


def _machine() -> str:
    """Containers may share a host's name, but not its table of processes."""
    with suppress(OSError):
        return f"{platform.node()}/{Path('/proc/self/ns/pid').readlink()}"
    return platform.node()


def _is_gone(trial: FrozenTrial) -> bool:
    """Whether the worker was a process of this machine that has ended; our own works on nothing."""
    claimed = str(trial.system_attrs.get("worker", ""))
    machine, _, rest = claimed.partition(" ")
    if machine != _machine():
        return False
    number, _, began = rest.partition(" ")
    if int(number) == os.getpid():
        return True
    try:
        process = psutil.Process(int(number))
        other = abs(process.create_time() - float(began)) > CLOCK  # the number was given again
        return other or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _retries(trial: FrozenTrial) -> int:
    return len(trial.system_attrs.get("retry_history", [])) + 1
