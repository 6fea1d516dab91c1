"""Figures of a stage, written to disk and logged to its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spurious.files import replacing
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import Outputs
from spurious.tracking import Run

UNDATED: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save_figures(
    out: Outputs,
    layout: Layout,
    log: Run,
    named: Mapping[str, Figure],
    folder: str = "",
    formats: Sequence[str] = ("png",),
) -> None:
    """Write each figure to `results/<scale>/<folder>/<name>.<format>`, and log it.

    The files carry no time and no version, so the same figure is the same file.
    """
    for name, figure in named.items():
        FigureCanvasAgg(figure)
        for kind in formats:
            path = layout.result(str(Path(folder) / f"{name}.{kind}"))
            with replacing(out.new(path)) as temporary:
                figure.savefig(temporary, dpi=120, format=kind, metadata=UNDATED[kind])
        log.figure(figure, f"{name}.png")
