"""Small maps, a posterior known in closed form, and short budgets."""

from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf
from around import Around, Rounded

from spurious.audit.attacks import Attacks
from spurious.config.audit import Audit, Budgets, Fractions


@dataclass(frozen=True)
class Mistaken(Around):
    """Another posterior, with gradients that are a factor off."""

    factor: float = 2.0

    def __call__(self, maps):
        maps = tf.convert_to_tensor(maps)
        return self.inner(self.factor * maps + tf.stop_gradient((1 - self.factor) * maps))


@dataclass(frozen=True)
class Blind(Attacks):
    """Noise in place of every attack, `excess` times as large as allowed."""

    excess: float = 1.0

    def _moved(self, maps, size):
        return self.random_sign(maps, self.excess * size)

    def bim(self, maps, truth, epsilon):
        return self._moved(maps, epsilon)

    def strongest(self, maps, limit, steps=None):
        return self._moved(maps, limit.epsilon)

    def reference(self, maps, limit, steps):
        return self._moved(maps, limit.epsilon)

    def fgsm(self, maps, epsilon):
        return self._moved(maps, epsilon)

    def ends(self, maps, limit, count):
        return tf.stack([self._moved(maps, limit.epsilon * i) for i in range(count)], axis=1)


@pytest.fixture(scope="session")
def settings():
    return Audit(
        steps=8,
        constrained_steps=12,
        starts=2,
        reference_maps=3,
        reference_steps=30,
        linf=Budgets(values=(0.003, 0.03, 0.3), unit="std"),
        l2=Budgets(values=(0.01, 0.1), unit="std"),
        cosmic=Fractions(values=(0.0, 0.1), unit="cosmic_variance"),
    )


@pytest.fixture(scope="session")
def maps(make_maps):
    return make_maps(6, 16) + 10


@pytest.fixture(scope="session")
def truth(linear_posterior, maps):
    """Beside the posterior's means, so that there is one way up and not two."""
    noise = np.random.default_rng(1).uniform(2, 4, size=(len(maps), 2))
    return linear_posterior.means(maps) + linear_posterior.scale * noise


@pytest.fixture(scope="session")
def rounded():
    return Rounded


@pytest.fixture(scope="session")
def mistaken():
    return Mistaken


@pytest.fixture(scope="session")
def blind_attacks():
    return Blind
