"""Figures of a stage, written to disk and logged to its run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spurious.files import replacing
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import Outputs
from spurious.tracking import Run


def save_figures(
    out: Outputs, layout: Layout, log: Run, named: Mapping[str, Figure], folder: str = ""
) -> None:
    """Write each figure to `results/<scale>/<folder>/<name>.png`, and log it.

    The PNG carries no time and no version, so the same figure is the same file.
    """
    for name, figure in named.items():
        FigureCanvasAgg(figure)
        with replacing(out.new(layout.result(str(Path(folder) / f"{name}.png")))) as temporary:
            figure.savefig(temporary, dpi=120, metadata={"Software": None})
        log.figure(figure, f"{name}.png")
