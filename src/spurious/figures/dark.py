"""Figures for a dark page."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

INK, PAPER = "#e8e6e3", "#16181b"  # as in the report's style sheet
COLOURED: dict[type, tuple[str, ...]] = {
    Text: ("color",),
    Line2D: ("color", "markeredgecolor", "markerfacecolor"),
    Patch: ("edgecolor", "facecolor"),
    Collection: ("edgecolor", "facecolor"),
}


def darken(figure: Figure) -> None:
    """Turn greys round: black ink on white paper becomes light on dark. Colours and maps stay."""
    for kind, names in COLOURED.items():
        for artist in figure.findobj(kind):
            before = {name: getattr(artist, f"get_{name}")() for name in names}
            for name, colour in before.items():
                _turn(artist, name, to_rgba_array(colour))


def _turn(artist: Any, name: str, rgba: np.ndarray) -> None:
    """Greys of (n, 4) go between ink and paper; what has a colour, or is not drawn, stays."""
    rgb, alpha = rgba[:, :3], rgba[:, 3:]
    grey = (np.ptp(rgb, axis=1, keepdims=True) < 0.02) & (alpha > 0)
    if not grey.any():
        return
    ink, paper = to_rgba_array([INK, PAPER])[:, :3]
    turned = np.hstack([np.where(grey, ink + rgb * (paper - ink), rgb), alpha])
    getattr(artist, f"set_{name}")(turned if isinstance(artist, Collection) else tuple(turned[0]))
