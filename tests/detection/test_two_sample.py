"""Two-sample tests against other codes, closed forms and chance."""

import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.metrics import roc_auc_score

from spurious.detection import two_sample
from spurious.detection.two_sample import auroc, discriminant, mean_test, mmd_test


def test_auroc_is_scikit_learns_also_with_ties_and_weights():
    draw = np.random.default_rng(0)
    clean, perturbed = draw.integers(0, 10, 40) / 2, draw.integers(2, 13, 40) / 2
    weights = draw.integers(0, 4, (5, 40)).astype(float)
    truth = np.repeat([0, 1], 40)
    for w, found in zip(weights, auroc(clean, perturbed, weights), strict=True):
        expected = roc_auc_score(truth, np.r_[clean, perturbed], sample_weight=np.r_[w, w])
        assert found == pytest.approx(expected, rel=1e-12)
    assert auroc(clean, clean, np.ones((1, 40)))[0] == 0.5
    assert auroc(clean, clean + 100, np.ones((1, 40)))[0] == 1


def test_the_discriminant_reaches_the_auroc_of_known_gaussians():
    draw = np.random.default_rng(1)
    mixing = np.array([[1.0, 0.0], [0.95, 0.2]])
    shift = np.array([0.1, -0.1])
    clean, perturbed = (draw.normal(size=(8000, 2)) @ mixing.T for _ in range(2))
    perturbed = perturbed + shift
    direction = discriminant(clean[:4000], perturbed[:4000])
    best = np.linalg.solve(mixing @ mixing.T, shift)
    cosine = direction @ best / np.linalg.norm(direction) / np.linalg.norm(best)
    assert cosine > 0.99
    found = auroc(clean[4000:] @ direction, perturbed[4000:] @ direction, np.ones((1, 4000)))[0]
    separation = np.sqrt(shift @ best)
    assert found == pytest.approx(norm.cdf(separation / np.sqrt(2)), abs=0.02)


def test_equal_sets_have_no_discriminant():
    vectors = np.random.default_rng(2).normal(size=(6, 10))
    np.testing.assert_array_equal(discriminant(vectors, vectors), 0)


@pytest.mark.parametrize("test", [mean_test, lambda *a: mmd_test(*a)[1]], ids=["mean", "mmd"])
def test_p_values_are_uniform_without_a_difference_and_small_with_one(test, monkeypatch):
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 199)
    draw = np.random.default_rng(3)
    pairs = [(draw.normal(size=(15, 3)), draw.normal(size=(20, 3))) for _ in range(400)]
    values = [test(a, b, seed) for seed, (a, b) in enumerate(pairs)]
    assert kstest(values, "uniform").pvalue > 0.01
    assert min(values) >= 1 / 200
    assert np.mean([test(a + 1.0, b, 0) for a, b in pairs[:20]]) < 0.05


def test_mean_test_is_one_of_the_means_alone():
    draw = np.random.default_rng(4)
    first, second = draw.normal(size=(60, 2)), draw.normal(size=(60, 2)) * 3
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    assert mean_test(first, second, 0) == pytest.approx(1, abs=0.01)
    assert mmd_test(first, second, 0)[1] < 0.01


def test_mean_test_is_that_of_a_loop_over_permutations():
    draw = np.random.default_rng(5)
    first, second = draw.normal(size=(30, 3)) + 0.25, draw.normal(size=(40, 3))
    difference = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    joined = np.concatenate([first, second])
    larger = 0
    for _ in range(4000):
        order = draw.permutation(70)
        a, b = joined[order[:30]], joined[order[30:]]
        larger += np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) >= difference
    assert mean_test(first, second, 0) == pytest.approx(larger / 4000, abs=0.03)


def test_mmd_is_that_of_a_double_loop():
    draw = np.random.default_rng(6)
    first, second = draw.normal(size=(7, 4)), draw.normal(size=(9, 4)) + 0.5
    joined = [*first, *second]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(joined) for b in joined[:i]]
    width = np.median(distances)

    def kernel(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * width**2))

    within_first = np.mean([kernel(a, b) for i, a in enumerate(first) for b in first[:i]])
    within_second = np.mean([kernel(a, b) for i, a in enumerate(second) for b in second[:i]])
    across = np.mean([kernel(a, b) for a in first for b in second])
    value, _ = mmd_test(first, second, 0)
    assert value == pytest.approx(within_first + within_second - 2 * across, rel=1e-9)
