"""Figures: what their numbers are, and that they can be drawn from edge cases."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.stats import chi2

from spurious import figures

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
    axes = figures.Figure().subplots()
    x, y = np.meshgrid(*AXES)
    density = np.exp(-(((x - 2) / 0.5) ** 2 + ((y + 1) / 0.5) ** 2) / 2)
    figures.contours(axes, {"clean": density}, AXES, np.array([2, -1]), {})
    vertices = np.concatenate([p.vertices for p in axes.collections[0].get_paths()])
    np.testing.assert_allclose(vertices.mean(axis=0), [2, -1], atol=0.05)


def test_a_posterior_narrower_than_the_grid_can_be_drawn():
    figure = figures.Figure()
    figures.contours(figure.subplots(), {"clean": gaussian(1e-3, 1e-3)}, AXES, np.zeros(2), {})
    draw(figure)


def test_a_search_without_feasible_trials_can_be_drawn():
    values, changes = np.array([1.0, 2.0]), np.array([0.5, 0.6])
    draw(figures.search_history(values, changes, 0.05))
    draw(figures.pareto(values, changes, [], 0.05, {}))


def test_coverage_of_honest_posteriors_is_the_diagonal():
    pit = np.random.default_rng(1).uniform(size=(4000, 1))
    axes = figures.coverage(pit, ["omega_m"]).axes[0]
    level, share = axes.lines[1].get_data()
    np.testing.assert_allclose(share, level, atol=0.03)


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
    assert set(bars[0].get_yticks()) <= set(figures.LOG_TICKS)
    draw(figures.preview(maps[:1], labels[:1], 128.0))
