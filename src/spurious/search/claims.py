"""Who works on what: several workers share the starts of a study, and none is run twice.

A worker claims a start by adding a running trial that carries the start's number and the worker's
name. Two workers may do so at the same moment: then the trial with the lower number holds the
start, and the other is dropped, which both of them see alike, because every storage numbers trials
one after the other.

Optuna's own queue and heartbeat do not suffice: of four workers that took queued trials of one
SQLite study, two got the same one; a killed trial stays RUNNING until its grace of a minute has
passed, for which a resumed search would wait; and behind gRPC no heart beats.

A worker that dies is noticed by its process being gone, if it was on the same machine, or else by
its heartbeat. Its trial then has failed, and whoever claims the start again takes the parameters
over.

==================  ================================================================================
attribute           meaning
==================  ================================================================================
`worker` (1)        machine, process and when it began
`pulse` (1)         that the worker's heart beats; with gRPC, how often it did
`failed_trial` (1)  number of the trial whose parameters this one took over
`dropped` (2)       another trial held the start already
`given_up` (2)      why a start ended without a value; it is not tried again
==================  ================================================================================

(1) system attributes, (2) user attributes.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState

from spurious.processes import is_gone, this_process
from spurious.studies import HEARTBEAT, Heartbeat

POLL = 0.5  # seconds between looks at what other workers do
RETRIES = 10  # of a start whose worker died; perhaps it is the start that kills
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
GIVEN_UP = "given_up"


class Claims:
    """The starts 0 ... n - 1 of a study, to be claimed one by one.

    Args:
        study: where they are.
        starts: n.
        fixed: parameters of a start; those that are left out, the study's sampler proposes.
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
        return len(_settled(self._trials()))

    def next(self) -> Trial | None:
        """Claim a start; wait while others work on the last ones; None when all have ended."""
        lost = False
        while True:
            self._fail_dead()
            trials = self._trials()
            settled = _settled(trials)
            if len(settled) == self._starts:
                return None
            taken = settled | {start_of(t) for t in trials if t.state == TrialState.RUNNING}
            free = [start for start in range(self._starts) if start not in taken]
            if not free:
                time.sleep(POLL)
                continue
            # In order, unless another worker just did the same.
            trial = self._claim(random.choice(free) if lost else free[0], trials)
            if trial is not None:
                return trial
            lost = True

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Say so while working on a trial; give the start back if the work is interrupted."""
        stop = Event()
        pulse = Thread(target=self._beat, args=(trial._trial_id, stop), daemon=True)
        pulse.start()
        try:
            yield
        except BaseException:
            with suppress(Exception):  # of the storage; the first exception is what matters
                self._fail(trial._trial_id)
            raise
        finally:
            stop.set()
            pulse.join()

    def owned(self, trial: Trial) -> bool:
        """False if this worker was slept over, believed dead, and its start given to another."""
        return bool(self._storage.get_trial(trial._trial_id).state == TrialState.RUNNING)

    def _trials(self) -> list[FrozenTrial]:
        """The proposals of our starts that count."""
        return [
            trial
            for trial in self._study.get_trials(deepcopy=False)
            if trial.user_attrs.get("kind") == "proposal"
            and start_of(trial) < self._starts
            and "dropped" not in trial.user_attrs
        ]

    def _claim(self, start: int, trials: list[FrozenTrial]) -> Trial | None:
        """Add a running trial; None if another one holds the start."""
        failed = [t for t in trials if start_of(t) == start and t.params]
        # What a start begins with may have cost network work to find out.
        fixed = failed[-1].params if failed else self._fixed(start)
        system: dict[str, Any] = {"worker": this_process(), "fixed_params": fixed}
        if failed:
            system["failed_trial"] = failed[-1].number
        added = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=failed[-1].params if failed else {},
            distributions=failed[-1].distributions if failed else {},
            user_attrs={"start": start, "kind": "proposal"},
            system_attrs=system,
        )
        identity = self._storage.create_new_trial(self._study._study_id, template_trial=added)
        self._record(identity, 0)
        own = self._storage.get_trial(identity)
        for other in self._trials():
            if start_of(other) == start and other.number < own.number and _holds(other):
                self._storage.set_trial_user_attr(identity, "dropped", True)
                self._fail(identity)
                return None
        return Trial(self._study, identity)

    def _fail_dead(self) -> None:
        """Let the trials of dead workers have failed, so that their starts are free."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            fail_stale_trials(self._study)
        for trial in self._trials():
            if trial.state == TrialState.RUNNING and (_is_gone(trial) or self._is_silent(trial)):
                self._fail(trial._trial_id)

    def _is_silent(self, trial: FrozenTrial) -> bool:
        """Whether a trial did not change for longer than the grace, if nobody else looks at it.

        Optuna looks at those whose heartbeats the storage keeps, once there is one.
        """
        pulse = trial.system_attrs.get("pulse")
        if self._keeps_heartbeats and pulse is not None:
            return False
        last, since = self._seen.get(trial.number, (-1, 0.0))
        now = time.monotonic()
        if last != pulse:
            self._seen[trial.number] = (pulse, now)
            return False
        return now - since > self._heartbeat.grace

    def _fail(self, identity: int) -> None:
        with suppress(UpdateFinishedTrialError):  # another worker did
            self._storage.set_trial_state_values(identity, state=TrialState.FAIL)

    @property
    def _keeps_heartbeats(self) -> bool:
        return hasattr(self._storage, "record_heartbeat")

    def _record(self, identity: int, count: int) -> None:
        keeper = getattr(self._storage, "record_heartbeat", None)
        if keeper is not None:
            keeper(identity)
        if keeper is None or count == 0:
            self._storage.set_trial_system_attr(identity, "pulse", count)

    def _beat(self, identity: int, stop: Event) -> None:
        count = 0
        while not stop.wait(self._heartbeat.interval):
            count += 1
            with suppress(Exception):  # a storage that is away for a moment, or a trial just ended
                self._record(identity, count)


def _holds(trial: FrozenTrial) -> bool:
    """Whether a trial holds its start."""
    return trial.state == TrialState.RUNNING or trial.state in ENDED


def _settled(trials: list[FrozenTrial]) -> set[int]:
    """Starts that need no more work: ended, given up, or too often retried."""
    running = {start_of(t) for t in trials if t.state == TrialState.RUNNING}
    failed = [t for t in trials if t.state == TrialState.FAIL]
    given_up = {start_of(t) for t in failed if GIVEN_UP in t.user_attrs}
    counts = {start: sum(start_of(t) == start for t in failed) for start in map(start_of, failed)}
    killing = {start for start, count in counts.items() if count > RETRIES}
    return {start_of(t) for t in trials if t.state in ENDED} | given_up | (killing - running)


def start_of(trial: FrozenTrial | Trial) -> int:
    """Number of a trial's start."""
    return int(trial.user_attrs["start"])


def _is_gone(trial: FrozenTrial) -> bool:
    """Whether the worker was a process of this machine that has ended; our own works on nothing."""
    claimed = str(trial.system_attrs.get("worker", ""))
    return is_gone(claimed) or claimed == this_process()
