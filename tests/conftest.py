"""What several tests need: a posterior in closed form, maps like the real ones, CAMB itself."""

import gc
import sys
from dataclasses import dataclass
from pathlib import Path

import camb
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from around import Around

from spurious.data.maps import NAMES, Standardiser
from spurious.memory import keep_freed

tfd = tfp.distributions

# Bugs are planted one at a time, each tried in a process of its own.
PLANTED = ["shared_fixtures"] if "mutmut" in sys.modules else []
pytest_plugins = ["small_project", "small_report", *PLANTED]


@dataclass(frozen=True)
class LinearGaussian:
    """q(y | x) = N(offset + weights . x, diag(scale^2)): gradients and KLs are known exactly."""

    weights: np.ndarray  # (p, N, N)
    offset: np.ndarray  # (p,)
    scale: np.ndarray  # (p,)
    names: tuple[str, ...] = NAMES
    standardiser: Standardiser = Standardiser(64.0, 30.0)  # noqa: RUF009, frozen itself

    def __call__(self, maps):
        maps = tf.convert_to_tensor(maps)
        mean = tf.einsum("pij,bij->bp", tf.constant(self.weights, maps.dtype), maps)
        scale = tf.constant(self.scale, maps.dtype)
        return tfd.MultivariateNormalDiag(
            mean + tf.constant(self.offset, maps.dtype), tf.broadcast_to(scale, tf.shape(mean))
        )

    def means(self, maps):
        """Posterior means (batch, p) by NumPy."""
        return np.einsum("pij,bij->bp", self.weights, np.asarray(maps, np.float64)) + self.offset


@dataclass(frozen=True)
class Breathing(Around):
    """Like another posterior, but wider where a map is denser: its KLs are not symmetric."""

    def __call__(self, maps):
        maps = tf.convert_to_tensor(maps)
        one = self.inner(maps)
        density = tf.reduce_mean(maps, axis=(1, 2))[:, None] / 64
        return tfd.MultivariateNormalDiag(one.mean(), one.stddev() * density**3)


def density_maps(count, n, seed=0):
    """Lognormal maps (count, n, n) float32 of mean 64, with large-scale power and a few zeros."""
    rng = np.random.default_rng(seed)
    k = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.fftfreq(n)[None]) * n
    noise = np.fft.fft2(rng.normal(size=(count, n, n))) / np.maximum(k, 1)
    field = np.fft.ifft2(noise).real
    maps = np.exp(field / field.std() * 0.6)
    maps *= 64 / maps.mean((1, 2), keepdims=True)
    maps[:, 0, :3] = 0.0
    return maps.astype(np.float32)


def camb_results(omega_m, k_max):
    """CAMB itself, asked in another way than the package does; the rest is Planck 2015."""
    h = 0.6774
    parameters = camb.set_params(
        H0=100 * h,
        ombh2=0.0486 * h**2,
        omch2=(omega_m - 0.0486) * h**2,
        mnu=0.0,
        As=2e-9,
        ns=0.9667,
        redshifts=[0.0],
        kmax=k_max,
        NonLinear=camb.model.NonLinear_none,
        WantCls=False,
    )
    return camb.get_results(parameters)


@pytest.fixture(scope="session")
def run_camb():
    return camb_results


@pytest.fixture(scope="session")
def make_maps():
    return density_maps


@pytest.fixture(scope="session")
def linear_posterior():
    """A linear-Gaussian posterior for 16 x 16 maps."""
    weights = np.random.default_rng(10).normal(size=(2, 16, 16)) * 3e-4
    return LinearGaussian(weights, np.array([0.3, 0.8]), np.array([0.05, 0.03]))


@pytest.fixture(scope="session")
def breathing_posterior(linear_posterior):
    return Breathing(linear_posterior)


def pytest_configure():
    """What tests free is kept, as the command does; the workers of pytest-xdist inherit it."""
    keep_freed()


def pytest_collection_finish(session):
    """What the imports made stays: a search for garbage among it would take a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


# The files that take longest, longest first: one begun last would keep the other worker waiting.
LONGEST = (
    "test_pipeline.py",
    "simulation/test_suite.py",
    "search/test_workers.py",
    "search/test_objective.py",
    "perturbations/test_every_perturbation.py",
    "search/test_study.py",
    "training/test_loop.py",
    "test_cli.py",
    "audit/test_checks.py",
    "perturbations/test_initial_conditions.py",
    "perturbations/test_auto_pgd.py",
    "test_tracking.py",
)


def pytest_collection_modifyitems(items):
    rank = {name: number for number, name in enumerate(LONGEST)}
    here = Path(__file__).parent
    # File by file, in whatever order single tests were asked for: their fixtures are shared.
    names = {item: str(item.path.relative_to(here)) for item in items}
    items.sort(key=lambda item: (rank.get(names[item], len(rank)), names[item]))
