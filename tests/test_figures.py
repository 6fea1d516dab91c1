"""Figures: what their numbers are, and that they can be drawn from edge cases."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from scipy.stats import binom, chi2

from spurious import figures
from spurious.figures.style import LOG_TICKS

AXES = (np.linspace(-5, 5, 201), np.linspace(-4, 4, 161))


def gaussian(sigma_x, sigma_y):
    x, y = np.meshgrid(*AXES)
    return np.exp(-((x / sigma_x) ** 2 + (y / sigma_y) ** 2) / 2)


def draw(figure):
    FigureCanvasAgg(figure)
    figure.savefig(io.BytesIO(), dpi=40)


@pytest.mark.parametrize("mass", [0.68, 0.95])
def test_credible_levels_hold_the_mass_of_a_gaussian(mass):
    density = gaussian(1.0, 0.7)
    (level,) = figures.credible_levels(density, [mass])
    # The contour of a 2-D Gaussian that holds a mass m lies at exp(-chi2_m / 2) of its peak.
    assert level == pytest.approx(np.exp(-chi2(2).ppf(mass) / 2), rel=0.02)


def test_contours_lie_where_the_posterior_does():
    axes = Figure().subplots()
    x, y = np.meshgrid(*AXES)
    density = np.exp(-(((x - 2) / 0.5) ** 2 + ((y + 1) / 0.5) ** 2) / 2)
    figures.contours(axes, {"clean": density}, AXES, np.array([2, -1]), {})
    vertices = np.concatenate([p.vertices for p in axes.collections[0].get_paths()])
    np.testing.assert_allclose(vertices.mean(axis=0), [2, -1], atol=0.05)


def test_a_posterior_narrower_than_the_grid_can_be_drawn():
    figure = Figure()
    figures.contours(figure.subplots(), {"clean": gaussian(1e-3, 1e-3)}, AXES, np.zeros(2), {})
    draw(figure)


def test_a_search_without_feasible_trials_can_be_drawn():
    values, changes = np.array([1.0, 2.0]), np.array([0.5, 0.6])
    draw(figures.search_history(values, changes, 0.05))
    draw(figures.fronts({"power": {}}, {}, {}, {"power": 0.05}))


def test_coverage_of_honest_posteriors_is_the_diagonal():
    pit = np.random.default_rng(1).uniform(size=(4000, 1))
    axes = figures.coverage(pit, ["omega_m"]).axes[0]
    level, share = axes.lines[1].get_data()
    np.testing.assert_allclose(share, level, atol=0.03)


def test_coverage_of_several_posteriors_has_a_panel_a_parameter():
    uniform = np.random.default_rng(2).uniform(size=(2000, 2))
    narrow = 0.5 + 0.5 * (uniform - 0.5)
    figure = figures.coverage({"compact": uniform, "too_wide": narrow}, ["omega_m", "sigma_8"])
    draw(figure)
    for axes, name in zip(figure.axes, (r"$\Omega_m$", r"$\sigma_8$"), strict=True):
        assert axes.get_title() == name
        level, share = axes.lines[2].get_data()
        np.testing.assert_allclose(share, np.minimum(2 * level, 1), atol=0.05)
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["95 % if calibrated", "compact", "too wide"]


@pytest.mark.parametrize("kind", ["pit", "sbc"])
def test_histograms_count_every_map_and_mark_what_chance_allows(kind):
    levels = np.random.default_rng(3).uniform(size=(800, 2))
    names = ["omega_m", "sigma_8"]
    if kind == "pit":
        figure = figures.pit_histogram(levels, names, bins=20)
    else:
        figure = figures.sbc(np.floor(100 * levels).astype(int), 99, names)
    draw(figure)
    for i, axes in enumerate(figure.axes):
        steps = axes.patches[-1].get_data()
        expected = np.histogram(levels[:, i], 20, (0, 1))[0]
        np.testing.assert_array_equal(steps.values, expected)
        bottom, top = (
            axes.patches[0].get_y(),
            axes.patches[0].get_y() + axes.patches[0].get_height(),
        )
        np.testing.assert_allclose([bottom, top], binom.ppf([0.025, 0.975], 800, 1 / 20))
        assert bottom < axes.lines[0].get_ydata()[0] == 40 < top
        assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] >= expected.max()
    assert figure.axes[0].get_ylabel() == "test maps"


def test_bins_of_ranks_hold_equally_many_of_them():
    ranks = np.arange(64)[:, None]
    for n_samples, bins in ((63, 16), (6, 7), (4095, 16)):
        scaled = ranks * (n_samples + 1) // 64
        steps = figures.sbc(scaled, n_samples, ["omega_m"]).axes[0].patches[-1].get_data()
        assert len(steps.values) == bins and steps.values.sum() == 64
        assert steps.edges[0] == -0.5 and steps.edges[-1] == n_samples + 0.5


def test_expected_coverage_is_drawn_with_its_interval():
    levels = np.linspace(0, 1, 11)
    figure = figures.tarp(levels, levels**2, levels**2 - 0.1, levels**2 + 0.1)
    draw(figure)
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), levels**2)
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((-0.1, 1.1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("credibility level", "expected coverage")


def errors(omega_m, sigma_8):
    """Nodes as `calibration.over_grid` gives them; RMSE is omega_m, bias sigma_8 - 0.75."""
    columns = {"rmse": omega_m, "bias": sigma_8 - 0.75, "z_rms": omega_m}
    return {
        "n_maps": [1] * len(omega_m),
        "omega_m": {"truth": omega_m, **columns},
        "sigma_8": {"truth": sigma_8, **columns},
    }


def test_errors_over_the_plane_lie_at_their_cosmologies():
    grid = np.meshgrid(np.linspace(0.1, 0.5, 5), np.linspace(0.6, 1.0, 3), indexing="ij")
    nodes = errors(*(np.delete(axis.ravel(), 4) for axis in grid))  # one node has no maps
    figure = figures.error_plane(nodes, ["omega_m", "sigma_8"])
    draw(figure)
    rmse, bias = figure.axes[0], figure.axes[1]
    assert (rmse.get_xlabel(), rmse.get_ylabel()) == (r"true $\Omega_m$", r"true $\sigma_8$")
    cells = rmse.collections[0].get_array()
    assert cells.shape == (3, 5)  # sigma_8 upward, omega_m to the right
    np.testing.assert_allclose(np.ma.compressed(cells[0]), np.linspace(0.1, 0.5, 5))
    assert np.sum(np.ma.getmaskarray(cells)) == 1 and np.ma.getmaskarray(cells)[1, 1]
    assert bias.collections[0].get_clim() == pytest.approx((-0.25, 0.25))
    labels = [axes.get_ylabel() for axes in figure.axes[4:]]
    assert labels == [
        f"{what} of {name}" for name in (r"$\Omega_m$", r"$\sigma_8$") for what in ("RMSE", "bias")
    ]


def test_errors_of_scattered_cosmologies_are_points():
    rng = np.random.default_rng(4)
    nodes = errors(rng.uniform(0.1, 0.5, 30), rng.uniform(0.5, 1.0, 30))
    figure = figures.error_plane(nodes, ["omega_m", "sigma_8"])
    draw(figure)
    points = figure.axes[0].collections[0]
    np.testing.assert_allclose(points.get_offsets()[:, 0], nodes["omega_m"]["truth"])
    np.testing.assert_allclose(points.get_array(), nodes["omega_m"]["rmse"])
    with pytest.raises(ValueError, match="no plane"):
        figures.error_plane(nodes, ["omega_m"])


def test_bars_of_posteriors_and_the_forecast():
    table = {
        name: {
            "omega_m_rmse": {"mean": rmse, "low": 0.9 * rmse, "high": 1.2 * rmse},
            "sigma_8_rmse": {"mean": 2 * rmse, "low": 1.8 * rmse, "high": 2.4 * rmse},
        }
        for name, rmse in (("compact", 0.05), ("power_spectrum", 0.08))
    }
    figure = figures.posterior_bars(table, ["omega_m", "sigma_8"], {"omega_m": 0.07})
    draw(figure)
    first, second = figure.axes
    assert [bar.get_height() for bar in first.patches] == [0.05, 0.08]
    assert [bar.get_height() for bar in second.patches] == [0.1, 0.16]
    shade = figures.colours(list(table))
    assert [to_hex(bar.get_facecolor()).upper() for bar in first.patches] == list(shade.values())
    (line,) = [line for line in first.lines if line.get_linestyle() == "--"]
    assert set(line.get_ydata()) == {0.07}
    assert second.get_legend() is None
    assert [t.get_text() for t in first.get_xticklabels()] == ["compact", "power spectrum"]
    ends = [bars.get_segments()[0][:, 1] for bars in first.collections]
    np.testing.assert_allclose(ends, [[0.045, 0.06], [0.072, 0.096]])
    draw(figures.posterior_bars(table, ["sigma_8"]))


def test_a_preview_shows_every_map_on_one_scale_with_units(make_maps):
    maps = make_maps(4, 16)
    labels = np.array([[0.3, 0.75], [0.05, 0.5], [0.05, 1.0], [0.55, 0.5]])
    figure = figures.preview(maps, labels, 128.0)
    draw(figure)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4
    for axes, map_, (omega_m, sigma_8) in zip(panels, maps, labels, strict=True):
        (image,) = axes.images
        assert axes.get_title() == rf"$\Omega_m$ = {omega_m:g}, $\sigma_8$ = {sigma_8:g}"
        assert axes.get_xlabel() == axes.get_ylabel() == "Mpc/h"
        assert image.get_extent() == [0, 128, 0, 128]
        assert (image.norm.vmin, image.norm.vmax) == (1, maps.max())
        np.testing.assert_array_equal(image.get_array(), map_.T.clip(1))  # x is the first axis
    bars = [axes for axes in figure.axes if axes.get_ylabel().startswith("projected")]
    assert [bar.get_ylabel() for bar in bars] == ["projected particle count per pixel"]
    assert set(bars[0].get_yticks()) <= set(LOG_TICKS)
    draw(figures.preview(maps[:1], labels[:1], 128.0))


def test_the_extremes_of_a_perturbation_have_a_row_each(make_maps):
    maps = make_maps(2, 16)
    x, y = np.linspace(0.1, 0.5, 81), np.linspace(0.5, 1.0, 61)
    density = np.exp(-(((x[None] - 0.3) / 0.05) ** 2) - ((y[:, None] - 0.8) / 0.05) ** 2)
    figure = figures.extremes(
        "bim",
        ["worst", "least"],
        maps,
        maps + np.float32(2.0),
        [{"clean": density, "bim": density}] * 2,
        (x, y),
        np.array([[0.3, 0.8], [0.2, 0.7]]),
        128.0,
    )
    draw(figure)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[::3] == ["worst", "least"]
    assert titles[1] == "change (RMS 2.00 counts)"


def test_bars_of_damage_have_the_colour_of_their_group():
    kl = {"mean": 1.0, "low": 0.9, "high": 1.1}
    rows = {
        name: {"kl_perturbed_clean": kl, "group": group}
        for name, group in (("bim", "paper"), ("fgsm", "paper"), ("beam", "systematics"))
    }
    figure = figures.damage_bars(rows, {"bim": 1.05})
    first, second, third = (to_hex(bar.get_facecolor()) for bar in figure.axes[0].patches)
    assert first == second != third
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["paper", "systematics", "paper’s value"]
