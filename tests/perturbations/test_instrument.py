"""Systematics of the instrument against the sums that define them, pixel by pixel."""

import numpy as np
import pytest

from spurious import seeds
from spurious.perturbations.instrument import GainDrift, Masked, Stripes

BOX = 48.0  # Mpc/h
N = 24


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(3, N, seed=4).astype(np.float64) + 1


def periodic(n):
    """Distance along one axis between any two pixels of a periodic map, in pixels: (n, n)."""
    apart = np.abs(np.arange(n)[:, None] - np.arange(n))
    return np.minimum(apart, n - apart)


def filled(map_, holes, sigma):
    """Gaussian means of the pixels outside the holes, by a sum over all pairs of pixels.

    The Gaussian falls off as exp(-d^2 / (2 sigma^2)) in each direction, sigma in pixels.
    """
    along = np.exp(-(periodic(len(map_)) ** 2) / (2 * sigma**2))
    seen = 1.0 - holes
    return (along @ (map_ * seen) @ along) / (along @ seen @ along)


@pytest.mark.parametrize(("radius", "tolerance"), [(2.5, 1e-2), (4.0, 1e-4), (5.0, 1e-4)])
def test_holes_are_filled_with_gaussian_means_of_what_is_outside(maps, radius, tolerance):
    """Of 1.25 to 2.5 pixels; below two, the Gaussian that a map can hold differs from its sum."""
    masked = Masked(1.0, 0.2, radius, BOX, seed=1)
    found = masked(maps).numpy()
    holes = np.any(found != maps, axis=0)
    assert holes.sum() == round(0.2 * N**2)
    for map_, after in zip(maps, found, strict=True):
        expected = filled(map_, holes, sigma=radius * N / BOX)
        np.testing.assert_allclose(after[holes], expected[holes], rtol=tolerance)
        np.testing.assert_array_equal(after[~holes], map_[~holes])


def test_a_hole_smaller_than_a_pixel_is_one_pixel_filled_from_its_neighbours(maps):
    masked = Masked(1.0, 5 / N**2, 0.1, BOX, seed=2)
    found = masked(maps).numpy()
    holes = np.any(found != maps, axis=0)
    assert holes.sum() == 5
    expected = filled(maps[0], holes, sigma=1.0)
    np.testing.assert_allclose(found[0][holes], expected[holes], rtol=1e-2)


def test_where_nothing_is_seen_the_mean_of_the_map_fills(make_maps):
    """Amid overlapping holes that together are many radii wide."""
    n = 48
    wide = Masked(1.0, 0.9, 3.2, 2 * BOX, seed=13)  # 1.6 pixels
    maps = make_maps(2, n, seed=4).astype(np.float64) + 1
    found = wide(maps).numpy()
    holes = np.any(found != maps, axis=0)
    along = np.exp(-(periodic(n) ** 2) / (2 * 1.6**2))
    seen = along @ (1.0 - holes) @ along / along[0].sum() ** 2
    blind = seen < 1e-7
    assert blind.any()
    for map_, after in zip(maps, found, strict=True):
        np.testing.assert_allclose(after[blind], map_.mean(), rtol=0.05)
    faint = holes & (seen > 1e-3) & (seen < 5e-3)  # little is seen, which still counts in full
    assert faint.any()
    for map_, after in zip(maps, found, strict=True):
        np.testing.assert_allclose(after[faint], filled(map_, holes, 1.6)[faint], rtol=0.05)


def test_the_radius_is_in_mpc_over_h_and_not_in_pixels(maps):
    """Twice the box and twice the radius are the same hole."""
    one = Masked(1.0, 0.1, 3.0, BOX, seed=1)(maps)
    other = Masked(1.0, 0.1, 6.0, 2 * BOX, seed=1)(maps)
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert np.abs(one - Masked(1.0, 0.1, 6.0, BOX, seed=1)(maps)).max() > 1


def test_holes_are_discs_whose_centres_are_drawn_along_both_axes():
    """Of a radius of two pixels: 13 pixels, whole, at places that differ along both axes."""
    flat = np.random.default_rng(1).uniform(10, 20, (1, N, N))
    places = set()
    for seed in range(12):
        holes = np.any(Masked(1.0, 13 / N**2, 4.0, BOX, seed)(flat) != flat, axis=0)
        rows, columns = np.nonzero(holes)
        disc = (periodic(N)[:, None, :, None] ** 2 + periodic(N)[None, :, None, :] ** 2) <= 4
        (centre,) = np.argwhere(np.all(disc == holes, axis=(2, 3)))
        places.add(tuple(centre))
        assert len(rows) == len(columns) == 13
    assert len({row for row, _ in places}) > 6 and len({column for _, column in places}) > 6
    assert sum(row == column for row, column in places) < 6


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 200.0])
def test_a_gain_drifts_towards_its_angle(angle):
    """From the first axis towards the second, in degrees; each pixel by the formula."""
    flat = np.full((1, N, N), 50.0)
    place = np.sin(2 * np.pi * 2 * ((np.arange(N) + 0.5) / N - 0.5))
    theta = np.radians(angle)
    pattern = np.cos(theta) * place[:, None] + np.sin(theta) * place[None, :]
    found = GainDrift(0.2, angle, order=2)(flat).numpy()[0]
    np.testing.assert_allclose(found, 50 * (1 + 0.2 * pattern), rtol=1e-12)


def test_a_gain_multiplies(maps):
    """It leaves empty pixels empty and moves bright ones most."""
    maps = maps.copy()
    maps[:, 3, 5] = 0
    change = GainDrift(0.1, 40.0)(maps) - maps
    relative = np.divide(change, maps, out=np.zeros_like(maps), where=maps > 0)
    np.testing.assert_array_equal(np.asarray(change)[:, 3, 5], 0)
    np.testing.assert_allclose(relative[0], np.where(maps[0] > 0, relative[1], 0), atol=1e-12)


def test_stripes_add_the_same_to_every_map_and_follow_their_amplitude(maps):
    plenty = maps + 100
    change = (Stripes(2.0, 6, 0, seed=5)(plenty) - plenty).numpy()
    np.testing.assert_allclose(change[1:], change[:1].repeat(2, axis=0), atol=1e-10)
    bands = change[0, 0].reshape(6, 4)
    assert np.ptp(bands, axis=1).max() < 1e-9 and np.abs(np.diff(bands[:, 0])).min() > 0.01
    double = (Stripes(4.0, 6, 0, seed=5)(plenty) - plenty).numpy()
    np.testing.assert_allclose(double, 2 * change, rtol=1e-9)


def test_stripes_are_the_draw_of_their_seed_at_mean_0_and_rms_1():
    draw = seeds.generator(5, "stripes").normal(size=6)
    flat = np.full((1, N, N), 50.0)
    change = Stripes(2.0, 6, 1, seed=5)(flat).numpy()[0, ::4, 0] - 50
    np.testing.assert_allclose(change, 2 * (draw - draw.mean()) / draw.std(), rtol=1e-9)


def test_as_many_stripes_as_pixels_are_allowed(maps):
    change = (Stripes(2.0, N, 1, seed=5)(maps + 100) - maps - 100).numpy()
    assert len(np.unique(np.round(change[0, :, 0], 9))) == N
    assert np.ptp(change, axis=2).max() < 1e-9


@pytest.mark.parametrize(
    "make",
    [
        lambda: Masked(0.5, -0.1, 1.0, BOX, 0),
        lambda: Masked(-0.1, 0.1, 1.0, BOX, 0),
        lambda: Masked(0.5, 0.1, -1.0, BOX, 0),
        lambda: Masked(0.5, 0.1, 1.0, -BOX, 0),
        lambda: Stripes(1.0, 2.5, 0, 0),
        lambda: Stripes(1.0, 4, -1, 0),
        lambda: GainDrift(1.1),
        lambda: GainDrift(-1.1),
        lambda: GainDrift(0.1, order=1.5),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_the_limits_themselves_are_allowed():
    flat = np.full((1, N, N), 50.0)
    for one in (Masked(1.0, 0.9, 1.0, BOX, 0), GainDrift(1.0, order=1), Stripes(1.0, 2, 1, 0)):
        assert np.all(np.isfinite(one(flat)))
