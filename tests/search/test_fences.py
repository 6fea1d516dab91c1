"""Each fence against NumPy in double precision, what it does not see, and what its margin holds."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from spurious import damage
from spurious.detection.scattering import scattering
from spurious.perturbations.systematics import Logistic
from spurious.search.fences import FENCES, FenceValue, build_fences
from spurious.search.observed import Observed, whitening

BOX = 100.0
N = 16
COUNT = 24


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(COUNT, N)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(5).uniform(size=(COUNT, 2))


@pytest.fixture(scope="module")
def perturbed(maps):
    """Less where little is, more where much is; some pixels clipped; each map by another size."""
    tilt = np.linspace(-1, 1, N)[:, None] * np.linspace(0.5, 1.0, N)
    size = np.linspace(-0.5, 1.5, COUNT)[:, None, None]
    return np.maximum(maps + size * (0.1 * maps + 3 * tilt - 8), 0).astype(np.float32)


def spectra(maps, contrast):
    """The annuli's mean |FFT|^2 of each map, on the whole plane, and their mode counts."""
    maps = np.asarray(maps, np.float64)
    mean = maps.mean(axis=(1, 2), keepdims=True)
    field = maps / mean - 1 if contrast else maps - mean
    squared = np.abs(np.fft.fft2(field)) ** 2 * BOX**2 / N**4
    k = np.fft.fftfreq(N, 1 / N)
    annulus = np.rint(np.hypot(k[:, None], k)).astype(int)
    numbers = range(1, (N - 1) // 2 + 1)
    power = np.stack([squared[:, annulus == i].mean(1) for i in numbers], axis=1)
    return power, np.array([np.sum(annulus == i) for i in numbers])


def soft_shares(maps, edges):
    maps = np.asarray(maps, np.float64)
    field = np.log(np.maximum(maps / maps.mean(axis=(1, 2), keepdims=True), 0.01))
    steps = 1 / (1 + np.exp(-(field[..., None] - edges) / 0.1))
    return steps.mean(axis=(1, 2))


def detectability(clean, perturbed, labels):
    """d'^2 of each map by its PDF."""
    maps = np.asarray(clean, np.float64)
    field = np.log(np.maximum(maps / maps.mean(axis=(1, 2), keepdims=True), 0.01))
    edges = np.quantile(field, (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.998))
    return in_scatters(soft_shares(clean, edges), soft_shares(perturbed, edges), labels)


def in_scatters(before, after, labels):
    """d'^2 of each map, with the shrunk covariance as in the paper of Chen et al., Eq. 23."""
    maps, p = before, before.shape[1]
    x, y = labels.T
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    left = before - terms @ np.linalg.pinv(terms) @ before
    n = len(maps) - 6
    scale = np.sqrt((left**2).sum(0) / n)
    s = (left / scale).T @ (left / scale) / n
    rho = ((1 - 2 / p) * np.trace(s @ s) + np.trace(s) ** 2) / (
        (n + 1 - 2 / p) * (np.trace(s @ s) - np.trace(s) ** 2 / p)
    )
    rho = min(rho, 1)
    covariance = ((1 - rho) * s + rho * np.eye(p)) * np.outer(scale, scale)
    moved = after - before
    return np.einsum("bi,ij,bj->b", moved, np.linalg.inv(covariance), moved)


def changes(name, clean, perturbed, labels):
    """Squares of each map's change, (n, m), or signed changes of the mean, (m,)."""
    contrast = "raw" not in name
    before, n_modes = spectra(clean, contrast)
    after = spectra(perturbed, contrast)[0]
    change = after.mean(0) / before.mean(0) - 1 if "mean_" in name else after / before - 1
    cosmic = change / np.sqrt(2 / n_modes)
    clean, perturbed = clean.astype(np.float64), perturbed.astype(np.float64)
    before, after = clean.mean((1, 2)), perturbed.mean((1, 2))
    return {
        "power": change**2,
        "raw_power": change**2,
        "cosmic": cosmic**2,
        "chi2": np.sum(cosmic**2, axis=-1, keepdims=True),
        "mean_shift": (after / before - 1)[:, None] ** 2,
        "rms": np.mean((perturbed - clean) ** 2, axis=(1, 2))[:, None],
        "pdf": detectability(clean, perturbed, labels)[:, None],
        "scattering": in_scatters(*(scattering(x).numpy() for x in (clean, perturbed)), labels)[
            :, None
        ],
        "mean_power": change,
        "mean_raw_power": change,
        "mean_cosmic": cosmic,
        "mean_chi2": np.sum(cosmic**2, keepdims=True),
        "mean_density": np.array([perturbed.sum() / clean.sum() - 1]),
    }[name]


def expected(name, clean, perturbed, labels, confidence=None, groups=None):
    change = changes(name, clean, perturbed, labels)
    if name.startswith("mean_") and name != "mean_shift":
        return np.abs(change).max()
    if groups is not None:
        change = np.stack([change[groups == one].mean(0) for one in np.unique(groups)])
    bound = change.mean(0)
    if confidence:
        error = change.std(0, ddof=1) / np.sqrt(len(change))
        t = stats.t.ppf(1 - (1 - confidence) / change.shape[1], len(change) - 1)
        bound = bound * np.exp(t * error / bound)
    return bound.max() if name == "chi2" else np.sqrt(bound).max()


def height(name, clean, perturbed, labels=None, confidence=None, groups=None):
    before = Observed(tf.constant(clean), BOX, groups, labels)
    after = Observed(tf.constant(perturbed), BOX)
    return FenceValue.of(FENCES[name].values(after, before, confidence).numpy(), None).height


@pytest.mark.parametrize("confidence", [None, 0.95, 0.6])
@pytest.mark.parametrize("name", FENCES)
def test_fences_are_what_they_say_within_their_tolerance(name, confidence, maps, perturbed, labels):
    wanted = expected(name, maps, perturbed, labels, confidence)
    assert wanted > 0.01
    scale = 1 + wanted if name.endswith("chi2") else 1
    found = height(name, maps, perturbed, labels, confidence)
    assert abs(found - wanted) < FENCES[name].tolerance * scale


def test_maps_of_one_simulation_count_once(maps, perturbed, labels):
    """Two lines of sight of a universe: half as many degrees of freedom, a larger margin."""
    groups = np.repeat(np.arange(COUNT // 2), 2)[::-1] + 7
    together = height("power", maps, perturbed, confidence=0.95, groups=groups)
    assert together == pytest.approx(
        expected("power", maps, perturbed, labels, 0.95, groups), rel=1e-4
    )
    assert together > 1.02 * height("power", maps, perturbed, confidence=0.95)
    assert height("power", maps, perturbed, groups=groups) == pytest.approx(
        height("power", maps, perturbed), rel=1e-5
    )


def test_one_simulation_has_no_margin(maps, perturbed):
    with pytest.raises(ValueError, match="at least two simulations"):
        height("power", maps[:2], perturbed[:2], confidence=0.9, groups=np.zeros(2, int))


def test_the_margin_holds_for_a_population_that_is_known():
    """Offsets drawn from a normal distribution of RMS 2: so often do 64 maps bound it."""
    draw, clean, n_sets = np.random.default_rng(0), np.full((64, 3, 3), 64, np.float32), 400
    sets = [clean + draw.normal(0, 2, (64, 1, 1)).astype(np.float32) for _ in range(n_sets)]
    for confidence in (0.95, 0.7):
        held = np.mean([height("rms", clean, one, confidence=confidence) >= 2 for one in sets])
        assert held == pytest.approx(confidence, abs=0.04)
    assert np.mean([height("rms", clean, one) >= 2 for one in sets]) < 0.55


@pytest.mark.parametrize("name", FENCES)
def test_no_change_has_no_height(name, maps, labels):
    assert height(name, maps, maps, labels, 0.95) == pytest.approx(0, abs=2e-6)


def test_the_clean_maps_are_the_reference(maps, perturbed):
    """The other way round, dP / P is another number."""
    assert abs(height("power", perturbed, maps) / height("power", maps, perturbed) - 1) > 0.02


def test_changes_of_opposite_sign_cancel_in_the_mean_and_not_per_map(maps):
    """Half the maps smoother, half rougher: the mean spectrum hardly changes, each map's does."""
    mean = maps.mean(axis=(1, 2), keepdims=True)
    sign = np.where(np.arange(COUNT) % 2, 1, -1)[:, None, None]
    again = np.concatenate([maps, maps])
    both = np.concatenate([sign, -sign])
    after = (again + 0.1 * both * (again - np.concatenate([mean, mean]))).astype(np.float32)
    assert height("mean_power", again, after) == pytest.approx(0.01, rel=1e-2)  # 0.1^2
    assert height("power", again, after) == pytest.approx(0.2, rel=1e-2)
    shifted = again * (1 + 0.1 * both).astype(np.float32)
    assert height("mean_density", again, shifted) < 1e-5
    assert height("mean_shift", again, shifted) == pytest.approx(0.1, rel=1e-3)


def test_they_agree_with_the_table_of_damage(maps, linear_posterior):
    after = Logistic(0.25, -15.0, 3.0)(maps).numpy()
    row = damage.measure(maps, after, linear_posterior, BOX).row(0)
    for name, spectrum_name in (("mean_power", "contrast"), ("mean_raw_power", "raw")):
        wanted = row[f"mean_power_change_{spectrum_name}"]["mean"]
        assert height(name, maps, after) == pytest.approx(wanted, rel=1e-4)
    arrays = row["spectrum"]["contrast"]
    assert height("mean_cosmic", maps, after) == pytest.approx(
        np.abs(arrays["mean_change_cosmic"]).max(), rel=1e-4
    )


@pytest.mark.parametrize("prefix", ["", "mean_"])
def test_the_raw_spectrum_is_blind_to_a_shift_of_the_mean_and_the_contrast_is_not(maps, prefix):
    """The loophole: a constant offset moves no bin of the raw spectrum."""
    shifted = maps + np.float32(0.1) * maps.mean(axis=(1, 2), keepdims=True)
    assert height(f"{prefix}raw_power", maps, shifted) < FENCES["raw_power"].tolerance
    assert height(f"{prefix}power", maps, shifted) == pytest.approx(1 - 1 / 1.1**2, rel=1e-3)
    assert height("mean_shift", maps, shifted) == pytest.approx(0.1, rel=1e-4)


def test_the_contrast_is_blind_to_a_gain_and_the_mean_is_not(maps, labels):
    louder = maps * np.float32(1.1)
    for name in ("power", "cosmic", "chi2", "mean_power", "pdf", "scattering"):
        assert height(name, maps, louder, labels) < 1e-3
    assert height("raw_power", maps, louder) == pytest.approx(0.21, rel=1e-3)
    assert height("mean_shift", maps, louder) == pytest.approx(0.1, rel=1e-4)


def test_shuffled_pixels_keep_the_mean_and_the_pdf_but_not_the_spectrum(maps, labels):
    shuffled = np.random.default_rng(0).permuted(maps.reshape(COUNT, -1), axis=1)
    shuffled = shuffled.reshape(maps.shape)
    assert height("mean_shift", maps, shuffled) < 1e-6
    assert height("pdf", maps, shuffled, labels) < 1e-2
    assert height("power", maps, shuffled) > 0.1
    assert height("rms", maps, shuffled) > 10


def test_a_shift_of_the_pdf_is_told_apart_as_often_as_its_unit_says():
    """Statistics y = y(theta) + noise, moved by d' = 1: AUROC 0.76 for Fisher's discriminant."""
    draw, count = np.random.default_rng(1), 2000
    labels = draw.uniform(size=(count, 2))
    root = np.array([[1.0, 0.0, 0.0], [0.7, 0.5, 0.0], [-0.2, 0.3, 0.1]])
    trend = labels @ np.array([[5.0, 1.0, 3.0], [-4.0, 2.0, 0.0]]) + labels[:, :1] ** 2
    statistics = trend + draw.normal(size=(count, 3)) @ root.T
    direction = np.array([0.5, -0.3, 0.2])
    white = whitening(statistics, labels)
    shift = direction / np.linalg.norm(direction @ white)
    other = trend + draw.normal(size=(count, 3)) @ root.T
    # The discriminant knows the truth of each map, and with it the mean of its statistics.
    axis = np.linalg.solve(root @ root.T, shift)
    clean, moved = (statistics - trend) @ axis, (other - trend + shift) @ axis
    auroc = np.mean(moved[:, None] > clean)
    assert auroc == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.02)


def test_the_pdf_needs_labels_and_enough_maps(maps, perturbed, labels):
    with pytest.raises(ValueError, match="true parameters"):
        height("pdf", maps, perturbed)
    with pytest.raises(ValueError, match="14 maps are too few for the scatter of 8 statistics"):
        height("pdf", maps[:14], perturbed[:14], labels[:14])


def test_bins_are_in_units_of_their_own_cosmic_variance(maps):
    """A change of the lowest modes alone: few of them, so that bin's cosmic variance is large."""
    wave = np.float32(0.1 * maps.mean()) * np.cos(2 * np.pi * np.arange(N, dtype=np.float32) / N)
    after = maps + wave[:, None]
    before, observed = (Observed(tf.constant(x), BOX) for x in (maps, after))
    _, n_modes = spectra(maps, contrast=True)
    for prefix in ("", "mean_"):
        change = FENCES[f"{prefix}power"].values(observed, before).numpy()
        cosmic = FENCES[f"{prefix}cosmic"].values(observed, before).numpy()
        assert np.abs(change).argmax() == 0
        np.testing.assert_allclose(change, cosmic * np.sqrt(2 / n_modes), rtol=1e-5, atol=1e-7)
    assert n_modes[0] < n_modes[-1]


def test_the_height_and_its_gradient_are_those_of_the_value_that_sets_it():
    jacobian = np.arange(6.0).reshape(3, 2)
    found = FenceValue.of(np.array([0.1, -0.5, 0.3]), jacobian)
    assert found.height == 0.5
    np.testing.assert_array_equal(found.gradient, -jacobian[1])


def test_an_unknown_fence_is_named():
    with pytest.raises(ValueError, match="'entropy' must be one of power, cosmic"):
        build_fences(["entropy"])
