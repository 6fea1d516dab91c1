"""A run that keeps what a stage says of itself, where MLflow would take seconds."""

from contextlib import contextmanager

import numpy as np

from spurious import tracking
from spurious.data.hdf5 import read_maps

READERS = {".h5": read_maps, ".npy": np.load}


class Noted(tracking.NullRun):
    """Keeps what was logged; its children too, by name."""

    def __init__(self, id="noted", **about):
        self.id, self.about = id, about
        self.logged, self.curves, self.children = {}, {}, {}
        self.figures, self.files, self.folders = {}, {}, {}
        self.datasets, self.models, self.documents = {}, {}, {}

    def params(self, values):
        self.logged |= values

    def metrics(self, values):
        self.logged |= values

    def series(self, values):
        self.curves |= values

    def document(self, values, name):
        self.documents[name] = values

    def figure(self, figure, name):
        self.figures[name] = figure

    def artifact(self, path):
        self.files[path.name] = path.read_bytes()

    def artifacts(self, folder, name):
        found = sorted(folder.iterdir())
        self.folders[name] = {path.name: READERS[path.suffix](path) for path in found}

    def dataset(self, data, path, context, stored=None):
        self.datasets[context] = (data, path)

    def model(self, model, example, name, current=True, card=""):
        self.models[name] = (model, example, current, card)

    @contextmanager
    def child(self, name, tags=None):
        self.children[name] = Noted(f"{self.id}/{name}", tags=tags)
        yield self.children[name]


class Runs(list):
    """Runs, and what a test keeps beside them."""


def note(patch):
    """The list of runs that stages will open, each called as its stage.

    Progress is not shown: where a machine is slow it would stand among what a stage prints.
    """
    runs = Runs()
    patch.setenv("CI", "1")

    @contextmanager
    def start(stage, experiment, *, inputs=(), tags=None):
        runs.append(Noted(stage, scale=experiment, inputs=list(inputs), tags=tags))
        yield runs[-1]

    patch.setattr(tracking, "start", start)
    return runs
