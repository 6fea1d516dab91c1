"""Experiment tracking: the only package that imports MLflow, and a null tracker beside it.

One stage is one run. Runs live in `mlruns/mlflow.db`, their artifacts in `mlruns/artifacts/`.
All runs of one pipeline execution carry the same tag `pipeline`; every run carries the git commit
and, for each input, the hash by which DVC knows it. Imports point one way: `ui` and `lifetime` to
`mlflow_run` and `views`, these and `history` to `store`, `run` and `values`.
"""

from spurious.tracking.history import last_runs
from spurious.tracking.lifetime import close_dead, start
from spurious.tracking.mlflow_run import MlflowRun
from spurious.tracking.origin import provenance
from spurious.tracking.run import NullRun, Run
from spurious.tracking.store import STORE, ensure_store, uri
from spurious.tracking.values import flatten, numbers
from spurious.tracking.views import show_attacks

__all__ = [
    "STORE",
    "MlflowRun",
    "NullRun",
    "Run",
    "close_dead",
    "ensure_store",
    "flatten",
    "last_runs",
    "numbers",
    "provenance",
    "show_attacks",
    "start",
    "uri",
]
