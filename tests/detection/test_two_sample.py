"""Two-sample tests against other codes, closed forms and chance."""

import numpy as np
import pytest
from scipy.stats import kstest, mannwhitneyu, norm
from sklearn.metrics import roc_auc_score

from spurious.detection import two_sample
from spurious.detection.two_sample import auroc, discriminant, mean_test, mmd_test, rank_test


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


def spread_over(n, count=5):
    return np.arange(n) % count


def mean(clean, perturbed, fold, seed):
    return mean_test(clean, perturbed, fold, seed)


def ranks(clean, perturbed, fold, seed):
    return rank_test(clean[:, 0], perturbed[:, 0], fold, seed)


def mmd(clean, perturbed, fold, seed):
    return mmd_test(clean, perturbed, fold, seed)[1]


TESTS = pytest.mark.parametrize("test", [mean, ranks, mmd])


@TESTS
def test_p_values_are_uniform_without_a_difference_and_small_with_one(test, monkeypatch):
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 199)
    two_sample._signs.cache_clear()
    draw, fold = np.random.default_rng(3), spread_over(20)
    pairs = draw.normal(size=(400, 2, 20, 3))
    values = [test(a, b, fold, seed) for seed, (a, b) in enumerate(pairs)]
    assert kstest(values, "uniform").pvalue > 0.01
    assert min(values) >= 1 / 200
    for sign in (-1, 1):
        assert np.mean([test(a, b + sign, fold, 0) for a, b in pairs[:20]]) < 0.05
    two_sample._signs.cache_clear()


@TESTS
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_pairs_that_are_alike_make_no_false_alarms(test, share, monkeypatch):
    """The same simulation with other noise, and nothing changed in the mean: `share` is new."""
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 199)
    two_sample._signs.cache_clear()
    draw, fold = np.random.default_rng(6), spread_over(30)
    alarms = 0
    for _ in range(200):
        clean, new = draw.normal(size=(2, 30, 3))
        perturbed = np.sqrt(1 - share) * clean + np.sqrt(share) * new
        alarms += test(clean, perturbed, fold, 0) <= 0.05
    assert alarms <= 20  # of 10 expected at most; P(> 20) = 0.001
    two_sample._signs.cache_clear()


def test_all_maps_notice_what_halves_of_them_do_not():
    """The size of a shift of which n pairs are sure is that of two samples of n, not of n / 2."""
    draw, fold = np.random.default_rng(7), spread_over(200)
    clean = draw.normal(size=(200, 4))
    shift = np.array([0.34, 0.0, 0.0, 0.0])
    assert mean_test(clean, clean + shift, fold, 0) < 0.01
    half = spread_over(100)
    assert mean_test(clean[:100], clean[100:] + shift, half, 0) > 0.01


def test_mean_test_is_one_of_the_means_alone():
    draw, fold = np.random.default_rng(4), spread_over(60)
    clean, perturbed = draw.normal(size=(60, 2)), draw.normal(size=(60, 2)) * 3
    clean, perturbed = clean - clean.mean(axis=0), perturbed - perturbed.mean(axis=0)
    assert mean_test(clean, perturbed, fold, 0) > 0.3
    assert mmd_test(clean, perturbed, fold, 0)[1] < 0.01
    assert rank_test((clean**2).sum(axis=1), (perturbed**2).sum(axis=1), fold, 0) < 0.01


def test_mean_test_is_that_of_a_loop_over_permutations():
    draw, fold = np.random.default_rng(5), spread_over(30, 3)
    clean, perturbed = draw.normal(size=(30, 3)), draw.normal(size=(30, 3)) + 0.25

    def statistic(one, other):
        by_fold = [one[fold == f].sum(axis=0) - other[fold == f].sum(axis=0) for f in range(3)]
        return sum(a @ b for i, a in enumerate(by_fold) for j, b in enumerate(by_fold) if i != j)

    found, larger = statistic(perturbed, clean), 0
    for _ in range(3000):
        one, other = np.empty_like(clean), np.empty_like(clean)
        for f in range(3):
            pool = draw.permutation(np.concatenate([clean[fold == f], perturbed[fold == f]]))
            one[fold == f], other[fold == f] = pool[:10], pool[10:]
        larger += statistic(one, other) >= found
    assert mean_test(clean, perturbed, fold, 0) == pytest.approx(larger / 3000, abs=0.03)


def test_rank_test_is_that_of_mann_and_whitney():
    draw = np.random.default_rng(8)
    clean, perturbed = draw.normal(size=80), draw.normal(size=80) + 0.3
    expected = mannwhitneyu(perturbed, clean).pvalue
    assert 0.01 < expected < 0.3
    whole = np.zeros(80, int)
    assert rank_test(clean, perturbed, whole, 0) == pytest.approx(expected, abs=0.02)
    assert rank_test(perturbed, clean, whole, 0) == pytest.approx(expected, abs=0.02)


def test_mmd_is_that_of_a_double_loop():
    draw, fold = np.random.default_rng(6), spread_over(9, 3)
    clean, perturbed = draw.normal(size=(9, 4)), draw.normal(size=(9, 4)) + 0.5
    joined = [*clean, *perturbed]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(joined) for b in joined[:i]]
    width = np.median(distances)

    def kernel(a, b):
        return np.exp(-np.sum((a - b) ** 2) / (2 * width**2))

    terms = [
        kernel(clean[i], clean[j])
        + kernel(perturbed[i], perturbed[j])
        - kernel(clean[i], perturbed[j])
        - kernel(perturbed[i], clean[j])
        for i in range(9)
        for j in range(9)
        if fold[i] != fold[j]
    ]
    value, _ = mmd_test(clean, perturbed, fold, 0)
    assert value == pytest.approx(np.mean(terms), rel=1e-9)


@pytest.mark.parametrize("count", [2, 5])
def test_chance_moves_a_cross_fitted_auroc_as_far_as_it_says(count):
    draw, n, d = np.random.default_rng(9), 60, 40
    fold, ones = spread_over(n, count), np.ones((1, n // count))
    found = []
    for _ in range(400):
        clean, perturbed = draw.normal(size=(2, n, d))
        parts = []
        for f in range(count):
            held = fold == f
            direction = perturbed[~held].mean(axis=0) - clean[~held].mean(axis=0)
            parts.append(auroc(clean[held] @ direction, perturbed[held] @ direction, ones)[0])
        found.append(np.mean(parts))
    assert np.mean(found) == pytest.approx(0.5, abs=0.015)
    # The standard deviation of 400 is known to 3.5 %.
    assert np.std(found) == pytest.approx(np.sqrt(two_sample.chance_variance(n)), rel=0.12)
    p_values = [two_sample.auroc_test(value, n) for value in found]
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_a_larger_auroc_has_a_smaller_p_value():
    small, half, large = (two_sample.auroc_test(value, 100) for value in (0.6, 0.5, 0.4))
    assert small < 0.05 and half == 0.5 and large > 0.95
