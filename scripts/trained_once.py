"""Networks that a script trains beside those of the pipeline: each once, and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

from spurious.config import Config, Network, Training
from spurious.data.hdf5 import read_maps
from spurious.data.splits import evenly_spaced
from spurious.pipeline import identity
from spurious.pipeline.inputs import parts
from spurious.pipeline.layout import Layout
from spurious.posteriors.trained import NetworkPosterior
from spurious.training import loop


def train(
    config: Config, owner: str, entry: Network, used: Training, number: int = 1, share: float = 1.0
) -> Path:
    """The file of one training, made unless it is there; a killed training goes on.

    Args:
        config: has maps, split and seed.
        owner: of the folder for this script's networks, which is none that a stage depends on.
        entry: of the network.
        used: how it is trained.
        number: of the training, which has weights and order of maps of its own.
        share: of the training maps, evenly spaced.
    """
    layout = Layout(config.scale)
    of = {**identity.expected(config, config.run.target, number), "entry": entry.model_dump()}
    of |= {"used": used.model_dump(), "share": share}
    digest = hashlib.md5(json.dumps(of, default=str).encode(), usedforsecurity=False).hexdigest()
    path = layout.checkpoints(f"networks-{owner}") / f"{digest}.keras"
    if path.is_file():
        return path
    data = read_maps(layout.maps)
    split = parts(config, data, entry.split)
    rows = evenly_spaced(len(split.train), round(share * len(split.train)))
    folder = layout.checkpoints(f"{owner}-{digest}")
    model, _ = loop.train(
        data,
        replace(split, train=split.train[rows]),
        entry,
        used,
        config.seed,
        folder,
        number=number,
        keep_checkpoint=True,
    )
    posterior, validation = NetworkPosterior(model), data.take(split.validation)
    if used.recalibrate:
        posterior.recalibrate(validation.maps, validation.labels)
    posterior.identity = {"of": digest}
    path.parent.mkdir(parents=True, exist_ok=True)
    posterior.save(path)
    shutil.rmtree(folder, ignore_errors=True)
    return path
