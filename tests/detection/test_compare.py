"""A detector finds what is there and nothing else."""

import json

import numpy as np
import pytest
from scipy.stats import kstest

from spurious.detection import Detector, detect, two_sample
from spurious.detection.compare import MMD
from spurious.errors import UserError
from spurious.maps import MapSet

N = 16
STATISTICS = ("log_power", "pdf", "peaks", "equilateral", "squeezed", "minkowski")


def map_set(maps, labels, index):
    n = len(maps)
    return MapSet(maps, labels, np.zeros(n, np.uint64), index, np.full(n, 2, np.int8), 32.0)


def lognormal(n, seed, views=1):
    """Lognormal maps whose fluctuations grow with the second parameter, `views` a simulation."""
    draw = np.random.default_rng(seed)
    labels = draw.choice(np.linspace(0, 1, 6), (n, 2))
    k = np.hypot(np.fft.fftfreq(N)[:, None], np.fft.fftfreq(N)[None]) * N
    noise = np.fft.fft2(draw.normal(size=(n * views, N, N))) / np.maximum(k, 1)
    field = np.fft.ifft2(noise).real * 3
    labels = np.repeat(labels, views, axis=0)
    maps = 64 * np.exp(field * (0.5 + 0.5 * labels[:, 1, None, None]))
    return map_set(maps.astype(np.float32), labels, np.repeat(np.arange(n), views))


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


def test_no_perturbation_is_not_noticed(detector, test):
    row = detector.row(test.maps)
    assert tuple(row) == (*STATISTICS, MMD)
    for name in STATISTICS:
        for kind in ("auroc_anomaly", "auroc_known"):
            assert row[name][kind]["mean"] == pytest.approx(0.5, abs=1e-9)
        assert row[name]["auroc_known"]["low"] == pytest.approx(0.5, abs=1e-9)


def test_a_coarse_perturbation_is_noticed_by_all_that_see_small_scales(detector, test):
    row = json.loads(json.dumps(detector.row(noisy(test.maps, 30.0))))
    for name in ("log_power", "pdf", "peaks", "minkowski"):
        assert row[name]["auroc_known"]["low"] > 0.7
        assert row[name]["auroc_known"]["mean"] >= row[name]["auroc_anomaly"]["mean"] - 0.05
        assert row[name]["p_value"] < 0.01
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


def test_maps_that_are_too_ordinary_count_as_anomalies(detector, test):
    """Anomaly scores count in the direction in which they differ."""
    clean = detector.clean["log_power"]
    found = detector._anomaly(clean, 0.5 * clean)
    assert found == pytest.approx(detector._anomaly(0.5 * clean, clean))
    assert found["low"] > 0.9


def test_a_common_factor_is_not_noticed(detector, test):
    row = detector.row(2 * test.maps)
    assert max(row[name]["auroc_known"]["mean"] for name in STATISTICS) < 0.55


def test_the_same_seed_gives_the_same_row(detector, train, test):
    maps = noisy(test.maps, 5.0)
    row = detect(train, test, maps, seed=3)
    assert row == detector.row(maps)
    assert row != detect(train, test, maps, seed=4)


def test_p_values_of_nothing_are_uniform_over_halves(train, test, detector, monkeypatch):
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 199)
    values = []
    for seed in range(60):
        other = Detector.__new__(Detector)
        other.__dict__.update(detector.__dict__, seed=seed)
        other.half = np.random.default_rng(seed).permutation(len(test)) < len(test) // 2
        pair = other._independent(detector.clean["pdf"], detector.clean["pdf"])
        values.append(two_sample.mean_test(*pair, seed))
    assert kstest(values, "uniform").pvalue > 0.01


def test_maps_of_one_simulation_stay_together(train):
    test = lognormal(20, 5, views=3)
    detector = Detector(train, test, seed=1)
    half = detector.half.reshape(20, 3)
    assert (half == half[:, :1]).all() and half[:, 0].sum() == 10
    first, second = detector._independent(detector.clean["pdf"], detector.clean["pdf"])
    assert len(first) == len(second) == 10
    rows = detector.clean["pdf"].reshape(20, 3, -1).mean(axis=1)
    np.testing.assert_allclose(second, rows[~half[:, 0]])


def test_what_cannot_be_compared_is_refused(detector, train, test):
    with pytest.raises(ValueError, match="perturbed maps for"):
        detector.row(test.maps[:5])
    with pytest.raises(ValueError, match="not finite"):
        detector.row(test.maps * np.nan)
    with pytest.raises(UserError, match="at least 4"):
        Detector(train, test.take(np.arange(3)), seed=1)
    with pytest.raises(UserError, match="too few"):
        Detector(train.take(np.arange(12)), test, seed=1)
