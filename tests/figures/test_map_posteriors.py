"""The paper's figures: which map, which density, which axis, which sign stands where."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from spurious import figures, spectra
from spurious.data.maps import MapSet
from spurious.densities.mixtures import marginal, mixture
from spurious.figures import map_posteriors

BOX = 64.0
SIDE = 16
LABELS = np.array([[0.12, 0.65], [0.31, 0.7], [0.45, 0.95], [0.5, 0.6]])
SPOTS = ((3, 11), (12, 2), (6, 9), (1, 14))  # of one bright pixel in each map


@pytest.fixture(scope="module")
def clean(make_maps):
    maps = make_maps(4, SIDE, seed=8)
    for map_, spot in zip(maps, SPOTS, strict=True):
        map_[spot] = 2000.0
    n = np.arange(4)
    return MapSet(maps, LABELS, n.astype(np.uint64), n, np.full(4, 2, np.int8), BOX)


@pytest.fixture(scope="module")
def perturbed(clean):
    """Brighter than the clean maps in one pixel, darker in no more than a few counts."""
    maps = 0.97 * clean.maps
    maps[:, 13, 4] += 500
    return replace(clean, maps=maps.astype(np.float32))


@pytest.fixture(scope="module")
def posterior(linear_posterior, clean, perturbed):
    """All of it lies on the grid, its means differ by several widths, and its widths differ."""
    free = replace(linear_posterior, offset=np.zeros(2))
    means = free.means(np.concatenate([clean.maps, perturbed.maps]))
    stretch = 0.2 / np.ptp(means, axis=0)
    offset = np.array([0.3, 0.77]) - stretch * (means.min(0) + means.max(0)) / 2
    weights = stretch[:, None, None] * linear_posterior.weights
    return replace(free, weights=weights, offset=offset, scale=np.array([0.03, 0.02]))


def known(posterior, map_, axes):
    """Density on the grid over its largest value there, from the formula: (n_s8, n_om)."""
    mean = posterior.means(map_[None])[0]
    x, y = ((a - m) / s for a, m, s in zip(axes, mean, posterior.scale, strict=True))
    density = np.exp(-(x[None, :] ** 2 + y[:, None] ** 2) / 2)
    return density / density.max()


def centre(collection):
    return np.concatenate([path.vertices for path in collection.get_paths()]).mean(axis=0)


def bright(axes):
    """Where the brightest pixel of the image is drawn, (x, y) in Mpc/h."""
    (image,) = axes.images
    assert image.origin == "lower" and image.get_extent() == [0, BOX, 0, BOX]
    row, column = np.unravel_index(np.argmax(image.get_array()), (SIDE, SIDE))
    return np.array([column + 0.5, row + 0.5]) * BOX / SIDE


def place(spot):
    """A pixel's: the first axis of a map is x."""
    return (np.array(spot) + 0.5) * BOX / SIDE


def with_images(figure):
    return [axes for axes in figure.axes if axes.images and axes.get_xlabel() == "Mpc/h"]


def titled(figure, title):
    (axes,) = [axes for axes in figure.axes if axes.get_title().startswith(title)]
    return axes


def test_densities_are_the_posteriors_on_the_grid(clean, posterior):
    axes = np.linspace(-0.2, 0.9, 56), np.linspace(0.5, 1.1, 31)
    found = map_posteriors.densities(posterior, clean.maps, axes)
    assert found.shape == (4, 31, 56)
    expected = [known(posterior, map_, axes) for map_ in clean.maps]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.ptp(posterior.means(clean.maps), axis=0).min() > 0.03


def test_the_grid_reaches_beyond_the_labels_by_its_margin():
    omega_m, sigma_8 = map_posteriors.grid(LABELS)
    assert len(omega_m) == len(sigma_8) == map_posteriors.POINTS
    assert omega_m[[0, -1]] == pytest.approx([0.12 - 0.057, 0.5 + 0.057])
    assert sigma_8[[0, -1]] == pytest.approx([0.6 - 0.0525, 0.95 + 0.0525])
    assert np.ptp(np.diff(omega_m)) < 1e-12


def test_the_grid_of_one_cosmology_has_a_size():
    omega_m, sigma_8 = map_posteriors.grid(np.array([[0.3, 0.8]]))
    assert omega_m[[0, -1]] == pytest.approx([0.2925, 0.3075])
    assert sigma_8[[0, -1]] == pytest.approx([0.7925, 0.8075])


def test_figure_1_shows_the_chosen_map_and_what_was_added(clean, perturbed, posterior):
    twice = replace(clean, maps=(clean.maps + 40).astype(np.float32))
    figure = map_posteriors.workflow(2, clean, {"bim": perturbed, "beam": twice}, posterior)
    panels = with_images(figure)
    assert len(panels) == 6
    for first, name, data in ((0, "bim", perturbed), (3, "beam", twice)):
        before, pattern, after = panels[first : first + 3]
        np.testing.assert_array_equal(before.images[0].get_array(), clean.maps[2].T)
        np.testing.assert_array_equal(after.images[0].get_array(), data.maps[2].T)
        added = data.maps[2] - clean.maps[2]
        np.testing.assert_allclose(pattern.images[0].get_array(), added.T)
        low, high = pattern.images[0].get_clim()
        assert -low == high == pytest.approx(np.abs(added).max())
        rms = np.sqrt(np.mean(added.astype(float) ** 2))
        assert pattern.get_title() == f"+ {figures.pretty(name)} (RMS {rms:.2f} counts)"
    np.testing.assert_allclose(bright(panels[0]), place(SPOTS[2]))
    np.testing.assert_allclose(bright(panels[1]), place((13, 4)))


def test_figure_1_shows_posteriors_where_they_are(clean, perturbed, posterior):
    figure = map_posteriors.workflow(1, clean, {"bim": perturbed}, posterior)
    axes = titled(figure, "inferred posteriors")
    assert (axes.get_xlabel(), axes.get_ylabel()) == (r"$\Omega_m$", r"$\sigma_8$")
    (truth,) = axes.lines
    np.testing.assert_allclose(truth.get_xydata(), [LABELS[1]])
    for collection, data in zip(axes.collections, (clean, perturbed), strict=True):
        mean = posterior.means(data.maps[1:2])[0]
        np.testing.assert_allclose(centre(collection), mean, atol=5e-3)
    before, after = (centre(one) for one in axes.collections)
    assert np.abs(after - before).max() > 0.02


def test_figure_1_shows_the_contrasts_spectra_and_their_change_in_percent(
    clean, perturbed, posterior
):
    figure = map_posteriors.workflow(3, clean, {"bim": perturbed}, posterior)
    maps = np.stack([clean.maps[3], perturbed.maps[3]])
    power = spectra.power(tf.constant(maps), BOX, contrast=True).numpy()
    bins = spectra.bins(SIDE, BOX)
    drawn = titled(figure, "power spectrum of the contrast")
    for line, expected in zip(drawn.lines, power, strict=True):
        np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
        np.testing.assert_allclose(line.get_xdata(), bins.k)
    change = titled(figure, "change of its power spectrum")
    expected = 100 * (power[1] / power[0] - 1)
    np.testing.assert_allclose(change.lines[-1].get_ydata(), expected, rtol=1e-4)
    band = change.collections[0].get_paths()[0].vertices
    cosmic = spectra.cosmic_variance(bins.n_modes)
    assert band[:, 1].max() == pytest.approx(100 * cosmic.max())


def test_figure_2_has_a_column_a_map(clean, perturbed, posterior):
    rows = np.array([3, 0])
    figure = map_posteriors.examples(rows, clean, {"bim": perturbed}, posterior)
    panels = with_images(figure)
    below = [axes for axes in figure.axes if axes.get_ylabel() == r"$\sigma_8$"]
    assert len(panels) == len(below) == 2
    for row, above, contours in zip(rows, panels, below, strict=True):
        np.testing.assert_array_equal(above.images[0].get_array(), clean.maps[row].T)
        np.testing.assert_allclose(bright(above), place(SPOTS[row]))
        omega_m, sigma_8 = LABELS[row]
        assert above.get_title() == rf"$\Omega_m$ = {omega_m:.2f}, $\sigma_8$ = {sigma_8:.2f}"
        np.testing.assert_allclose(contours.lines[0].get_xydata(), [LABELS[row]])
        for collection, data in zip(contours.collections, (clean, perturbed), strict=True):
            mean = posterior.means(data.maps[row : row + 1])[0]
            np.testing.assert_allclose(centre(collection), mean, atol=5e-3)


def test_extremes_have_the_perturbed_map_first_and_what_was_added_second(
    clean, perturbed, posterior
):
    axes, rows = map_posteriors.grid(LABELS), np.array([2, 1])
    figure = map_posteriors.extremes(
        "bim", ["worst", "least"], rows, clean, perturbed, posterior, axes
    )
    panels = with_images(figure)
    below = [one for one in figure.axes if one.get_title().startswith("posterior")]
    for i, row in enumerate(rows):
        changed, pattern = panels[2 * i : 2 * i + 2]
        assert changed.get_title() == ["worst", "least"][i]
        np.testing.assert_array_equal(changed.images[0].get_array(), perturbed.maps[row].T)
        added = perturbed.maps[row] - clean.maps[row]
        np.testing.assert_allclose(pattern.images[0].get_array(), added.T)
        np.testing.assert_allclose(bright(pattern), place((13, 4)))
        np.testing.assert_allclose(below[i].lines[0].get_xydata(), [LABELS[row]])
        for collection, data in zip(below[i].collections, (clean, perturbed), strict=True):
            mean = posterior.means(data.maps[row : row + 1])[0]
            np.testing.assert_allclose(centre(collection), mean, atol=5e-3)


def test_the_headline_shows_one_map_and_what_one_perturbation_does_to_it(
    clean, perturbed, posterior
):
    figure = map_posteriors.headline(2, clean, "bim", perturbed, posterior)
    before, pattern = with_images(figure)
    np.testing.assert_array_equal(before.images[0].get_array(), clean.maps[2].T)
    added = perturbed.maps[2] - clean.maps[2]
    np.testing.assert_allclose(pattern.images[0].get_array(), added.T)
    for collection, data in zip(
        titled(figure, "posterior").collections, (clean, perturbed), strict=True
    ):
        mean = posterior.means(data.maps[2:3])[0]
        np.testing.assert_allclose(centre(collection), mean, atol=5e-3)
    power = [
        spectra.power(one.maps[2:3], BOX, contrast=True).numpy()[0] for one in (clean, perturbed)
    ]
    (_, line) = titled(figure, "change of its power").lines
    np.testing.assert_allclose(line.get_ydata(), 100 * (power[1] / power[0] - 1), rtol=1e-4)


NAMES = ("h", "a_agn", "sigma_8")


@pytest.fixture
def wide(clean):
    """The clean maps with three parameters, of which one has large values."""
    labels = np.column_stack([LABELS[:, 1], 1000 * LABELS[:, 0], LABELS[:, 1]])
    return replace(clean, labels=labels, names=NAMES)


class Wide:
    """Three parameters, independent: the means of `posterior` in the first two."""

    names = NAMES

    def __init__(self, posterior):
        self.inner = posterior

    def __call__(self, maps):
        inner = self.inner(maps)
        mean, std = inner.mean().numpy(), np.broadcast_to(inner.stddev(), (len(maps), 2))
        means = np.column_stack([mean[:, 1], 1000 * mean[:, 0], 5 * mean[:, 1]])
        stds = np.column_stack([std[:, 1], 1000 * std[:, 0], std[:, 1]])
        return mixture(*(tf.constant(one[:, None], tf.float32) for one in (means, stds)), None)


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("omega_m", "sigma_8"), [0, 1]),
        (("sigma_8", "h", "omega_m"), [2, 0]),
        (NAMES, [0, 1]),
        (("h",), [0]),
    ],
)
def test_the_plane_is_that_of_the_matter_or_of_the_first_two(names, columns):
    assert map_posteriors.plane(names) == columns


def test_of_three_parameters_two_are_drawn_whatever_the_third(wide, perturbed, posterior):
    axes = map_posteriors.grid(wide.labels, wide.names)
    assert axes[1][[0, -1]] == pytest.approx([120 - 57, 500 + 57])
    found = map_posteriors.densities(Wide(posterior), wide.maps, axes)
    swapped = axes[1] / 1000, axes[0]
    expected = [known(posterior, map_, swapped).T for map_ in wide.maps]
    np.testing.assert_allclose(found, expected, atol=2e-3)
    figure = map_posteriors.examples(np.array([2]), wide, {"bim": perturbed}, Wide(posterior))
    (panel,) = [one for one in figure.axes if one.get_xlabel() == "h"]
    assert panel.get_ylabel() == "a agn"
    np.testing.assert_allclose(panel.lines[0].get_xydata(), [wide.labels[2, :2]])
    assert figure.axes[0].get_title() == "h = 0.95, a agn = 450"


def test_of_one_parameter_the_density_is_drawn(clean, perturbed, posterior):
    alone = replace(clean, labels=LABELS[:, 1:], names=("h",))

    class Alone:
        names = ("h",)

        def __call__(self, maps):
            return marginal(posterior(maps), [1])

    figure = map_posteriors.headline(1, alone, "bim", perturbed, Alone())
    (panel,) = [one for one in figure.axes if one.get_xlabel() == "h"]
    before, after, truth = panel.lines
    for line, data in ((before, clean), (after, perturbed)):
        top = line.get_xdata()[np.argmax(line.get_ydata())]
        assert top == pytest.approx(posterior.means(data.maps[1:2])[0, 1], abs=4e-3)
    assert truth.get_xdata() == [LABELS[1, 1]]
    assert panel.get_title() == "posterior"
