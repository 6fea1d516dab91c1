"""Figures of a study's trials, where optuna-dashboard shows them.

`optuna-dashboard --artifact-dir FOLDER` shows what is kept below FOLDER.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import optuna
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts._upload import ArtifactMeta

FOLDER = Path("mlruns/optuna-artifacts")
# A finished trial takes no more attributes, `optuna.artifacts.upload_artifact` among them. The
# dashboard also reads these of the study, in which it keeps what is uploaded to it by hand.
ATTRIBUTE = "dashboard:artifacts:{trial}:{artifact}"


def attach(
    study: optuna.Study, number: int, figures: Mapping[str, Figure], folder: Path
) -> list[str]:
    """Keep figures with a trial, in place of those of the same name that it has.

    Args:
        study: the study.
        number: of the trial.
        figures: by file name without suffix.
        folder: where artifacts are; made if missing.

    Returns:
        The artifacts' names in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = FileSystemArtifactStore(folder)
    trial = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    kept = []
    for name, figure in figures.items():
        artifact = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{study.study_name}/{number}/{name}"))
        store.write(artifact, io.BytesIO(_png(figure)))
        meta = ArtifactMeta(artifact, f"{name}.png", "image/png", None)
        key = ATTRIBUTE.format(trial=trial, artifact=artifact)
        study._storage.set_study_system_attr(study._study_id, key, json.dumps(asdict(meta)))
        kept.append(artifact)
    return kept


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
