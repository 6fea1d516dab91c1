"""Residuals: what is left once the cosmology is taken out."""

import numpy as np
import pytest

from spurious.detection.residuals import Residuals
from spurious.errors import UserError

MIXING = np.array([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.2, 2.0]])


def summaries(n, seed):
    """Three correlated entries, of a mean and a scatter that depend on the parameters."""
    draw = np.random.default_rng(seed)
    labels = draw.uniform((0.05, 0.5), (0.55, 1.0), (n, 2))
    a, b = labels.T
    mean = np.stack([10 * a, 3 * b**2, 100 + 5 * a * b], axis=1)
    noise = draw.normal(size=(n, 3)) @ MIXING.T
    return mean + noise * np.exp(a)[:, None], labels


@pytest.fixture(scope="module")
def residuals():
    return Residuals.fit(*summaries(1500, 0))


def test_residuals_of_other_clean_maps_are_white(residuals):
    values, labels = summaries(4000, 1)
    found = residuals(values, labels)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.1)
    np.testing.assert_allclose(np.cov(found.T), np.eye(3), atol=0.15)
    # Also where the scatter is 30 % larger or smaller than on average.
    for part in (labels[:, 0] < 0.15, labels[:, 0] > 0.45):
        assert (found[part] ** 2).mean() == pytest.approx(1, abs=0.15)


def test_a_change_counts_in_units_of_the_clean_scatter(residuals):
    values, labels = summaries(500, 2)
    change = np.array([0.3, -0.2, 0.5])
    found = residuals(values + change, labels) - residuals(values, labels)
    expected = np.linalg.norm(np.linalg.solve(MIXING, change)) / np.exp(labels[:, 0])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), expected, rtol=0.12)


def test_entries_that_never_vary_are_left_out(residuals):
    values, labels = summaries(300, 3)
    with_constant = np.insert(values, 1, 7.0, axis=1)
    fitted = Residuals.fit(with_constant, labels)
    other = np.insert(values, 1, 8.0, axis=1)
    np.testing.assert_allclose(fitted(other, labels), Residuals.fit(values, labels)(values, labels))


def test_one_cosmology_and_one_parameter_that_varies():
    values, labels = summaries(600, 4)
    noise = values - np.stack(
        [10 * labels[:, 0], 3 * labels[:, 1] ** 2, 100 + 5 * labels.prod(axis=1)], axis=1
    )
    fixed = np.tile([0.3, 0.8], (600, 1))
    whitened = Residuals.fit(noise, fixed)(noise, fixed)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=0.2)
    half = np.stack([labels[:, 0], fixed[:, 1]], axis=1)
    assert Residuals.fit(noise, half)(noise, half).shape == (600, 3)


def test_no_more_components_than_maps_can_tell():
    draw = np.random.default_rng(5)
    labels = draw.uniform((0.05, 0.5), (0.55, 1.0), (80, 2))
    values = draw.normal(size=(80, 20)) @ np.diag(np.arange(1.0, 21.0))
    assert Residuals.fit(values, labels)(values, labels).shape == (80, 8)


def test_too_few_maps_are_refused():
    values, labels = summaries(6, 6)
    with pytest.raises(UserError, match="too few"):
        Residuals.fit(values, labels)
