"""Figures for a dark page: light ink on dark paper, the same colours and maps."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from spurious.figures.dark import INK, PAPER, darken

BLUE = "#0072B2"
GRID = np.linspace(-1, 1, 40)
HILL = np.exp(-(GRID**2) - GRID[:, None] ** 2)


def drawn():
    """One of everything that the report's figures have."""
    figure = Figure(figsize=(9, 3))
    canvas = FigureCanvasAgg(figure)
    lines, contours, image = figure.subplots(1, 3)
    lines.plot(GRID, GRID, color=BLUE, linewidth=6)
    lines.axhspan(0.5, 1, color="0.85")
    lines.plot(-0.5, 0.5, "o", color="black", fillstyle="none", markersize=12)
    lines.set_title("a title")
    contours.contour(GRID, GRID, HILL, levels=[0.4, 0.7], colors="black", linewidths=6)
    image.imshow(HILL, cmap="viridis")
    return figure, canvas


def pixels(canvas):
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].astype(int)


def panel(figure, shown, number):
    """The pixels of one panel, without its frame."""
    box = figure.axes[number].get_window_extent()
    height = len(shown)
    rows = slice(int(height - box.y1) + 3, int(height - box.y0) - 3)
    return shown[rows, int(box.x0) + 3 : int(box.x1) - 3]


@pytest.fixture(scope="module")
def both():
    figure, canvas = drawn()
    light = pixels(canvas).copy()
    darken(figure)
    return figure, light, pixels(canvas)


def share(shown, colour):
    return np.all(np.abs(shown - 255 * np.array(to_rgb(colour))) < 3, axis=-1).mean()


def test_paper_is_dark_and_ink_is_light(both):
    _, light, dark = both
    assert share(light, "white") > 0.5 and share(dark, "white") == 0
    assert share(dark, PAPER) == pytest.approx(share(light, "white"), abs=0.01)
    assert share(dark, INK) == pytest.approx(share(light, "black"), abs=0.01)


def test_colours_and_maps_stay(both):
    figure, light, dark = both
    line = share(panel(figure, light, 0), BLUE)
    assert line > 0.02 and share(panel(figure, dark, 0), BLUE) == pytest.approx(line, rel=0.05)
    np.testing.assert_array_equal(panel(figure, dark, 2), panel(figure, light, 2))


def test_contours_stay_lines(both):
    figure, light, dark = both
    ink = share(panel(figure, light, 1), "black")
    assert 0.02 < ink == pytest.approx(share(panel(figure, dark, 1), INK), rel=0.05)
    assert share(panel(figure, dark, 1), PAPER) > 0.5
