"""Each fence against NumPy in double precision, and what each of them does not see."""

import numpy as np
import pytest
import tensorflow as tf

from spurious import damage
from spurious.perturbations.systematics import Logistic
from spurious.search.fences import FENCES, FenceValue, Observed, build_fences

BOX = 100.0
N = 16


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(10, N)


@pytest.fixture(scope="module")
def perturbed(maps):
    """Less where little is, more where much is; some pixels clipped; not symmetric."""
    tilt = np.linspace(-1, 1, N)[:, None] * np.linspace(0.5, 1.0, N)
    return np.maximum(maps - 8 + 0.1 * maps + 3 * tilt, 0).astype(np.float32)


def spectrum(maps, contrast):
    """Mean over maps of the annuli's mean |FFT|^2, on the whole plane, one mode at a time."""
    maps = np.asarray(maps, np.float64)
    mean = maps.mean(axis=(1, 2), keepdims=True)
    field = maps / mean - 1 if contrast else maps - mean
    squared = (np.abs(np.fft.fft2(field)) ** 2).mean(0) * BOX**2 / N**4
    k = np.fft.fftfreq(N, 1 / N)
    annulus = np.rint(np.hypot(k[:, None], k)).astype(int)
    numbers = range(1, (N - 1) // 2 + 1)
    power = np.array([squared[annulus == i].mean() for i in numbers])
    return power, np.array([np.sum(annulus == i) for i in numbers])


def expected(name, clean, perturbed):
    before, n_modes = spectrum(clean, contrast=name != "raw_power")
    change = spectrum(perturbed, contrast=name != "raw_power")[0] / before - 1
    clean, perturbed = clean.astype(np.float64), perturbed.astype(np.float64)
    cosmic = change / np.sqrt(2 / n_modes)
    return {
        "power": np.abs(change).max(),
        "raw_power": np.abs(change).max(),
        "cosmic": np.abs(cosmic).max(),
        "chi2": np.sum(cosmic**2),
        "mean_shift": abs(perturbed.sum() / clean.sum() - 1),
        "rms": np.sqrt(np.mean((perturbed - clean) ** 2)),
    }[name]


def height(name, clean, perturbed):
    before, after = (Observed(tf.constant(x), BOX) for x in (clean, perturbed))
    return FenceValue.of(FENCES[name].values(after, before).numpy(), None).height


@pytest.mark.parametrize("name", FENCES)
def test_fences_are_what_they_say_within_their_tolerance(name, maps, perturbed):
    wanted = expected(name, maps, perturbed)
    assert wanted > 0.01
    scale = 1 + wanted if name == "chi2" else 1
    assert abs(height(name, maps, perturbed) - wanted) < FENCES[name].tolerance * scale


@pytest.mark.parametrize("name", FENCES)
def test_no_change_has_no_height(name, maps):
    assert height(name, maps, maps) == pytest.approx(0, abs=2e-6)


def test_the_clean_maps_are_the_reference(maps, perturbed):
    """The other way round, dP / P is another number."""
    assert abs(height("power", perturbed, maps) / height("power", maps, perturbed) - 1) > 0.02


def test_they_agree_with_the_table_of_damage(maps, linear_posterior):
    after = Logistic(0.25, -15.0, 3.0)(maps).numpy()
    row = damage.measure(maps, after, linear_posterior, BOX).row(0)
    for name, spectrum_name in (("power", "contrast"), ("raw_power", "raw")):
        wanted = row[f"mean_power_change_{spectrum_name}"]["mean"]
        assert height(name, maps, after) == pytest.approx(wanted, rel=1e-4)
    arrays = row["spectrum"]["contrast"]
    assert height("cosmic", maps, after) == pytest.approx(
        np.abs(arrays["mean_change_cosmic"]).max(), rel=1e-4
    )


def test_the_raw_spectrum_is_blind_to_a_shift_of_the_mean_and_the_contrast_is_not(maps):
    """The loophole: a constant offset moves no bin of the raw spectrum."""
    shifted = maps + np.float32(0.1) * maps.mean(axis=(1, 2), keepdims=True)
    assert height("raw_power", maps, shifted) < FENCES["raw_power"].tolerance
    assert height("power", maps, shifted) == pytest.approx(1 - 1 / 1.1**2, rel=1e-3)
    assert height("mean_shift", maps, shifted) == pytest.approx(0.1, rel=1e-4)


def test_the_contrast_is_blind_to_a_gain_and_the_mean_is_not(maps):
    louder = maps * np.float32(1.1)
    for name in ("power", "cosmic", "chi2"):
        assert height(name, maps, louder) < 1e-4
    assert height("raw_power", maps, louder) == pytest.approx(0.21, rel=1e-3)
    assert height("mean_shift", maps, louder) == pytest.approx(0.1, rel=1e-4)


def test_shuffled_pixels_keep_the_mean_but_not_the_spectrum(maps):
    rolled = np.random.default_rng(0).permuted(maps.reshape(10, -1), axis=1).reshape(maps.shape)
    assert height("mean_shift", maps, rolled) < 1e-6
    assert height("power", maps, rolled) > 0.1
    assert height("rms", maps, rolled) > 10


def test_bins_are_in_units_of_their_own_cosmic_variance(maps):
    """A change of the lowest modes alone: few of them, so that bin's cosmic variance is large."""
    wave = np.float32(0.1 * maps.mean()) * np.cos(2 * np.pi * np.arange(N, dtype=np.float32) / N)
    after = maps + wave[:, None]
    before, observed = (Observed(tf.constant(x), BOX) for x in (maps, after))
    change = FENCES["power"].values(observed, before).numpy()
    cosmic = FENCES["cosmic"].values(observed, before).numpy()
    assert np.abs(change).argmax() == 0
    _, n_modes = spectrum(maps, contrast=True)
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
