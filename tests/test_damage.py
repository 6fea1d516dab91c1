"""Damage against closed forms, and its intervals."""

import json

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from spurious import damage, spectra
from spurious.densities.divergences import mixture

BOX = 128.0


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(30, 16).astype(np.float64)


class Widening:
    """q(y | x) = N(mean of x, (largest x)^2) twice over: its means and scales both move."""

    names = ("first", "second")
    standardiser = None

    def __call__(self, maps):
        maps = tf.convert_to_tensor(maps)
        mean = tf.reduce_mean(maps, axis=(1, 2))
        scale = tf.reduce_max(maps, axis=(1, 2))
        twice = (
            tf.stack([mean, mean], axis=1)[:, None],
            tf.stack([scale, 2 * scale], axis=1)[:, None],
        )
        return mixture(*twice, tf.zeros_like(mean)[:, None])


def gaussian_kl(mean_p, scale_p, mean_q, scale_q):
    """KL(p || q) of two normals, by quadrature of its definition."""
    x = np.linspace(mean_p - 12 * scale_p, mean_p + 12 * scale_p, 20001)
    p = norm(mean_p, scale_p)
    return np.trapezoid(p.pdf(x) * (p.logpdf(x) - norm(mean_q, scale_q).logpdf(x)), x)


def test_both_directions_of_kl_and_shifts_in_clean_sigma(maps):
    clean, perturbed = maps[:1], 1.3 * maps[:1] + 4
    found = damage.measure(clean, perturbed, Widening(), BOX)
    before, after = (clean.mean(), clean.max()), (perturbed.mean(), perturbed.max())
    wide = [(m, 2 * s) for m, s in (before, after)]
    forward = gaussian_kl(*after, *before) + gaussian_kl(*wide[1], *wide[0])
    backward = gaussian_kl(*before, *after) + gaussian_kl(*wide[0], *wide[1])
    assert abs(forward - backward) > 0.01 * forward
    np.testing.assert_allclose(found.kl_perturbed_clean, forward, rtol=1e-6)
    np.testing.assert_allclose(found.kl_clean_perturbed, backward, rtol=1e-6)
    np.testing.assert_allclose(found.kl_symmetrised, (forward + backward) / 2, rtol=1e-6)
    shift = (after[0] - before[0]) / before[1]
    np.testing.assert_allclose(found.shift, [[shift, shift / 2]], rtol=1e-10)
    assert shift > 0


def test_linear_posterior_has_kl_half_the_squared_shift(linear_posterior, maps):
    perturbed = maps + np.random.default_rng(0).normal(size=maps.shape)
    found = damage.measure(maps, perturbed, linear_posterior, BOX, batch_size=7)
    shift = (
        linear_posterior.means(perturbed) - linear_posterior.means(maps)
    ) / linear_posterior.scale
    np.testing.assert_allclose(found.shift, shift, atol=1e-9)
    np.testing.assert_allclose(found.kl_perturbed_clean, 0.5 * (shift**2).sum(1), rtol=1e-8)
    rms = np.sqrt(((perturbed - maps) ** 2).mean((1, 2)))
    np.testing.assert_allclose(found.rms_counts, rms)


def test_spectra_raw_and_contrast(linear_posterior, maps):
    """Doubling a map multiplies its raw power by four and leaves its contrast."""
    row = damage.measure(maps, 2 * maps, linear_posterior, BOX).row(seed=1)
    for statistic in ("power_change", "mean_power_change"):
        assert row[f"{statistic}_raw"]["mean"] == pytest.approx(3.0)
        assert row[f"{statistic}_contrast"]["mean"] == pytest.approx(0.0, abs=1e-10)
    n_modes = spectra.bins(16, BOX).n_modes
    cosmic = 3 / np.sqrt(2 / n_modes.max())
    assert row["power_change_cosmic_raw"]["mean"] == pytest.approx(cosmic)
    np.testing.assert_allclose(row["spectrum"]["raw"]["mean_change"], 3.0)
    np.testing.assert_allclose(row["spectrum"]["contrast"]["max_abs_change"], 0, atol=1e-10)
    assert row["spectrum"]["n_modes"] == n_modes.tolist()


def test_every_bin_has_its_interval_also_in_cosmic_variances(linear_posterior, maps):
    """Maps scaled by factors: raw <P'> / <P> - 1 of a bin follows from the resampled spectra."""
    factors = np.linspace(1.0, 1.4, len(maps))[:, None, None].astype(np.float32)
    measured = damage.measure(maps, maps * factors, linear_posterior, BOX)
    arrays = measured.row(seed=3)["spectrum"]
    low, mean, high = (np.array(arrays["raw"][f"mean_change{s}"]) for s in ("_low", "", "_high"))
    before, after = measured.raw.clean, measured.raw.perturbed
    draws = np.random.default_rng(0).integers(0, len(maps), (4000, len(maps)))
    resampled = after[draws].mean(1) / before[draws].mean(1) - 1
    expected = np.quantile(resampled, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(mean, after.mean(0) / before.mean(0) - 1, rtol=1e-6)
    np.testing.assert_allclose([low, high], expected, rtol=0.1)
    cosmic = np.array(arrays["cosmic_variance"])
    for suffix, values in (("_low", low), ("", mean), ("_high", high)):
        in_cosmic = arrays["raw"][f"mean_change_cosmic{suffix}"]
        np.testing.assert_allclose(in_cosmic, values / cosmic, rtol=1e-9)


def test_change_of_the_mean_spectrum_is_not_the_mean_of_the_changes(linear_posterior, maps):
    """A bright map dominates the mean spectrum: <P'> / <P> follows it alone."""
    clean = np.stack([maps[0], 100 * maps[1]])
    perturbed = np.stack([2 * maps[0], 100 * maps[1]])
    row = damage.measure(clean, perturbed, linear_posterior, BOX).row(seed=1)
    arrays = row["spectrum"]["raw"]
    power = spectra.power(clean, BOX, contrast=False).numpy()
    np.testing.assert_allclose(arrays["mean_change"], 3 * power[0] / power.sum(0), rtol=1e-9)
    np.testing.assert_allclose(arrays["mean_abs_change"], 1.5, rtol=1e-9)
    np.testing.assert_allclose(arrays["max_abs_change"], 3.0, rtol=1e-9)


def test_no_change_is_no_damage(linear_posterior, maps):
    row = damage.measure(maps, maps, linear_posterior, BOX).row(seed=1)
    assert row["largest_mean_change"] == 0
    for name, value in row.items():
        if isinstance(value, dict) and name != "spectrum":
            assert value == {"mean": 0.0, "low": 0.0, "high": 0.0}, name


def test_row_is_json_and_batches_do_not_matter(linear_posterior, maps):
    perturbed = maps + 1
    rows = [
        damage.measure(maps, perturbed, linear_posterior, BOX, batch_size=size).row(seed=1)
        for size in (4, 128)
    ]
    assert json.loads(json.dumps(rows[0], allow_nan=False)) == rows[0]
    assert set(rows[0]) >= {
        "n_maps",
        "n_trainings",
        "shift_omega_m",
        "abs_shift_sigma_8",
        "kl_symmetrised",
    }
    assert rows[0]["n_maps"] == 30
    for name, value in rows[0].items():
        if isinstance(value, dict) and name != "spectrum":
            assert value == pytest.approx(rows[1][name], rel=1e-9), name


def test_the_change_of_each_maps_own_mean(linear_posterior, maps):
    """One map gains 10 %, one loses 20 %, the others move matter about: means 0.1 and 0.2."""
    perturbed = np.roll(maps, 1, axis=1)
    perturbed[3] *= 1.1
    perturbed[5] *= 0.8
    found = damage.measure(maps, perturbed, linear_posterior, BOX)
    np.testing.assert_allclose(found.mean_change[[3, 5]], [0.1, -0.2], rtol=1e-9)
    row = found.row(seed=1)
    assert row["abs_mean_change"]["mean"] == pytest.approx(0.3 / len(maps))
    assert row["largest_mean_change"] == pytest.approx(0.2)


def test_a_row_of_several_trainings_is_the_mean_of_theirs(linear_posterior, maps):
    """Each training counts the same, however many maps it was tried on."""
    few = np.array([1, 4, 7])
    changes = [
        damage.measure(maps, maps + 1, linear_posterior, BOX),
        damage.measure(maps[few], maps[few] + 3, linear_posterior, BOX),
    ]
    row = damage.pooled_row(changes, 1, [np.arange(30), few])
    single = [one.row(1, group) for one, group in zip(changes, (None, few), strict=True)]
    assert (row["n_maps"], row["n_trainings"]) == (30, 2)
    for name in ("kl_perturbed_clean", "rms_counts", "mean_power_change_contrast"):
        means = [one[name]["mean"] for one in single]
        assert row[name]["mean"] == pytest.approx(np.mean(means)), name
    raw = [np.array(one["spectrum"]["raw"]["mean_change"]) for one in single]
    np.testing.assert_allclose(row["spectrum"]["raw"]["mean_change"], np.mean(raw, axis=0))
    # What may be negative has an interval about its mean, all else one of its logarithm.
    for name, signed in (("shift_omega_m", True), ("abs_shift_omega_m", False)):
        cell = row[name]
        symmetric = cell["high"] - cell["mean"] == pytest.approx(cell["mean"] - cell["low"])
        assert symmetric is signed, name
    cell = row["mean_power_change_contrast"]
    assert cell["high"] / cell["mean"] == pytest.approx(cell["mean"] / cell["low"])
    # Two trainings that differ this much know next to nothing of a third.
    kl = row["kl_perturbed_clean"]
    assert kl["high"] / kl["low"] > 100 * single[0]["kl_perturbed_clean"]["high"] / kl["mean"]


def test_the_change_of_another_posterior_and_the_mean_of_several(breathing_posterior, maps):
    names = ("kl_perturbed_clean", "kl_clean_perturbed", "shift", "kl_error")
    one, other = (
        damage.posterior_change(maps, perturbed, breathing_posterior, batch_size=8)
        for perturbed in (1.2 * maps, maps + 3)
    )
    whole = damage.measure(maps, 1.2 * maps, breathing_posterior, BOX)
    mean = damage.mean_change([one, other])
    assert one.names == mean.names == breathing_posterior.names
    for name in names:
        np.testing.assert_allclose(getattr(one, name), getattr(whole, name), rtol=1e-8)
        expected = (getattr(one, name) + getattr(other, name)) / 2
        np.testing.assert_allclose(getattr(mean, name), expected)
    assert np.abs(one.kl_perturbed_clean / one.kl_clean_perturbed - 1).min() > 0.01


def test_spectra_of_a_row_are_means_over_maps_and_trainings_bin_by_bin(linear_posterior, maps):
    few = np.array([1, 4, 7])
    pairs = [(maps, 1.5 * np.roll(maps, 1, axis=1) + maps), (maps[few], maps[few] ** 1.2)]
    changes = [damage.measure(*pair, linear_posterior, BOX) for pair in pairs]
    found = damage.pooled_row(changes, 1, [np.arange(30), few])["spectrum"]
    bins = spectra.bins(16, BOX)
    np.testing.assert_allclose(found["cosmic_variance"], spectra.cosmic_variance(bins.n_modes))
    assert found["n_modes"] == bins.n_modes.tolist()
    for kind, contrast in (("raw", False), ("contrast", True)):
        power = [
            [spectra.power(one, BOX, contrast=contrast).numpy() for one in pair] for pair in pairs
        ]
        change = [np.abs(after / before - 1) for before, after in power]
        mean = [after.mean(0) / before.mean(0) - 1 for before, after in power]
        expected = {
            "clean": np.mean([before.mean(0) for before, _ in power], axis=0),
            "perturbed": np.mean([after.mean(0) for _, after in power], axis=0),
            "mean_abs_change": np.mean([one.mean(0) for one in change], axis=0),
            "max_abs_change": np.max([one.max(0) for one in change], axis=0),
            "mean_change": np.mean(mean, axis=0),
            "mean_change_cosmic": np.mean(mean, axis=0) / found["cosmic_variance"],
        }
        ends = {
            f"mean_change{cosmic}_{end}" for cosmic in ("", "_cosmic") for end in ("low", "high")
        }
        assert set(found[kind]) == {*expected, *ends}
        for name, values in expected.items():
            np.testing.assert_allclose(found[kind][name], values, rtol=1e-6, err_msg=name)
        low, high = (np.array(found[kind][f"mean_change_{end}"]) for end in ("low", "high"))
        assert (low < expected["mean_change"]).all() and (expected["mean_change"] < high).all()
        cosmic = np.array(found[kind]["mean_change_cosmic_low"])
        np.testing.assert_allclose(cosmic * found["cosmic_variance"], low)


def test_disagreement_is_symmetric_and_half_the_sum(linear_posterior, maps):
    other = maps + np.random.default_rng(1).normal(size=maps.shape)
    found = damage.disagreement(maps, other, linear_posterior, batch_size=8)
    both = damage.measure(maps, other, linear_posterior, BOX)
    np.testing.assert_allclose(found, both.kl_symmetrised, rtol=1e-8)
    np.testing.assert_allclose(found, damage.disagreement(other, maps, linear_posterior), rtol=1e-8)


def test_monte_carlo_kl(linear_posterior, maps):
    """A mixture of two equal Gaussians is that Gaussian, but its KL is sampled."""

    class Sampled:
        names, standardiser = linear_posterior.names, None

        def __call__(self, x):
            one = linear_posterior(x)
            means, scales = (tf.stack([v, v], axis=1) for v in (one.mean(), one.stddev()))
            return mixture(means, scales, tf.zeros_like(means[:, :, 0]))

    perturbed = maps + 2
    exact = damage.measure(maps, perturbed, linear_posterior, BOX)
    sampled = damage.measure(maps, perturbed, Sampled(), BOX)
    np.testing.assert_allclose(sampled.shift, exact.shift, rtol=1e-8)
    assert np.all(exact.kl_error == 0) and exact.row(1)["kl_sampling_error"] == 0
    assert sampled.row(1)["kl_sampling_error"] == pytest.approx(sampled.kl_error.mean())
    assert np.all(sampled.kl_error > 0)
    # The log ratio of two such Gaussians has variance 2 KL; 1024 draws, five standard errors.
    error = np.sqrt(2 * exact.kl_perturbed_clean / 1024)
    assert np.all(np.abs(sampled.kl_perturbed_clean - exact.kl_perturbed_clean) < 5 * error)


def test_maps_must_be_alike(linear_posterior, maps):
    with pytest.raises(ValueError, match="shapes"):
        damage.measure(maps, maps[:3], linear_posterior, BOX)
    with pytest.raises(ValueError, match="shapes"):
        damage.disagreement(maps[:0], maps[:0], linear_posterior)
