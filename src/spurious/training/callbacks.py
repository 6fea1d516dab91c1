"""Keras callbacks of a training: what stops it, what shows it, and what lets it be resumed."""

from __future__ import annotations

import json
import math
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from spurious import config
from spurious.errors import UserError
from spurious.files import replacing
from spurious.progress import Bar

History = dict[str, list[float]]


class Watch(keras.callbacks.Callback):
    """Add the learning rate to the logs; stop when the loss is no longer finite."""

    def __init__(self, settings: config.Training) -> None:
        super().__init__()
        self.settings = settings

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Raise a UserError that says what to try."""
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["val_loss"])):
            rate = self.settings.learning_rate
            raise UserError(
                f"training.learning_rate = {rate}: the loss is not finite in epoch {epoch + 1}; "
                f"try a lower one, such as {rate / 3:.1g}"
            )


class Epochs(keras.callbacks.Callback):
    """One step of a progress bar an epoch."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self.bar = bar

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """One step further."""
        self.bar.note = f"loss {logs['loss']:.3f}, validation {logs['val_loss']:.3f}"
        self.bar.update()


class Checkpoint(keras.callbacks.Callback):
    """Best weights and history so far; with the current state they are on disk after each epoch.

    Keras' own BackupAndRestore keeps neither the best weights nor the history.
    """

    def __init__(self, path: Path, patience: int) -> None:
        super().__init__()
        self.path = path
        self.patience = patience
        self.best: list[np.ndarray] = []
        self.history: History = {}

    def resume(self, model: keras.Model) -> int:
        """Read the checkpoint, if there is one, into `model`; return the next epoch's number."""
        self.best = model.get_weights()
        if not self.path.is_file():
            return 0
        try:
            with np.load(self.path) as saved:
                self.history = _read_history(str(saved["history"]))
                self.best = [saved[f"best_{i}"] for i in range(len(self.best))]
                for i, variable in enumerate(_state(model)):
                    variable.assign(saved[f"state_{i}"])
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.path} is damaged: remove it to train anew") from error
        return len(self.history["loss"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Keep the weights if they are the best, write all, stop if patience is exhausted."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        losses = self.history["val_loss"]
        if losses[-1] == min(losses):
            self.best = self.model.get_weights()
        self._write()
        if self.exhausted:
            self.model.stop_training = True

    @property
    def exhausted(self) -> bool:
        """Whether the last `patience` epochs brought no better validation loss."""
        losses = self.history.get("val_loss", [])
        return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= self.patience

    def _write(self) -> None:
        arrays: dict[str, Any] = {f"best_{i}": value for i, value in enumerate(self.best)}
        arrays |= {f"state_{i}": v.numpy() for i, v in enumerate(_state(self.model))}
        with replacing(self.path) as temporary:
            np.savez(temporary, history=json.dumps(self.history), **arrays)

    def remove(self) -> None:
        """Remove all checkpoints of trainings in the folder, and the folder if then empty."""
        for path in self.path.parent.glob("training-*.npz"):
            path.unlink()
        with suppress(OSError):
            self.path.parent.rmdir()


def _read_history(text: str) -> History:
    """A history with both losses, as many of each.

    Raises:
        ValueError: the text is none.
    """
    history = json.loads(text)
    curves = history.values() if isinstance(history, dict) else ()
    if not all(isinstance(x, float | int) for curve in curves for x in curve):
        raise ValueError("a curve has something that is no number")
    if {"loss", "val_loss"} - set(history) or len({len(curve) for curve in curves}) != 1:
        raise ValueError("curves are missing, or not of the same length")
    return cast(History, history)


def _state(model: keras.Model) -> list[keras.Variable]:
    """All that a training step changes: weights, states of random generators, optimizer."""
    return [*model.variables, *model.optimizer.variables]
