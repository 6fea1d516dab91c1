"""A bright pixel off the diagonal stands where it belongs, in every figure that shows maps."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spurious import figures
from spurious.figures.maps import image
from spurious.figures.style import TRUTH

BOX = 64.0
SIDE = 16
SPOT = (3, 11)
AXES = (np.linspace(0.0, 1.0, 81), np.linspace(0.5, 1.0, 61))


@pytest.fixture(scope="module")
def map_():
    """Ten counts everywhere, a thousand in one pixel: x is the first axis."""
    made = np.full((SIDE, SIDE), 10.0, np.float32)
    made[SPOT] = 1000.0
    return made


def brightest(axes, pixels=8):
    """Where the figure shows its brightest colour, (x, y) in data units: from the drawn image."""
    figure = axes.figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[::-1, :, :3].astype(float)  # from the bottom
    box = axes.get_window_extent()
    left, bottom, right, top = (round(v) for v in box.extents)
    inside = drawn[bottom + pixels : top - pixels, left + pixels : right - pixels]
    # Of viridis, yellow: red and green are high, blue is low.
    yellow = inside[..., 0] + inside[..., 1] - 2 * inside[..., 2]
    rows, columns = np.nonzero(yellow > 0.9 * yellow.max())
    place = (columns.mean() + left + pixels, rows.mean() + bottom + pixels)
    return axes.transData.inverted().transform(place)


def place(spot):
    return (np.array(spot) + 0.5) * BOX / SIDE


def test_an_image_has_the_first_axis_along_x_and_the_second_upwards(map_):
    figure = Figure(figsize=(6, 6))
    axes = figure.subplots()
    image(axes, map_, "a map", BOX, unit="counts", cmap="viridis")
    np.testing.assert_allclose(brightest(axes), place(SPOT), atol=0.3)
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("Mpc/h", "Mpc/h", "a map")
    assert figure.axes[1].get_ylabel() == "counts"
    assert axes.get_xlim() == axes.get_ylim() == (0, BOX)


def test_a_preview_has_the_same_orientation(map_):
    figure = figures.preview(map_[None], np.array([[0.3, 0.8]]), BOX)
    np.testing.assert_allclose(brightest(figure.axes[0]), place(SPOT), atol=0.5)


def gaussian(x, y, width_x, width_y):
    a, b = np.meshgrid(*AXES)
    return np.exp(-((((a - x) / width_x) ** 2) + ((b - y) / width_y) ** 2) / 2)


def reach(collection, levels=2):
    """Half the extent of each contour along x and y, from the outermost inwards."""
    paths = collection.get_paths()
    assert len(paths) == levels
    return np.array([np.ptp(path.vertices, axis=0) / 2 for path in paths])


def test_contours_hold_95_and_68_percent_of_a_posterior_with_two_widths():
    axes = Figure().subplots()
    figures.contours(
        axes, {"clean": gaussian(0.4, 0.7, 0.08, 0.03)}, AXES, np.array([0.6, 0.9]), {}
    )
    scale = np.sqrt(-2 * np.log([0.05, 0.32]))  # of a Gaussian in two dimensions
    expected = scale[:, None] * np.array([0.08, 0.03])
    np.testing.assert_allclose(reach(axes.collections[0]), expected, rtol=0.03)
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[0.6, 0.9]])
    assert axes.lines[0].get_color() == TRUTH


def test_each_contour_has_the_colour_of_its_name():
    axes = Figure().subplots()
    shade = figures.colours(["bim", "beam"])
    named = {
        "clean": gaussian(0.3, 0.7, 0.05, 0.03),
        "bim": gaussian(0.5, 0.8, 0.05, 0.03),
        "beam": gaussian(0.7, 0.6, 0.05, 0.03),
    }
    figures.contours(axes, named, AXES, np.array([0.5, 0.7]), shade)
    for collection, (name, x, y) in zip(
        axes.collections,
        [("clean", 0.3, 0.7), ("bim", 0.5, 0.8), ("beam", 0.7, 0.6)],
        strict=True,
    ):
        middle = np.concatenate([p.vertices for p in collection.get_paths()]).mean(axis=0)
        np.testing.assert_allclose(middle, [x, y], atol=0.01)
        colour = np.round(255 * collection.get_edgecolor()[0, :3]).astype(int)
        assert "#{:02X}{:02X}{:02X}".format(*colour) == shade.get(name, "#000000")


def test_levels_are_densities_and_rise():
    density = gaussian(0.5, 0.75, 0.1, 0.05)
    low, high = figures.credible_levels(density, (0.95, 0.68))
    assert density[density >= low].sum() / density.sum() == pytest.approx(0.95, abs=0.01)
    assert density[density >= high].sum() / density.sum() == pytest.approx(0.68, abs=0.01)
    assert low < high


def test_the_pattern_of_a_perturbation_is_perturbed_minus_clean(map_):
    """Red where counts were added, blue where they were taken."""
    after = map_.copy()
    after[2, 13] += 40.0
    after[12, 5] -= 9.0
    density = gaussian(0.5, 0.75, 0.1, 0.05)
    k = np.array([0.1, 0.2])
    figure = figures.workflow(
        map_,
        {"bim": after},
        {"clean": density, "bim": density},
        AXES,
        np.array([0.5, 0.75]),
        {"clean": np.array([1.0, 2.0]), "bim": np.array([1.5, 2.0])},
        k,
        np.array([0.5, 0.1]),
        BOX,
    )
    before, pattern, changed = [axes for axes in figure.axes if axes.images][:3]
    shown = pattern.images[0]
    assert shown.get_array()[13, 2] == 40 and shown.get_array()[5, 12] == -9
    assert shown.get_clim() == (-40, 40)
    red, blue = (shown.to_rgba(np.array([value]))[0] for value in (40.0, -40.0))
    assert red[0] > red[2] and blue[2] > blue[0]
    assert before.images[0].get_clim() == changed.images[0].get_clim() == (10, 1000)
    rms = np.sqrt((40**2 + 9**2) / SIDE**2)
    assert pattern.get_title() == f"+ BIM (RMS {rms:.2f} counts)"
    (change,) = [axes for axes in figure.axes if axes.get_title().startswith("change of")]
    np.testing.assert_allclose(change.lines[-1].get_ydata(), [50, 0])
    figure.savefig(io.BytesIO(), dpi=30)


def test_the_extremes_show_the_change_with_its_sign(map_):
    after = map_.copy()
    after[2, 13] -= 5.0
    density = gaussian(0.5, 0.75, 0.1, 0.05)
    figure = figures.extremes(
        "bim",
        ["worst"],
        map_[None],
        after[None],
        [{"clean": density, "bim": density}],
        AXES,
        np.array([[0.5, 0.75]]),
        BOX,
    )
    changed, pattern = [axes for axes in figure.axes if axes.images][:2]
    assert changed.images[0].get_array()[13, 2] == 5
    assert pattern.images[0].get_array()[13, 2] == -5
    assert pattern.images[0].get_clim() == (-5, 5)
