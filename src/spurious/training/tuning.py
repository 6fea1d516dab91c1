"""Tuning: an Optuna study over a network's architecture and training settings.

A trial is one training; its value is the least validation loss, in nats a map, and no test map is
looked at. The first trial is the network as it is, so that the study says whether anything beats
it. From then on the sampler (TPE) proposes, and a trial whose best loss so far is worse than the
median of the others at the same epoch is pruned.

The study lives in an SQLite file and can be resumed. Trial i's proposal, initial weights and
batches are seeded by the root seed and i, and the sampler sees only trials that have ended, so a
trial that was interrupted is proposed again just as before and goes on after its last finished
epoch. One process at a time may work on a study. A file can hold several studies, named by what
they depend on: other maps or another network to beat begin a new one.

=======================  ===========================================================================
attribute of a trial     meaning
=======================  ===========================================================================
`index`                  i; that of an interrupted trial and of its repetition are the same
`entry`                  the trial as an entry of `posteriors` in params.yaml
`ended`                  "complete", "pruned" or "diverged"; absent if interrupted
`epoch`                  the best one, from 1 (complete trials only)
=======================  ===========================================================================

Diverged trials are pruned ones to Optuna, so that its sampler learns from them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from spurious import config, seeds
from spurious.data.maps import MapSet
from spurious.data.splits import Split
from spurious.errors import UserError
from spurious.progress import Bar
from spurious.studies import open_study
from spurious.training import loop
from spurious.training.callbacks import History
from spurious.training.defence import Defence
from spurious.training.tuning_result import Result
from spurious.training.tuning_space import Space

RANDOM_TRIALS = 8  # before TPE has enough to learn from
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

Train = Callable[..., tuple[keras.Model, History]]


def run(
    settings: config.Tune,
    data: MapSet,
    parts: Split,
    base: config.Network,
    shared: config.Training,
    root_seed: int,
    storage: Path,
    checkpoint_dir: Path,
    progress: bool = True,
    defence: Defence | None = None,
) -> Result:
    """Tune until `settings.trials` trials have ended, counting those of earlier calls.

    Args:
        settings: trials, their epochs, and what is tried.
        data: maps in counts with their labels.
        parts: row numbers; the test part is not looked at.
        base: the network to beat. All that is not tuned stays as it is there.
        shared: settings of a training that neither `base` nor a trial sets.
        root_seed: with a trial's number, of all its random draws.
        storage: SQLite file; made if missing.
        checkpoint_dir: where each trial has a folder while it goes on.
        progress: show a bar.
        defence: what `base`, and so every trial, is trained against; none: nothing.

    Raises:
        UserError: `storage` is no Optuna database, or the data cannot be trained on.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = Space(settings, base, shared)
    study = open_study(
        Path(storage),
        _study_name(space, data, parts, root_seed),
        "minimize",
        pruner=optuna.pruners.MedianPruner(settings.startup_trials, settings.warmup_epochs),
    )
    _forget_interrupted(study)
    ended = {trial.user_attrs["index"] for trial in _ended(study)}
    todo = [index for index in range(settings.trials) if index not in ended]
    bar = Bar(total=settings.trials, initial=settings.trials - len(todo), name="tune",
               unit="trial", disable=not progress)  # fmt: skip
    with bar:
        for index in todo:
            trial, entry = _propose(study, space, root_seed, index)
            network = config.Network.model_validate(entry)
            used = network.trained(shared).model_copy(update={"epochs": settings.epochs})
            folder = Path(checkpoint_dir) / f"{study.study_name}-{index}"
            report = _Report(trial, _earlier(study, index), bar, _least(study))
            train = partial(loop.train, data, parts, network, used, root_seed, folder)
            _train(study, trial, report, partial(train, defence=defence))
            _clear(folder)
            bar.update()
    trials = [trial for trial in _ended(study) if trial.user_attrs["index"] < settings.trials]
    return Result.of_trials(study.study_name, trials)


def _train(study: optuna.Study, trial: Trial, report: _Report, train: Train) -> None:
    """Train and tell the study how it ended; an interruption leaves the trial running."""
    keras.backend.clear_session()  # what earlier trials left would only grow
    try:
        _, history = train(callbacks=[report], progress=False)
    except optuna.TrialPruned:
        trial.set_user_attr("ended", "pruned")
        study.tell(trial, state=TrialState.PRUNED)
    except UserError:
        if not report.began:  # nothing to do with this trial's settings
            study.tell(trial, state=TrialState.FAIL)
            raise
        trial.set_user_attr("ended", "diverged")
        study.tell(trial, state=TrialState.PRUNED)
    else:
        losses = history["val_loss"]
        report.catch_up(len(losses))  # where only the study had not heard that training was over
        trial.set_user_attr("ended", "complete")
        trial.set_user_attr("epoch", int(np.argmin(losses)) + 1)
        study.tell(trial, min(losses))


def _clear(folder: Path) -> None:
    """Remove the checkpoints of a trial that has ended."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty: other trainings go on there
        folder.parent.rmdir()


class _Report(keras.callbacks.Callback):
    """Tells a trial the validation loss of every epoch and ends it where it is hopeless.

    Args:
        trial: the trial.
        earlier: losses by epoch of the interrupted trial that this one goes on with.
        bar: shows the epoch, its loss and the best value.
        best: the best value of earlier trials.
    """

    def __init__(self, trial: Trial, earlier: dict[int, float], bar: Bar, best: float) -> None:
        super().__init__()
        self.trial = trial
        self.earlier = earlier
        self.bar = bar
        self.best = best
        self.began = False

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """From here on a loss that is not finite is the trial's own fault."""
        self.began = True

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """In the first epoch after a resume, tell the losses of those before it."""
        self.catch_up(epoch)

    def catch_up(self, epochs: int) -> None:
        """Once: tell the losses of the interrupted trial's first epochs."""
        for step, loss in self.earlier.items():
            if step < epochs:
                self.trial.report(loss, step)
        self.earlier = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Report; raise `optuna.TrialPruned` where the pruner says so."""
        loss = logs["val_loss"]
        text = f"trial {self.trial.user_attrs['index']}, epoch {epoch + 1}: {loss:.3f}"
        self.bar.note = f"{text}, best {self.best:.3f}" if self.best < np.inf else text
        self.trial.report(loss, epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def _propose(
    study: optuna.Study, space: Space, root_seed: int, index: int
) -> tuple[Trial, dict[str, Any]]:
    """Ask the sampler, or take the network to beat; return the trial and its entry."""
    study.sampler = optuna.samplers.TPESampler(
        seed=seeds.integer(root_seed, "tune", index) % 2**32,
        n_startup_trials=RANDOM_TRIALS,
        constant_liar=False,  # only ended trials count, so that an interruption leaves no trace
    )
    if index == 0 and not study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
        study.enqueue_trial(space.coordinates())
    trial = study.ask()
    trial.set_user_attr("index", index)
    entry = space.entry(trial, index)
    trial.set_user_attr("entry", entry)
    return trial, entry


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=ENDED)


def _least(study: optuna.Study) -> float:
    """The best value so far."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return min((trial.value for trial in complete if trial.value is not None), default=np.inf)


def _earlier(study: optuna.Study, index: int) -> dict[int, float]:
    """Losses by epoch that interrupted trials of this number reported."""
    earlier: dict[int, float] = {}
    for trial in study.get_trials(deepcopy=False, states=[TrialState.FAIL]):
        if trial.user_attrs.get("index") == index:
            earlier |= trial.intermediate_values
    return earlier


def _forget_interrupted(study: optuna.Study) -> None:
    """Mark trials that a killed process left running as failed; they come again."""
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)


def _study_name(space: Space, data: MapSet, parts: Split, root_seed: int) -> str:
    """A name that two calls share only if one goes on where the other stopped."""
    kept = [
        space.settings.model_dump_json(exclude={"trials", "base"}),
        space.base.model_dump_json(),
        space.base.trained(space.shared).model_dump_json(exclude={"epochs"}),
    ]
    digest = hashlib.sha256(f"{kept} {root_seed}".encode())
    for rows in (parts.train, parts.validation):
        digest.update(np.ascontiguousarray(data.maps[rows], np.float32).tobytes())
        digest.update(np.ascontiguousarray(data.labels[rows], np.float64).tobytes())
    return f"networks-{digest.hexdigest()[:12]}"
