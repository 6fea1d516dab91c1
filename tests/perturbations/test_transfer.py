"""Attacks made on another posterior than the target."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from spurious import config
from spurious.config import Perturbation
from spurious.data.maps import MapSet, Standardiser
from spurious.densities.divergences import kl
from spurious.errors import UserError
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.layers import log_power
from spurious.networks.power_spectrum import PowerSpectrum
from spurious.perturbations.build import apply, build, build_initial_conditions, extras
from spurious.perturbations.entry import some_maps
from spurious.perturbations.gradient import BIM, PGD
from spurious.perturbations.minimum_norm import MinimumNorm
from spurious.posteriors import likelihood
from spurious.posteriors.trained import NetworkPosterior

ENTRY = TypeAdapter(Perturbation)
STD = {"value": 0.1, "unit": "std"}
WHITE_BOX = {
    "fgsm": {"epsilon": STD},
    "bim": {"alpha": STD, "steps": 3},
    "pgd": {"epsilon": STD},
    "auto_pgd": {"epsilon": STD},
    "universal": {"epsilon": STD},
    "minimum_norm": {"sigmas": 1.0, "largest": STD},
}


@pytest.fixture(scope="module")
def data(make_maps):
    n = 4
    truth = np.random.default_rng(2).uniform([0.1, 0.5], [0.5, 1.0], (n, 2))
    return MapSet(
        make_maps(n, 16), truth, np.arange(n, dtype=np.uint64), np.arange(n),
        np.full(n, 2, np.int8), 64.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def other(linear_posterior):
    """Other weights, and another standardiser."""
    weights = np.random.default_rng(11).normal(size=linear_posterior.weights.shape) * 3e-4
    return replace(linear_posterior, weights=weights, standardiser=Standardiser(50.0, 77.0))


def entry(kind, **fields):
    return ENTRY.validate_python({"kind": kind, **WHITE_BOX.get(kind, {}), **fields})


@pytest.mark.parametrize("kind", WHITE_BOX)
def test_it_is_made_on_the_other_with_the_targets_budget(kind, linear_posterior, other, data):
    def made(posterior, on, others):
        return build(entry(kind, on=on), posterior, data, 5, training=data, others=others)

    found = made(linear_posterior, "b", {"a": linear_posterior, "b": other}.__getitem__)
    assert found.posterior is other
    size = getattr(found, "epsilon", None) or getattr(found, "alpha", None) or found.largest
    assert size == pytest.approx(3.0)  # 0.1 of the target's 30 counts
    same_units = replace(other, standardiser=linear_posterior.standardiser)
    expected = apply(made(same_units, None, None), data).maps
    np.testing.assert_array_equal(apply(found, data).maps, expected)
    assert np.any(expected != apply(made(linear_posterior, None, None), data).maps)


def test_entries_within_entries_have_their_own(linear_posterior, other, data):
    inner = {"kind": "bim", **WHITE_BOX["bim"], "on": "b"}
    others = {"b": other}.__getitem__
    shuffled = build(entry("shuffled_pixels", of=inner), linear_posterior, data, 5, others=others)
    assert shuffled.of == BIM(other, 3.0, 3)
    noise = entry("gaussian_noise", rms={"match": inner})
    found = build(noise, linear_posterior, data, 5, others=others)
    change = np.asarray(BIM(other, 3.0, 3)(data.maps, data.labels) - data.maps, np.float64)
    reached = np.asarray(found(data.maps) - data.maps, np.float64)
    assert np.mean(reached**2) == pytest.approx(np.mean(change**2), rel=1e-4)


def test_universes_are_changed_for_the_other_too(linear_posterior, other):
    settings = entry("initial_conditions", epsilon={"value": 0.1, "unit": "noise_norm"}, on="b")
    simulation = config.Simulation(n_cells=16)
    found = build_initial_conditions(
        settings, linear_posterior, simulation, config.Background(), 5, {"b": other}.__getitem__
    )
    assert found.posterior is other


def test_the_bare_key_of_yaml_is_understood():
    """PyYAML reads `on: second` as {True: "second"}."""
    assert entry("bim").on is None
    given = {"kind": "bim", **WHITE_BOX["bim"], True: "second"}
    assert ENTRY.validate_python(given).on == "second"


def test_what_does_not_fit_is_one_line(linear_posterior, other, data):
    with pytest.raises(UserError, match="on = b: there are no other posteriors"):
        build(entry("bim", on="b"), linear_posterior, data, 5)
    stranger = replace(other, names=("omega_m", "h"))
    with pytest.raises(UserError, match="on = b: is about omega_m, h, the target about omega_m"):
        build(entry("bim", on="b"), linear_posterior, data, 5, others=lambda name: stranger)


@pytest.fixture(scope="module")
def simulated(make_maps):
    """Maps whose spread follows the second parameter."""
    truth = np.random.default_rng(3).uniform([0.05, 0.5], [0.55, 1.0], (200, 2))
    maps = 64 * (make_maps(200, 16, seed=4) / 64) ** truth[:, 1:, None]
    return maps.astype(np.float32), truth


@pytest.fixture(scope="module", params=["power_spectrum", "likelihood"])
def baseline(request, simulated):
    """A network on P(k), or the Gaussian likelihood of P(k)."""
    ranges, units = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}, Standardiser(64.0, 30.0)
    maps, truth = simulated
    if request.param == "likelihood":
        return NetworkPosterior(likelihood.fit(maps, truth, ranges, units, 64.0, 2, cells=40))
    head, power = HeadLayer(ranges, name=HEAD), log_power(maps, 64.0)
    network = PowerSpectrum().model(16, head, units, 1, box_size=64.0, log_power=power)
    return NetworkPosterior(network)


def test_the_baselines_on_the_power_spectrum_can_be_attacked(baseline, simulated, data):
    maps, truth = simulated[0][:4], simulated[1][:4]
    data = replace(data, maps=maps, labels=truth)
    settings = entry("pgd", on="baseline", random_start=False)
    changed = apply(build(settings, baseline, data, 1, others=lambda name: baseline), data).maps
    sign = np.random.default_rng(0).choice([-3.0, 3.0], maps.shape)
    noise = np.maximum(maps + sign, 0).astype(np.float32)
    clean = baseline(maps)
    moved, by_noise = (kl(baseline(x), clean).numpy() for x in (changed, noise))
    assert np.all(np.isfinite(moved))
    assert np.mean(moved) > 5 * np.mean(by_noise)
    loss = [-baseline(x).log_prob(truth.astype(np.float32)).numpy() for x in (changed, maps)]
    assert np.all(loss[0] > loss[1])


def test_what_is_slow_takes_some_maps_spread_over_all(data):
    slow = {"kind": "minimum_norm", **WHITE_BOX["minimum_norm"], "maps": 2}
    assert some_maps(entry("bim"), data) is data
    for settings in (ENTRY.validate_python(slow), entry("shuffled_pixels", of=slow)):
        assert some_maps(settings, data).index.tolist() == [len(data) // 4, 3 * len(data) // 4]
    assert len(some_maps(entry("minimum_norm", maps=99), data)) == len(data)


def test_extras_are_those_of_the_last_call(linear_posterior, data):
    found = build(entry("minimum_norm"), linear_posterior, data, 5)
    assert isinstance(found, MinimumNorm)
    assert extras(found) == {}
    changed = apply(found, data).maps
    sizes = np.sqrt(np.mean((changed - data.maps).astype(np.float64) ** 2, (1, 2)))
    told = extras(found)
    reached = np.isfinite(told["epsilons"])
    np.testing.assert_allclose(told["epsilons"][reached], sizes[reached], rtol=1e-5)
    assert np.all((told["distances"] >= 1) == reached)
    pattern = build(entry("universal"), linear_posterior, data, 5, training=data)
    assert extras(pattern)["pattern"].shape == (16, 16)
    assert extras(PGD(linear_posterior, 1.0)) == {}


def test_what_several_entries_build_on_is_made_once(linear_posterior, data):
    """With a shared memory, and with the same result as without."""
    bim = {"kind": "bim", **WHITE_BOX["bim"]}
    noise = entry("gaussian_noise", rms={"match": bim})
    shuffled, weaker = (entry("shuffled_phases", of={**bim, "steps": steps}) for steps in (3, 2))
    memory = {}
    for settings, kept in ((noise, 1), (shuffled, 1), (weaker, 2)):
        found = apply(build(settings, linear_posterior, data, 5, memory=memory), data)
        assert len(memory) == kept
        alone = apply(build(settings, linear_posterior, data, 5), data)
        np.testing.assert_array_equal(found.maps, alone.maps)
