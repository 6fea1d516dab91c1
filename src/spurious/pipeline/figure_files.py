"""Figures of a stage, written to disk and logged to its run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spurious.figures.dark import darken
from spurious.files import replacing
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import Outputs
from spurious.tracking import Run

DPI = 120
FORMATS = ("png", "pdf")
"""Every figure is there in each: for the report and for papers."""
UNDATED: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def figure_files(layout: Layout, *names: str) -> list[Path]:
    """Where the figures of these names are."""
    return [layout.result(f"{name}.{kind}") for name in names for kind in FORMATS]


def save_figures(
    out: Outputs,
    layout: Layout,
    log: Run,
    named: Mapping[str, Figure],
    folder: str = "",
) -> None:
    """Write each figure to `results/<scale>/<folder>/<name>`, as PNG and PDF, and log it.

    The files carry no time and no version, so the same figure is the same file.
    """
    for name, figure in named.items():
        FigureCanvasAgg(figure)
        for path in figure_files(layout, str(Path(folder) / name)):
            kind = path.suffix[1:]
            with replacing(out.new(path)) as temporary:
                figure.savefig(temporary, dpi=DPI, format=kind, metadata=UNDATED[kind])
        log.figure(figure, f"{name}.png")


def dark_png(figure: Figure) -> bytes:
    """A figure as PNG for a dark page; the figure itself becomes dark."""
    darken(figure)
    file = io.BytesIO()
    figure.savefig(file, dpi=DPI, format="png", metadata=UNDATED["png"])
    return file.getvalue()
