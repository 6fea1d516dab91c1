"""A run in MLflow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from spurious.files import md5
from spurious.tracking.run import Run
from spurious.tracking.store import connect, unspoken
from spurious.tracking.values import flatten

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from spurious.data.maps import MapSet

ALIAS = "current"


class MlflowRun:
    """The active MLflow run; while a child is open, the child is.

    It may be sent to another process, there to open children.
    """

    def __init__(self, run_id: str, tags: Mapping[str, str], experiment: str, store: Path) -> None:
        self.id, self.tags, self.experiment, self.store = run_id, tags, experiment, store

    def params(self, values: Mapping[str, Any]) -> None:
        import mlflow

        mlflow.log_params(flatten(values))

    def metrics(self, values: Mapping[str, float]) -> None:
        import mlflow

        mlflow.log_metrics(dict(values))

    def series(self, values: Mapping[str, Sequence[float]]) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        points = [
            Metric(name, float(value), timestamp=step, step=step)
            for name, curve in values.items()
            for step, value in enumerate(curve)
        ]
        for first in range(0, len(points), 1000):  # MLflow's limit for one batch
            MlflowClient().log_batch(self.id, metrics=points[first : first + 1000])

    def figure(self, figure: Figure, name: str) -> None:
        import mlflow

        mlflow.log_figure(figure, name)

    def document(self, values: Mapping[str, Any], name: str) -> None:
        import mlflow

        mlflow.log_dict(dict(values), name)

    def artifact(self, path: Path) -> None:
        import mlflow

        mlflow.log_artifact(str(path))

    def artifacts(self, folder: Path, name: str) -> None:
        import mlflow

        mlflow.log_artifacts(str(folder), name)

    def dataset(self, data: MapSet, path: Path, context: str, stored: Path | None = None) -> None:
        import mlflow
        from mlflow.data.numpy_dataset import from_numpy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a hint on integer columns, of which there are none
            digest = md5(stored or path)
            source = from_numpy(
                data.maps, targets=data.labels, source=str(path), name=path.stem, digest=digest
            )
            mlflow.log_input(source, context=context)

    def model(
        self, model: keras.Model, example: Any, name: str, current: bool = True, card: str = ""
    ) -> None:
        import mlflow
        from mlflow import MlflowClient
        from mlflow.models import infer_signature

        outputs = model.predict(example, verbose=0)
        if len(model.outputs) > 1:
            outputs = dict(zip(model.output_names, outputs, strict=True))
        with FileLock(self.store / ".models.lock"):  # several trainings may end at once
            logged = mlflow.keras.log_model(
                model,
                name="network",
                signature=infer_signature(example, outputs),
                pip_requirements=["spurious", "tensorflow", "keras"],
            )
            with unspoken():
                version = str(mlflow.register_model(logged.model_uri, name).version)
            if card:
                MlflowClient().update_model_version(name, version, description=card)
            if current:
                MlflowClient().set_registered_model_alias(name, ALIAS, version)

    def callbacks(self) -> list[keras.callbacks.Callback]:
        import mlflow.keras

        return [mlflow.keras.MlflowCallback()]

    @contextmanager
    def child(self, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
        import mlflow

        if mlflow.active_run() is None:  # in a process that was sent this run
            connect(self.store, self.experiment)
        every = {**self.tags, **(tags or {})}
        options = {"nested": True, "parent_run_id": self.id, "log_system_metrics": False}
        with opened(name, every, **options) as run_id:
            yield MlflowRun(run_id, every, self.experiment, self.store)


@contextmanager
def opened(name: str, tags: Mapping[str, str], **options: Any) -> Iterator[str]:
    """A run, by its id, that is marked by how the block ends."""
    import mlflow

    run = mlflow.start_run(run_name=name, tags=dict(tags), **options)
    try:
        yield run.info.run_id
    except Exception:
        mlflow.end_run("FAILED")
        raise
    except BaseException:  # Ctrl-C, SIGTERM
        mlflow.end_run("KILLED")
        raise
    else:
        mlflow.end_run()
