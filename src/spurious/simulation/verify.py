"""Agreement of an engine with maps that FlowPM itself made."""

from __future__ import annotations

from typing import Literal

import numpy as np

from spurious import config, seeds
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.progress import track
from spurious.simulation.engine import cosmology_at, make_engine, one_map
from spurious.simulation.suite import provenance

EngineName = Literal["xla", "flowpm"]
LINE_OF_SIGHT = 2  # `one_map` projects along the last axis

# Corners and centre of the paper's grid, and seven nodes between them.
REFERENCE_NODES = np.array(
    [
        (0.05, 0.5),
        (0.05, 1.0),
        (0.55, 0.5),
        (0.55, 1.0),
        (0.3, 0.75),
        (0.3, 0.8),
        (0.1, 0.9),
        (0.15, 0.7),
        (0.2, 0.6),
        (0.25, 0.95),
        (0.4, 0.55),
        (0.45, 0.85),
    ]
)


def make_reference(
    settings: config.Simulation,
    background: config.Background,
    root_seed: int,
    progress: bool = True,
) -> MapSet:
    """One map at each of `REFERENCE_NODES`, made by the engine that `settings` names."""
    white_noise = [seeds.integer(root_seed, "reference", i) for i in range(len(REFERENCE_NODES))]
    return MapSet(
        maps=_maps(settings, background, REFERENCE_NODES, white_noise, progress),
        labels=REFERENCE_NODES,
        seeds=np.array(white_noise, np.uint64),
        index=np.arange(len(REFERENCE_NODES)),
        axis=np.full(len(REFERENCE_NODES), LINE_OF_SIGHT),
        box_size=settings.box_size.value,
        provenance=provenance(settings, background, root_seed),
    )


def verify(reference: MapSet, engine: EngineName = "xla", progress: bool = True) -> np.ndarray:
    """RMS difference over RMS fluctuation of each reference map, remade by `engine`.

    Particle mesh, background and white noise are the reference's own, so that the numbers
    judge the engine whatever the suite's settings are.

    Returns:
        (n,) float64; 0 is perfect agreement, about 1.4 is no relation.

    Raises:
        UserError: the reference does not say how it was made.
    """
    try:
        settings = config.Simulation.model_validate(
            reference.provenance["simulation"] | {"engine": engine}
        )
        background = config.Background.model_validate(reference.provenance["background"])
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the reference does not say how it was made: {reason}") from error
    remade = _maps(settings, background, reference.labels, reference.seeds.tolist(), progress)
    difference = np.sqrt(np.mean((remade - reference.maps.astype(np.float64)) ** 2, axis=(1, 2)))
    return difference / np.std(reference.maps, axis=(1, 2), dtype=np.float64)


def _maps(
    settings: config.Simulation,
    background: config.Background,
    labels: np.ndarray,
    white_noise: list[int],
    progress: bool,
) -> np.ndarray:
    engine = make_engine(settings)
    rows = track(list(zip(labels, white_noise, strict=True)), settings.engine, disable=not progress)
    return np.stack(
        [one_map(engine, cosmology_at(om, s8, background), seed) for (om, s8), seed in rows]
    )
