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
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import DatabaseError
from tqdm import tqdm

from spurious import config, seeds
from spurious.errors import UserError
from spurious.inference import training
from spurious.inference.callbacks import History
from spurious.inference.proposals import Space
from spurious.maps import MapSet
from spurious.splitting import Split

RANDOM_TRIALS = 8  # before TPE has enough to learn from
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

Train = Callable[..., tuple[keras.Model, History]]


@dataclass(frozen=True)
class Outcome:
    """How one trial ended.

    Attributes:
        index: number of the trial, from 0, which is the network to beat.
        ended: "complete", "pruned" or "diverged".
        value: least validation loss in nats a map; None unless complete.
        epoch: the epoch of that loss, from 1; None unless complete.
        epochs: epochs with a finite loss.
        entry: the trial as an entry of `posteriors` in params.yaml.
    """

    index: int
    ended: str
    value: float | None
    epoch: int | None
    epochs: int
    entry: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """A study: all trials that ended, in order, and what mattered most."""

    study: str
    trials: tuple[Outcome, ...]
    importances: dict[str, float]

    @property
    def best(self) -> Outcome | None:
        """The trial with the least validation loss; None if none is complete."""
        complete = [one for one in self.trials if one.value is not None]
        return min(complete, key=lambda one: (one.value, one.index), default=None)

    @property
    def default(self) -> Outcome | None:
        """The trial of the network to beat."""
        return next((one for one in self.trials if one.index == 0), None)

    def count(self, ended: str) -> int:
        """Number of trials that ended so."""
        return sum(one.ended == ended for one in self.trials)

    def to_json(self) -> dict[str, Any]:
        """Best and default value, the best entry, counts, and every trial."""
        best, default = self.best, self.default
        counts = {f"n_{how}": self.count(how) for how in ("complete", "pruned", "diverged")}
        return {
            "study": self.study,
            "best": best and best.value,
            "default": default and default.value,
            "trial": best and best.index,
            "entry": best and best.entry,
            **counts,
            "importances": self.importances,
            "trials": [asdict(one) for one in self.trials],
        }


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

    Raises:
        UserError: `storage` is no Optuna database, or the data cannot be trained on.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = Space(settings, base, shared)
    study = _open(Path(storage), _study_name(space, data, parts, root_seed), settings)
    _forget_interrupted(study)
    ended = {trial.user_attrs["index"] for trial in _ended(study)}
    todo = [index for index in range(settings.trials) if index not in ended]
    bar = tqdm(total=settings.trials, initial=settings.trials - len(todo), desc="tune",
               unit="trial", disable=not progress)  # fmt: skip
    with bar:
        for index in todo:
            trial, entry = _propose(study, space, root_seed, index)
            network = config.Network.model_validate(entry)
            used = network.trained(shared).model_copy(update={"epochs": settings.epochs})
            folder = Path(checkpoint_dir) / f"{study.study_name}-{index}"
            report = _Report(trial, _earlier(study, index), bar, _least(study))
            train = partial(training.train, data, parts, network, used, root_seed, folder)
            _train(study, trial, report, train)
            shutil.rmtree(folder, ignore_errors=True)
            bar.update()
    return result(study, settings)


def result(study: optuna.Study, settings: config.Tune) -> Result:
    """The first `settings.trials` trials that ended, in order."""
    trials = [t for t in _ended(study) if t.user_attrs["index"] < settings.trials]
    outcomes = sorted((_outcome(trial) for trial in trials), key=lambda one: one.index)
    return Result(study.study_name, tuple(outcomes), _importances(trials))


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
        trial.set_user_attr("ended", "complete")
        trial.set_user_attr("epoch", int(np.argmin(losses)) + 1)
        study.tell(trial, min(losses))


class _Report(keras.callbacks.Callback):
    """Tells a trial the validation loss of every epoch and ends it where it is hopeless.

    Args:
        trial: the trial.
        earlier: losses by epoch of the interrupted trial that this one goes on with.
        bar: shows the epoch, its loss and the best value.
        best: the best value of earlier trials.
    """

    def __init__(self, trial: Trial, earlier: dict[int, float], bar: tqdm, best: float) -> None:
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
        for step in [step for step in self.earlier if step < epoch]:
            self.trial.report(self.earlier.pop(step), step)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Report; raise `optuna.TrialPruned` where the pruner says so."""
        loss = logs["val_loss"]
        text = f"trial {self.trial.user_attrs['index']}, epoch {epoch + 1}: {loss:.3f}"
        self.bar.set_postfix_str(f"{text}, best {self.best:.3f}" if self.best < np.inf else text)
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


def _outcome(trial: FrozenTrial) -> Outcome:
    attributes = trial.user_attrs
    epochs = len(trial.intermediate_values)
    return Outcome(
        attributes["index"],
        attributes["ended"],
        trial.value if trial.state == TrialState.COMPLETE else None,
        attributes.get("epoch"),
        epochs,
        attributes["entry"],
    )


def _importances(trials: list[FrozenTrial]) -> dict[str, float]:
    """Share of each parameter in what makes good trials good; empty with too few of them.

    PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), of parameters that all trials have.
    """
    study = optuna.create_study(direction="minimize")
    study.add_trials([trial for trial in trials if trial.state == TrialState.COMPLETE])
    if len(study.trials) < RANDOM_TRIALS:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _ended(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=ENDED)


def _least(study: optuna.Study) -> float:
    """The best value so far."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return min((trial.value for trial in complete if trial.value is not None), default=np.inf)


def _earlier(study: optuna.Study, index: int) -> dict[int, float]:
    """Losses by epoch that interrupted trials of this number have told."""
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


def _open(storage: Path, name: str, settings: config.Tune) -> optuna.Study:
    storage = storage.resolve()
    storage.parent.mkdir(parents=True, exist_ok=True)
    try:
        return optuna.create_study(
            storage=f"sqlite:///{storage}",
            study_name=name,
            direction="minimize",
            pruner=optuna.pruners.MedianPruner(settings.startup_trials, settings.warmup_epochs),
            load_if_exists=True,
        )
    except (DatabaseError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{storage} is damaged or is no Optuna study: {reason}") from error
