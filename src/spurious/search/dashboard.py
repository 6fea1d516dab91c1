"""Serve optuna-dashboard on this machine; its card *Best Trial* shows the best feasible one.

`python -m spurious.search.dashboard --port 8080`, or `make dashboard`.

optuna-dashboard 0.21 asks the storage for the best trial of a study, and a storage knows nothing of
constraints.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from spurious.errors import UserError
from spurious.search.artifacts import FOLDER
from spurious.studies import choose_storage, explained, open_storage, shown

HOST = "127.0.0.1"
STUDY = Path("mlruns/optuna.db")


def best_trial(storage: BaseStorage, study_id: int) -> FrozenTrial:
    """The best finished trial that keeps all constraints; if none does, the closest to it.

    Raises:
        ValueError: no trial is finished.
    """
    trials = storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
    feasible = [trial for trial in trials if _violation(trial) <= 0]
    if not feasible:
        return min(trials, key=_violation)
    (direction,) = storage.get_study_directions(study_id)
    sign = 1 if direction == StudyDirection.MAXIMIZE else -1
    return max(feasible, key=lambda trial: sign * (trial.value or 0.0))


def _violation(trial: FrozenTrial) -> float:
    return max(trial.constraints.values(), default=0.0)


def storage_of(storage: str | Path) -> BaseStorage:
    """A storage of which optuna-dashboard gets the best feasible trial.

    Raises:
        UserError: there is none, or it is damaged.
    """
    if isinstance(storage, Path) and not storage.exists():
        raise UserError(f"{storage} is missing: nothing was searched yet; `make repro`")
    with explained(storage):
        opened = open_storage(storage)
    opened.get_best_trial = partial(best_trial, opened)  # type: ignore[method-assign]
    return opened


def main() -> None:
    """Serve until Ctrl-C."""
    from optuna_dashboard import run_server

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--storage", help="a file or URL; by default SPURIOUS_STORAGE or the file")
    options = parser.parse_args()
    place = choose_storage(options.storage, STUDY)
    try:
        storage = storage_of(place)
    except UserError as error:
        sys.exit(f"error: {error}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    print(f"Studies of {shown(place)}: http://{HOST}:{options.port}/dashboard", flush=True)
    run_server(storage, HOST, options.port, artifact_store=FileSystemArtifactStore(FOLDER))


if __name__ == "__main__":
    main()
