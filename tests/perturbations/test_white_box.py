"""White-box attacks as entries of params.yaml: accepted, refused, built."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from spurious.config import Perturbation
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.perturbations.build import apply, build
from spurious.perturbations.gradient import BIM, FGSM, PGD
from spurious.perturbations.objectives import ShiftS8, TowardUniverse
from spurious.perturbations.spectral import BandLimited, BinPreserving, Bounded, PhaseOnly

ENTRY = TypeAdapter(Perturbation)
PARAMS = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
SHIPPED = {
    name: ENTRY.validate_python(entry)
    for group in PARAMS["attacks"].values()
    for name, entry in group.items()
}
STD = {"value": 0.1, "unit": "std"}  # 3 counts for the posterior of conftest.py
COUNT = {"value": 2.0, "unit": "count"}
PLANCK = {"kind": "toward", "omega_m": 0.31, "sigma_8": 0.82}


@pytest.fixture(scope="module")
def data(make_maps):
    n = 3
    labels = np.tile([0.3, 0.8], (n, 1))
    seeds = np.arange(n, dtype=np.uint64)
    return MapSet(make_maps(n, 16), labels, seeds, np.arange(n), np.full(n, 2, np.int8), 64.0)


BUILT = [
    ({"kind": "fgsm", "epsilon": STD}, lambda p: FGSM(p, 3.0)),
    ({"kind": "bim", "alpha": COUNT, "steps": 3}, lambda p: BIM(p, 2.0, 3)),
    (
        {"kind": "bim", "alpha": STD, "epsilon": COUNT, "upper": {"value": 2e3, "unit": "count"}},
        lambda p: BIM(p, 3.0, 10, 2.0, upper=2000.0),
    ),
    ({"kind": "pgd", "epsilon": STD}, lambda p: PGD(p, 3.0, seed=7)),
    (
        {"kind": "pgd", "epsilon": STD, "alpha": COUNT, "norm": "l2", "decay": "linear"},
        lambda p: PGD(p, 3.0, 2.0, norm="l2", decay="linear", seed=7),
    ),
    (
        {"kind": "pgd", "epsilon": STD, "momentum": 0.5, "random_start": False, "steps": 4},
        lambda p: PGD(p, 3.0, None, 4, momentum=0.5, random_start=False, seed=7),
    ),
    ({"kind": "pgd", "epsilon": STD, "restarts": 4}, lambda p: PGD(p, 3.0, restarts=4, seed=7)),
    (
        {"kind": "pgd", "alpha": STD, "constraints": [{"kind": "phase_only"}]},
        lambda p: PGD(p, None, 3.0, constraints=(PhaseOnly(),), seed=7),
    ),
    (
        {
            "kind": "bim",
            "alpha": STD,
            "constraints": [
                {"kind": "bin_preserving"},
                {"kind": "bounded", "fraction": 0.2},
                {"kind": "band_limited", "k": {"low": 0.1, "high": 0.5, "unit": "h/Mpc"}},
            ],
        },
        lambda p: BIM(
            p, 3.0, constraints=(BinPreserving(), Bounded(0.2), BandLimited((0.1, 0.5), 64.0))
        ),
    ),
    (
        {"kind": "fgsm", "epsilon": STD, "objective": "kl_clean_perturbed"},
        lambda p: FGSM(p, 3.0, "kl_clean_perturbed"),
    ),
    (
        {"kind": "bim", "alpha": STD, "objective": PLANCK},
        lambda p: BIM(p, 3.0, objective=TowardUniverse(0.31, 0.82)),
    ),
    (
        {"kind": "bim", "alpha": STD, "objective": {"kind": "shift_s8", "sigmas": -3}},
        lambda p: BIM(p, 3.0, objective=ShiftS8(-3.0)),
    ),
]


@pytest.mark.parametrize(("entry", "expected"), BUILT)
def test_entries_build_what_they_say(linear_posterior, data, entry, expected):
    built = build(ENTRY.validate_python(entry), linear_posterior, data, seed=7)
    assert built == expected(linear_posterior)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "pgd"}, "epsilon: without one, give alpha and constraints"),
        ({"kind": "pgd", "epsilon": STD, "restarts": 2, "random_start": False}, "restarts = 2"),
        ({"kind": "pgd", "epsilon": STD, "norm": "l1"}, "'linf' or 'l2'"),
        ({"kind": "pgd", "epsilon": STD, "momentum": 1.5}, "must be between 0 and 1, not 1.5"),
        ({"kind": "fgsm", "epsilon": STD, "objective": "mse"}, "'kl_clean_perturbed', 'over"),
        (
            {"kind": "fgsm", "epsilon": STD, "objective": {"kind": "mse"}},
            "must be one of 'nll', 'kl'.*or a section of kind 'toward', 'shift_s8'",
        ),
        (
            {"kind": "fgsm", "epsilon": STD, "objective": PLANCK | {"omega_m": 1.2}},
            "must be above 0 and below 1, not 1.2",
        ),
        (
            {"kind": "fgsm", "epsilon": STD, "objective": {"kind": "shift_s8", "sigmas": 0}},
            "sigmas = 0 must not be 0",
        ),
        (
            {"kind": "bim", "alpha": STD, "constraints": [{"kind": "bounded", "fraction": -1}]},
            "must be between 0 and 100, not -1",
        ),
        (
            {
                "kind": "bim",
                "alpha": STD,
                "constraints": [
                    {"kind": "band_limited", "k": {"low": 2, "high": 1, "unit": "h/Mpc"}}
                ],
            },
            "low = 2.0 must be less than high = 1.0",
        ),
    ],
)
def test_impossible_entries_are_refused(entry, message):
    with pytest.raises(ValidationError, match=message):
        ENTRY.validate_python(entry)


def test_an_upper_density_below_the_maps_is_a_users_mistake(linear_posterior, data):
    entry = {"kind": "fgsm", "epsilon": STD, "upper": {"value": 10.0, "unit": "count"}}
    with pytest.raises(UserError, match=r"upper = 10\.0 count: must be at least"):
        build(ENTRY.validate_python(entry), linear_posterior, data, seed=7)


def test_an_objective_needs_its_parameters(linear_posterior, data):
    class Other:
        names, standardiser = ("omega_m", "h"), linear_posterior.standardiser

    for objective in (PLANCK, {"kind": "shift_s8", "sigmas": 3.0}):
        entry = ENTRY.validate_python({"kind": "bim", "alpha": STD, "objective": objective})
        with pytest.raises(UserError, match="objective"):
            build(entry, Other(), data, seed=7)


@pytest.mark.parametrize(
    "name", [n for n, entry in SHIPPED.items() if entry.kind in ("fgsm", "bim", "pgd")]
)
def test_shipped_attacks_change_maps(breathing_posterior, data, name):
    attack = build(
        SHIPPED[name], breathing_posterior, data, 7, others=lambda _: breathing_posterior
    )
    perturbed = apply(attack, data)
    assert perturbed.maps.dtype == np.float32
    assert np.all(np.abs(perturbed.maps - data.maps).max((1, 2)) > 0.1)
