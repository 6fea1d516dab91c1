"""A detector finds what is there and nothing else."""

import json

import numpy as np
import pytest
from scipy.stats import kstest

from spurious.config.detection import Detection
from spurious.data.maps import MapSet
from spurious.detection import Detector, detect, two_sample, verdict
from spurious.detection.detector import MMD, NETWORKS, folds, learns
from spurious.errors import UserError

N = 16
STATISTICS = ("log_power", "pdf", "peaks", "equilateral", "squeezed", "minkowski", "scattering")


def map_set(maps, labels, index):
    n = len(maps)
    return MapSet(maps, labels, np.zeros(n, np.uint64), index, np.full(n, 2, np.int8), 32.0)


def of_mean(maps):
    """In counts, 64 a pixel: simulations conserve their particles."""
    return (64 * maps / maps.mean(axis=(1, 2), keepdims=True)).astype(np.float32)


def lognormal(n, seed, views=1):
    """Lognormal maps whose fluctuations grow with the second parameter, `views` a simulation."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(np.linspace(0, 1, 6), (n, 2))
    k = np.hypot(np.fft.fftfreq(N)[:, None], np.fft.fftfreq(N)[None]) * N
    noise = np.fft.fft2(draw.normal(size=(n * views, N, N))) / np.maximum(k, 1)
    field = np.fft.ifft2(noise).real * 3
    labels = np.repeat(labels, views, axis=0)
    maps = np.exp(field * (0.5 + 0.5 * labels[:, 1, None, None]))
    return map_set(of_mean(maps), labels, np.repeat(np.arange(n), views))


def of_labels(labels, seed):
    """New maps of given cosmologies."""
    k = np.hypot(np.fft.fftfreq(N)[:, None], np.fft.fftfreq(N)[None]) * N
    draw = np.random.default_rng(seed)
    noise = np.fft.fft2(draw.normal(size=(len(labels), N, N))) / np.maximum(k, 1)
    field = np.fft.ifft2(noise).real * 3
    return of_mean(np.exp(field * (0.5 + 0.5 * labels[:, 1, None, None])))


@pytest.fixture(scope="module")
def train():
    return lognormal(400, 1)


@pytest.fixture(scope="module")
def test():
    return lognormal(120, 2)


@pytest.fixture(scope="module")
def detector(train, test):
    return Detector(train, test, seed=3)


def noisy(maps, rms, seed=0):
    draw = np.random.default_rng(seed)
    return np.maximum(maps + rms * draw.normal(size=maps.shape), 0).astype(np.float32)


def without_seconds(row):
    return {
        name: {key: v for key, v in cell.items() if key != "seconds"}
        if isinstance(cell, dict)
        else cell
        for name, cell in row.items()
    }


def test_no_perturbation_is_not_noticed(detector, test):
    row = detector.row(test.maps)
    assert tuple(row) == (*STATISTICS, MMD, *NETWORKS, "n_maps", "n_simulations")
    assert row["n_maps"] == row["n_simulations"] == 120
    for name in STATISTICS:
        for kind in ("auroc", "auroc_anomaly", "auroc_known"):
            assert row[name][kind]["mean"] == pytest.approx(0.5, abs=1e-9)
        assert row[name]["auroc_known"]["low"] == pytest.approx(0.5, abs=1e-9)
        assert row[name]["p_variance"] == 1.0
    for name in NETWORKS:
        assert row[name]["auroc"]["mean"] == pytest.approx(0.5, abs=1e-9)
        assert row[name]["p_value"] == pytest.approx(0.5)
    assert verdict(row)["by"] == []


def test_a_coarse_perturbation_is_noticed_by_all_that_see_small_scales(detector, test):
    row = json.loads(json.dumps(detector.row(noisy(test.maps, 30.0))))
    assert verdict(row)["verdict"] == "noticed"
    for name in NETWORKS:
        assert row[name]["auroc"]["low"] > 0.9 and row[name]["p_value"] < 1e-6
        assert row[name]["auroc"]["kind"] == "learned"
    for name in ("log_power", "pdf", "peaks", "minkowski", "scattering"):
        assert row[name]["auroc_known"]["low"] > 0.7
        assert row[name]["auroc_known"]["mean"] >= row[name]["auroc_anomaly"]["mean"] - 0.05
        assert row[name]["p_value"] == 2 * min(row[name]["p_mean"], row[name]["p_variance"]) < 0.01
        best = max(("known", "anomaly"), key=lambda kind: row[name][f"auroc_{kind}"]["mean"])
        assert row[name]["auroc"]["kind"] == best
        single = row[name][f"auroc_{best}"]
        assert row[name]["auroc"]["mean"] == single["mean"]
        assert row[name]["auroc"]["low"] <= single["low"]
        assert row[name]["auroc"]["high"] >= single["high"]
        for kind in ("auroc_anomaly", "auroc_known"):
            low, mean, high = (row[name][kind][key] for key in ("low", "mean", "high"))
            assert low - 1e-9 <= mean <= high + 1e-9
    assert row[MMD]["p_value"] < 0.01 and row[MMD]["value"] > 0


def test_shuffled_phases_are_not_noticed_by_the_power_spectrum(detector, test):
    draw = np.random.default_rng(4)
    phases = np.fft.rfft2(draw.normal(size=test.maps.shape))
    modes = np.fft.rfft2(test.maps) * phases / np.abs(phases)
    modes[:, 0, 0] = np.fft.rfft2(test.maps)[:, 0, 0]
    shuffled = np.fft.irfft2(modes, s=(N, N))
    row = detector.row(shuffled.astype(np.float32))
    assert abs(row["log_power"]["auroc_known"]["mean"] - 0.5) < 0.05
    assert row["log_power"]["auroc_anomaly"]["mean"] < 0.55
    assert row["pdf"]["auroc_known"]["low"] > 0.8
    assert row["minkowski"]["auroc_known"]["low"] > 0.8


def test_maps_that_are_too_ordinary_count_as_anomalies(detector):
    """Anomaly scores count in the direction in which they differ."""
    clean = detector.clean["log_power"]
    found = detector._statistic(clean, 0.5 * clean)
    reverse = detector._statistic(0.5 * clean, clean)
    assert found["auroc_anomaly"] == pytest.approx(reverse["auroc_anomaly"])
    assert found["auroc_anomaly"]["low"] > 0.9


def test_a_change_of_the_scatter_alone_is_noticed(detector):
    clean = detector.clean["log_power"] - detector.clean["log_power"].mean(axis=0)
    for factor in (0.8, 1.25):
        found = detector._statistic(clean, factor * clean)
        assert found["p_mean"] > 0.2
        assert found["p_variance"] == pytest.approx(1 / 5000)
        assert found["p_value"] == pytest.approx(2 / 5000)
        assert found["auroc"]["kind"] == "anomaly"


def test_a_change_of_the_mean_alone_is_the_discriminants(detector):
    draw = np.random.default_rng(11)
    clean = draw.normal(size=detector.clean["log_power"].shape)
    d = clean.shape[1]
    found = detector._statistic(clean, clean + 1.5 / np.sqrt(d) * np.ones(d))
    assert found["auroc"]["kind"] == "known" and found["auroc_known"]["mean"] > 0.75
    assert found["p_mean"] < 0.001


def test_a_common_factor_is_noticed_by_the_network_that_sees_counts_alone(detector, test):
    row = detector.row((1.03 * test.maps).astype(np.float32))
    assert max(row[name]["auroc"]["mean"] for name in STATISTICS) < 0.55
    assert row["network_contrast"]["auroc"]["mean"] < 0.55
    assert row["network"]["auroc"]["low"] > row["network_contrast"]["auroc"]["high"]
    assert [row[name]["sees"] for name in NETWORKS] == ["counts", "contrast"]
    assert verdict(row)["by"][:1] == ["network"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_row(detector, train, test):
    maps = noisy(test.maps, 5.0)
    row = detect(train, test, maps, seed=3)
    assert without_seconds(row) == without_seconds(detector.row(maps))
    assert without_seconds(row) != without_seconds(detect(train, test, maps, seed=4))
    assert row["network"]["folds"] == 5
    assert detect(train, test, maps, 3, Detection(folds=3))["network"]["folds"] == 3


@pytest.mark.slow
def test_other_universes_of_the_same_cosmologies_are_not_noticed(train, monkeypatch):
    """P-values are of use only if they are as large as chance makes them."""
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 1999)
    two_sample._signs.cache_clear()
    test = lognormal(90, 20)
    detector = Detector(train, test, seed=1)
    found = {name: [] for name in (*STATISTICS, MMD, *NETWORKS)}
    aurocs, alarms = [], 0
    for seed in range(16):
        row = detector.row(of_labels(test.labels, 100 + seed))
        for name, values in found.items():
            values.append(row[name]["p_value"])
        aurocs.append(row["network"]["auroc"]["mean"])
        alarms += verdict(row)["verdict"] == "noticed"
    assert alarms <= 1
    # The clean maps are the same 16 times, so even the mean over all rows moves with them.
    assert np.mean(aurocs) == pytest.approx(0.5, abs=0.05)
    for name, values in found.items():
        assert np.sum(np.array(values) < 0.05) <= 4, name
    two_sample._signs.cache_clear()


def test_p_values_of_a_network_are_uniform_where_nothing_is_to_be_learnt(detector):
    """Independent features through the whole cross-fit; each time new clean ones too."""
    values, aurocs = [], []
    for seed in range(200):
        clean, other = np.random.default_rng(seed).normal(size=(2, 120, 30))
        mean = detector._known(clean, other)(np.full((1, 120), 1 / 120))[0]
        aurocs.append(mean)
        values.append(two_sample.auroc_test(mean, 120))
    assert np.mean(aurocs) == pytest.approx(0.5, abs=0.012)
    assert kstest(values, "uniform").pvalue > 0.01


def test_no_simulation_teaches_the_detector_that_judges_it(detector):
    """Had a simulation taught, two maps that are alike otherwise would be told apart."""
    draw = np.random.default_rng(5)
    clean = draw.normal(size=(120, 60))
    for one in range(5):
        learn, held = learns(detector.fold, one), detector.fold == one
        assert not (learn & held).any() and (learn | held).all()
    # More dimensions than a discriminant can know: with the judged maps it would know them all.
    own = 0.5 * draw.normal(size=(120, 60))
    assert detector._known(clean, clean + own)(np.full((1, 120), 1 / 120))[0] < 0.6


def test_folds_hold_whole_simulations_as_many_in_each(train):
    index = np.repeat(np.arange(23) * 7, 3)
    fold = folds(index, 5, seed=1)
    by_simulation = fold.reshape(23, 3)
    assert (by_simulation == by_simulation[:, :1]).all()
    assert sorted(np.bincount(by_simulation[:, 0])) == [4, 4, 5, 5, 5]
    assert (fold != folds(index, 5, seed=2)).any()


def test_maps_of_one_simulation_count_once(train):
    test = lognormal(20, 5, views=3)
    detector = Detector(train, test, seed=1)
    clean = detector.clean["pdf"]
    before, after, fold = detector._simulations(clean, clean + 1)
    np.testing.assert_allclose(before, clean.reshape(20, 3, -1).mean(axis=1))
    np.testing.assert_allclose(after, before + 1)
    np.testing.assert_array_equal(fold, detector.fold[::3])
    row = detector.row(test.maps)
    assert (row["n_maps"], row["n_simulations"]) == (60, 20)


def test_order_of_the_maps_is_of_no_account(train):
    """The fold of a simulation goes by its number, wherever its maps stand."""
    test = lognormal(24, 6)
    order = np.random.default_rng(0).permutation(24)
    maps = noisy(test.maps, 5.0)
    row = detect(train, test, maps, 1)
    other = detect(train, test.take(order), maps[order], 1)
    for name in STATISTICS:
        assert other[name]["auroc"]["mean"] == pytest.approx(row[name]["auroc"]["mean"], abs=1e-6)


def test_few_maps_are_too_few(train):
    test = lognormal(4, 7)
    row = detect(train, test, noisy(test.maps, 30.0), 1)
    assert row["network"]["folds"] == 2
    assert verdict(row)["verdict"] == "too few maps"


def test_what_cannot_be_compared_is_refused(detector, train, test):
    with pytest.raises(ValueError, match="perturbed maps for"):
        detector.row(test.maps[:5])
    with pytest.raises(ValueError, match="not finite"):
        detector.row(test.maps * np.nan)
    with pytest.raises(UserError, match="at least 4"):
        Detector(train, test.take(np.arange(3)), seed=1)
    with pytest.raises(UserError, match="too few"):
        Detector(train.take(np.arange(12)), test, seed=1)


def test_a_detector_taught_once_judges_other_test_maps_as_a_new_one_would(detector, train, test):
    some = test.take(np.arange(0, 120, 3))
    changed = noisy(some.maps, 8.0)
    found = without_seconds(detector.judging(some).row(changed))
    assert found == without_seconds(Detector(train, some, seed=3).row(changed))
    assert detector.test is test
    with pytest.raises(UserError, match="at least 4 are needed"):
        detector.judging(test.take(np.arange(3)))
