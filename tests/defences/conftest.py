"""A network whose posterior is known in closed form, and a data set from which one learns."""

import numpy as np
import pytest
import tensorflow as tf

from spurious.data.maps import MapSet
from spurious.data.splits import split
from spurious.training.defended import Finished

SEED = 11


@pytest.fixture(scope="session")
def network(linear_posterior):
    """Gaussian, its mean linear in the map; as a network in training."""
    return Finished(linear_posterior)


@pytest.fixture(scope="session")
def breathing(breathing_posterior):
    """One whose divergences are not symmetric."""
    return Finished(breathing_posterior)


@pytest.fixture(scope="session")
def maps(make_maps):
    return tf.constant(make_maps(6, 16))


@pytest.fixture(scope="session")
def truth():
    return tf.constant(np.random.default_rng(4).uniform(0.2, 0.8, (6, 2)), tf.float32)


@pytest.fixture(scope="session")
def data():
    """White noise whose amplitude is label 0 and whose skewness grows with label 1."""
    draw = np.random.default_rng(8)
    labels = draw.uniform(0.2, 0.8, (120, 2))
    noise = draw.standard_normal((120, 16, 16))
    shape = noise + labels[:, 1, None, None] * (noise**2 - 1)
    return MapSet(
        maps=np.maximum(100 + 30 * labels[:, 0, None, None] * shape, 0).astype(np.float32),
        labels=labels,
        seeds=np.arange(120, dtype=np.uint64),
        index=np.arange(120),
        axis=np.full(120, 2),
        box_size=64.0,
    )


@pytest.fixture(scope="session")
def parts():
    return split(np.arange(120), 0.25, 0.2, SEED)
