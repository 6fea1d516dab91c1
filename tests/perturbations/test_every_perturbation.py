"""One table: what every perturbation promises."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from spurious.perturbations import contract
from spurious.perturbations.auto_pgd import AutoPGD
from spurious.perturbations.controls import ShuffledPhases, ShuffledPixels
from spurious.perturbations.effect import Effect
from spurious.perturbations.gradient import BIM, FGSM, PGD
from spurious.perturbations.minimum_norm import MinimumNorm
from spurious.perturbations.noise import CorrelatedNoise, GaussianNoise, RandomSign
from spurious.perturbations.objectives import ShiftS8, Toward
from spurious.perturbations.spectral import BandLimited, BinPreserving, Bounded, PhaseOnly
from spurious.perturbations.systematics import (
    Baryons,
    Beam,
    Calibration,
    GainDrift,
    Logistic,
    Masked,
    Saturation,
    Stripes,
)
from spurious.perturbations.universal import Universal

BOX = 64.0  # Mpc/h
SIZE = 0.7  # counts; one for all tests, because each traces its graph anew
SETTINGS = "epsilon|alpha|objective|momentum|restarts|norm|decay|steps"
SMOOTH = BandLimited((0.0, 0.6), BOX)
OTHERS = np.random.default_rng(5).gamma(4.0, 16.0, (12, 16, 16)).astype(np.float32)


# name -> (perturbation of a given size in counts, largest change in sizes, and how it is measured;
# None: the size is not that of a ball)
TABLE = {
    "random_sign": (lambda p, size: RandomSign(size, seed=1), 1, "linf"),
    "fgsm": (lambda p, size: FGSM(p, size), 1, "linf"),
    "fgsm_kl": (lambda p, size: FGSM(p, size, objective="kl"), 1, "linf"),
    "bim": (lambda p, size: BIM(p, size, steps=4), 4, "linf"),
    "bim_kl": (lambda p, size: BIM(p, size, steps=4, objective="kl"), 4, "linf"),
    "bim_kl_reverse": (
        lambda p, size: BIM(p, size, steps=4, objective="kl_clean_perturbed"),
        4,
        "linf",
    ),
    "bim_toward": (lambda p, size: BIM(p, size, steps=4, objective=Toward((0.1, 2.0))), 4, "linf"),
    "bim_shift_s8": (lambda p, size: BIM(p, size, steps=4, objective=ShiftS8(30.0)), 4, "linf"),
    "bim_ball": (lambda p, size: BIM(p, size, steps=9, epsilon=2 * size), 2, "linf"),
    "bim_upper": (lambda p, size: BIM(p, size, steps=4, upper=2000.0), 4, "linf"),
    "pgd": (lambda p, size: PGD(p, size, steps=9), 1, "linf"),
    "pgd_restarts": (lambda p, size: PGD(p, size, steps=4, restarts=3), 1, "linf"),
    "pgd_l2": (lambda p, size: PGD(p, size, norm="l2", steps=9, alpha=size), 1, "l2"),
    "pgd_linear": (lambda p, size: PGD(p, size, decay="linear", random_start=False), 1, "linf"),
    "momentum": (
        lambda p, size: PGD(p, 4 * size, alpha=size, steps=4, momentum=1.0, random_start=False),
        4,
        "linf",
    ),
    "phase_only": (lambda p, size: BIM(p, size, steps=4, constraints=(PhaseOnly(),)), 4, "linf"),
    "phase_only_free": (
        lambda p, size: PGD(
            p, None, alpha=size, steps=4, random_start=False, constraints=(PhaseOnly(),)
        ),
        None,
        "linf",
    ),
    "bin_preserving": (
        lambda p, size: PGD(p, size, norm="l2", alpha=size, constraints=(BinPreserving(),)),
        1,
        "l2",
    ),
    "bounded": (lambda p, size: BIM(p, size, steps=4, constraints=(Bounded(0.1),)), 4, "linf"),
    "band_limited": (
        lambda p, size: PGD(
            p, size, norm="l2", alpha=size, random_start=False, constraints=(SMOOTH,)
        ),
        1,
        "l2",
    ),
    "auto_pgd": (lambda p, size: AutoPGD(p, size, steps=9), 1, "linf"),
    "auto_pgd_l2": (lambda p, size: AutoPGD(p, size, norm="l2", steps=9, restarts=2), 1, "l2"),
    "auto_pgd_kl": (
        lambda p, size: AutoPGD(p, size, objective="kl", random_start=False),
        1,
        "linf",
    ),
    "universal": (lambda p, size: Universal(p, size, OTHERS, objective="kl", steps=20), 1, "linf"),
    "universal_l2": (
        lambda p, size: Universal(p, size, OTHERS, objective="kl", steps=20, norm="l2"),
        1,
        "l2",
    ),
    "minimum_norm": (lambda p, size: MinimumNorm(p, 0.1, size), None, "l2"),
    "minimum_norm_unreached": (lambda p, size: MinimumNorm(p, 1e6, size), 1, "l2"),
    "minimum_norm_linf": (lambda p, size: MinimumNorm(p, 1e6, size, "linf", 9), 1, "linf"),
    "gaussian_noise": (lambda p, size: GaussianNoise(size, 1), None, "l2"),
    "correlated_noise": (lambda p, size: CorrelatedNoise(size, -1.5, 1), None, "l2"),
    "shuffled_pixels": (lambda p, size: ShuffledPixels(FGSM(p, size), 1), 1, "linf"),
    "shuffled_phases": (lambda p, size: ShuffledPhases(FGSM(p, size), 1), None, "l2"),
    "calibration": (
        lambda p, size: Calibration(size / 1e5, (0.0, 40.0, 80.0), (0.2, -0.3)),
        None,
        "l2",
    ),
    "saturation": (lambda p, size: Saturation(size / 1e4, 90.0, 4.0), None, "l2"),
    "gain_drift": (lambda p, size: GainDrift(size / 1e4, 30.0, 1), None, "l2"),
    "stripes": (lambda p, size: Stripes(size, 8, 1, 1), None, "l2"),
    "masked": (lambda p, size: Masked(size / 1e4, 0.1, 8.0, BOX, 1), None, "l2"),
    "beam": (lambda p, size: Beam(size / 1e4, 8.0, BOX), None, "l2"),
    "baryons": (lambda p, size: Baryons(size / 1e4, 8.0, BOX, 0.0), None, "l2"),
    "logistic": (lambda p, size: Logistic(0.25, -15.0, size), 1, "linf"),
    "logistic_negative": (lambda p, size: Logistic(0.25, -15.0, -size), 1, "linf"),
}


SLOW = ("minimum_norm_unreached", "minimum_norm_linf")  # which bisect, as `minimum_norm` does


@pytest.fixture(
    params=[pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in TABLE],
    scope="module",
)
def make(request, linear_posterior):
    """One object for each size, because each traces its graph anew."""
    factory, *_ = TABLE[request.param]
    return cache(lambda size: factory(linear_posterior, size))


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(5, 16)


@pytest.fixture(scope="module")
def truth():
    return np.random.default_rng(2).uniform([0.05, 0.5], [0.55, 1.0], size=(5, 2))


def test_shape_type_and_range(make, maps, truth):
    contract.keeps_shape_and_range(make(SIZE), maps, truth)


def test_negative_densities_never_occur_however_large_the_budget(make, maps, truth):
    contract.stays_possible(make(1e4), maps, truth)


def test_deterministic_for_tensors_and_arrays(request, make, linear_posterior, maps, truth):
    factory, *_ = TABLE[request.node.callspec.params["make"]]
    contract.is_deterministic(make(SIZE), factory(linear_posterior, SIZE), maps, truth)


def test_budget_is_respected_and_used_by_every_map(request, make, maps, truth):
    _, reach, norm = TABLE[request.node.callspec.params["make"]]
    used = contract.size_of(make(SIZE)(maps, truth) - maps, norm)
    if reach is None:
        assert np.all(used > 1e-5 * SIZE)
        return
    contract.keeps_budget(make(SIZE), maps, truth, reach * SIZE, norm)
    # Densities at zero and spectra that must stay keep some maps from the end of their budget.
    assert np.all(used >= (0.9 if norm == "linf" else 0.5) * reach * SIZE)


def test_zero_budget_changes_nothing(make, maps, truth):
    contract.changes_nothing(make(0.0), maps, truth)


def test_a_map_is_changed_alike_alone_and_in_company(request, make, maps, truth):
    # The posterior's gradient rounds otherwise in another batch. Signs hide that; L2 steps do not,
    # and auto_pgd, which compares its objective, may decide otherwise: float64 leaves no doubt.
    signed = TABLE[request.node.callspec.params["make"]][2] == "linf"
    if signed:
        contract.ignores_companions(make(SIZE), maps, truth, 0)
    else:
        contract.ignores_companions(make(SIZE), np.float64(maps), truth, 1e-9)


@dataclass(frozen=True)
class Broken(Effect):
    """Keeps its promises, but for the one that is named."""

    amplitude: Any
    promise: str

    def __call__(self, maps, truth=None):
        maps = tf.convert_to_tensor(maps)
        amplitude = tf.cast(self.amplitude, maps.dtype)
        changed = {
            "shape": lambda: (maps + amplitude)[:, :-1],
            "float": lambda: tf.cast(maps + amplitude, tf.float64),
            "finite": lambda: maps / 0,
            "negative": lambda: maps - amplitude,
            "leaves a map": lambda: tf.concat([maps[:1], maps[1:] + amplitude], 0),
            "time": lambda: maps + amplitude * tf.random.uniform(maps.shape),
            "company": lambda: maps + amplitude * (1 + tf.reduce_mean(maps)),
            "size 0": lambda: maps + amplitude + 1,
            "more than": lambda: maps + 3 * amplitude,
            "none": lambda: maps + amplitude,
        }
        return changed[self.promise]()

    def change(self, maps):
        raise NotImplementedError


@pytest.mark.parametrize(
    "promise",
    [
        *("shape", "float", "finite", "negative", "leaves a map"),
        *("time", "company", "size 0", "more than"),
    ],
)
def test_a_broken_promise_is_told(maps, promise):
    with pytest.raises(AssertionError, match=promise):
        contract.check(lambda size: Broken(size, promise), maps, size=1.0, reach=2)
    contract.check(lambda size: Broken(size, "none"), maps, size=1.0, reach=2)


@pytest.mark.parametrize(
    "make_wrong",
    [
        lambda p: RandomSign(-1.0, 0),
        lambda p: RandomSign(float("nan"), 0),
        lambda p: BIM(p, -1.0),
        lambda p: BIM(p, 1.0, steps=0),
        lambda p: BIM(p, 1.0, epsilon=-1.0),
        lambda p: BIM(p, 1.0, objective="mse"),
        lambda p: FGSM(p, -1.0),
        lambda p: PGD(p, -1.0),
        lambda p: PGD(p, None, alpha=1.0),
        lambda p: PGD(p, None, constraints=(PhaseOnly(),)),
        lambda p: PGD(p, 1.0, alpha=-1.0),
        lambda p: PGD(p, 1.0, steps=0),
        lambda p: PGD(p, 1.0, momentum=1.1),
        lambda p: PGD(p, 1.0, restarts=0),
        lambda p: PGD(p, 1.0, restarts=2, random_start=False),
        lambda p: PGD(p, 1.0, norm="l1"),
        lambda p: PGD(p, 1.0, decay="cosine"),
        lambda p: BIM(p, 1.0)(np.ones((1, 16, 16), np.float32)),
    ],
)
def test_impossible_settings_are_refused(make_wrong, linear_posterior):
    with pytest.raises(
        ValueError, match=r"epsilon|alpha|objective|momentum|restarts|norm|decay|steps"
    ):
        make_wrong(linear_posterior)
