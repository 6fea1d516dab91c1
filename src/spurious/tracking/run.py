"""What a stage can say about itself while it runs, and a run that keeps nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

    from spurious.data.maps import MapSet


class Run(Protocol):
    """What a stage can say about itself while it runs."""

    id: str

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters; nested mappings become dotted names."""

    def metrics(self, values: Mapping[str, float]) -> None:
        """Final numbers."""

    def series(self, values: Mapping[str, Sequence[float]]) -> None:
        """Curves: the i-th value is logged at step i."""

    def figure(self, figure: Figure, name: str) -> None:
        """A figure, kept as the artifact `name`."""

    def document(self, values: Mapping[str, Any], name: str) -> None:
        """Values that are not to be compared with those of other runs, as the JSON file `name`."""

    def artifact(self, path: Path) -> None:
        """A file, kept under its own name."""

    def artifacts(self, folder: Path, name: str) -> None:
        """All files of a folder, kept below `name`."""

    def dataset(self, data: MapSet, path: Path, context: str, stored: Path | None = None) -> None:
        """The data set that the run read or, while it is `stored` elsewhere, will write."""

    def model(
        self, model: keras.Model, example: Any, name: str, current: bool = True, card: str = ""
    ) -> None:
        """A Keras model with its signature, registered as `name`, `current` with that alias.

        A `card`, Markdown, describes this version of it.
        """

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Keras callbacks that log the metrics of each epoch."""

    def child(
        self, name: str, tags: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Run]:
        """A run below this one; it has this one's tags and its own."""


class NullRun:
    """Tracks nothing."""

    id = "untracked"

    def params(self, values: Mapping[str, Any]) -> None: ...
    def metrics(self, values: Mapping[str, float]) -> None: ...
    def series(self, values: Mapping[str, Sequence[float]]) -> None: ...
    def figure(self, figure: Figure, name: str) -> None: ...
    def document(self, values: Mapping[str, Any], name: str) -> None: ...
    def artifact(self, path: Path) -> None: ...
    def artifacts(self, folder: Path, name: str) -> None: ...
    def dataset(
        self, data: MapSet, path: Path, context: str, stored: Path | None = None
    ) -> None: ...
    def model(
        self, model: keras.Model, example: Any, name: str, current: bool = True, card: str = ""
    ) -> None: ...
    def callbacks(self) -> list[keras.callbacks.Callback]:
        return []

    def child(
        self, name: str, tags: Mapping[str, str] | None = None
    ) -> AbstractContextManager[Run]:
        return nullcontext(NullRun())
