"""Security curves against closed forms, and one graph for all budgets."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from spurious import spectra
from spurious.audit.attacks import Attacks, Limit
from spurious.audit.curves import TARGET, audience, security
from spurious.audit.measurement import Listener, measure
from spurious.config.audit import Audit, Budgets, Fractions
from spurious.perturbations.auto_pgd import AutoPGD
from spurious.perturbations.constraints import Ball
from spurious.perturbations.gradient import BIM, FGSM
from spurious.perturbations.spectral import Bounded, PhaseOnly

BOX = 64.0


@pytest.fixture(scope="module")
def attacks(linear_posterior, settings):
    return Attacks(
        linear_posterior, settings.steps, settings.constrained_steps, settings.restarts, seed=3
    )


@pytest.fixture(scope="module")
def other(linear_posterior):
    return replace(linear_posterior, weights=linear_posterior.weights[:, ::-1])


@pytest.fixture(scope="module")
def curves(attacks, maps, truth, settings, other):
    heard = audience(attacks, maps, truth, BOX, {"other": other})
    return security(attacks, heard, settings, seed=3)


LIMITS = {
    "linf": ({}, {}),
    "l2": ({"norm": "l2"}, {"norm": "l2"}),
    "bounded": ({"fraction": 0.2}, {"constraints": (Bounded(0.2),)}),
    "bin_preserving": ({"fraction": 0.0}, {"constraints": (Bounded(0.0),)}),
    "phase_only": (
        {"norm": "l2", "phases_only": True},
        {"norm": "l2", "constraints": (PhaseOnly(),)},
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_budgets_set_later_are_those_given_to_a_new_attack(attacks, linear_posterior, maps, name):
    limit, settings = LIMITS[name]
    for epsilon, steps in ((0.6, 5), (6.0, 9)):
        wanted = AutoPGD(
            linear_posterior, epsilon, steps=steps, objective="kl", seed=3, **settings
        )(maps)
        found = attacks.strongest(maps, Limit(epsilon, **limit), steps)
        np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_single_steps_and_the_papers_are_those_of_new_attacks(
    attacks, linear_posterior, maps, truth
):
    for epsilon in (0.6, 6.0):
        one = FGSM(linear_posterior, epsilon, objective="kl")(maps)
        np.testing.assert_allclose(attacks.fgsm(maps, epsilon), one, atol=2e-4)
        ten = BIM(linear_posterior, epsilon / 10)(maps, truth)
        np.testing.assert_allclose(attacks.bim(maps, truth, epsilon), ten, atol=2e-4)


def test_each_attack_is_traced_once_for_all_budgets_and_steps(attacks, maps, curves):
    attacks.strongest(maps, Limit(1.0), 7)
    assert len(attacks._built) >= 4
    for adjustable in attacks._built.values():
        if "_attack" in vars(adjustable.attack):
            assert adjustable.attack._attack.experimental_get_tracing_count() == 1


def test_random_starts_end_apart(attacks, linear_posterior, maps):
    """`ends` are those of which the best is kept; after one step the starts still show."""
    limit, attacks = Limit(3.0, "l2"), replace(attacks, steps=1)
    ends = attacks.ends(maps, limit, 2).numpy()
    assert ends.shape == (len(maps), 2, 16, 16) and np.abs(ends[:, 0] - ends[:, 1]).max() > 1
    best = replace(attacks, restarts=2).strongest(maps, limit).numpy()
    apart = np.array([np.abs(ends[i] - best[i]).max((1, 2)).min() for i in range(len(maps))])
    np.testing.assert_allclose(apart, 0, atol=2e-4)


def test_kl_and_shift_are_those_of_the_gaussian(linear_posterior, maps):
    changed = maps + np.random.default_rng(2).normal(size=maps.shape).astype(np.float32)
    found = Listener(linear_posterior, maps)(changed)
    shift = (linear_posterior.means(changed) - linear_posterior.means(maps)) / 1.0
    shift = shift / linear_posterior.scale
    np.testing.assert_allclose(found.kl, np.sum(shift**2, 1) / 2, rtol=1e-3)
    np.testing.assert_allclose(found.shift, np.abs(shift).max(1), rtol=1e-3)


def test_a_listener_takes_more_maps_than_fit_in_memory(linear_posterior, make_maps):
    many = make_maps(130, 16)
    whole = Listener(linear_posterior, many)(many + 1)
    last = Listener(linear_posterior, many[125:])(many[125:] + 1)
    for one, other in zip(whole, last, strict=True):
        assert one.shape == (130,)
        np.testing.assert_allclose(one[125:], other, rtol=1e-4, atol=1e-5)


def test_sizes_are_measured_from_the_maps(maps):
    changed = maps.copy()
    changed[0, 2, 3] += 5.0
    changed[1] -= 20.0
    size = measure(maps, changed, BOX)
    np.testing.assert_allclose(size.linf[:3], [5, 20, 0], rtol=1e-5)
    np.testing.assert_allclose(size.rms[:3], [5 / 16, 20, 0], rtol=1e-5)
    assert size.least[1] == pytest.approx(maps[1].min() - 20)
    power = spectra.power(np.float64(np.stack([maps[0], changed[0]])), BOX, contrast=False).numpy()
    n_modes = spectra.bins(16, BOX).n_modes
    wanted = np.max(np.abs(power[1] / power[0] - 1) * np.sqrt(n_modes / 2))
    assert size.cosmic[0] == pytest.approx(wanted, rel=1e-6)
    assert size.cosmic[1] < 1e-4  # a constant changes no mode beside the mean
    assert size.rounding.max() == np.spacing(np.float32(max(maps.max(), changed.max())))


def test_the_attack_is_made_on_the_target_and_shown_to_the_others(curves, maps, other):
    point = curves["strongest_linf"].points[-1]
    assert set(point.responses) == {TARGET, "other"}
    assert point.target.kl.mean() > 2 * point.responses["other"].kl.mean()
    assert set(curves["noise"].points[0].responses) == {TARGET}


def test_every_family_has_its_budgets_in_its_unit(curves, settings):
    std = curves.std
    np.testing.assert_allclose(
        curves["strongest_linf"].budgets, np.array(settings.linf.values) * std
    )
    np.testing.assert_allclose(curves["strongest_l2"].budgets, np.array(settings.l2.values) * std)
    np.testing.assert_allclose(curves["strongest_bounded"].budgets, settings.cosmic.values)
    assert curves["bim"].budgets == pytest.approx([settings.epsilon.counts(std)])
    names = {c.name for c in curves.family("cosmic")}
    assert names == {"strongest_bounded", "bounded_noise", "strongest_phase_only"}


def test_the_same_seed_gives_the_same_numbers(linear_posterior, maps, truth, settings, curves):
    attacks = Attacks(
        linear_posterior, settings.steps, settings.constrained_steps, settings.restarts, seed=3
    )
    again = audience(attacks, maps, truth, BOX)
    made = attacks.strongest(maps, Limit(settings.cosmic_rms.counts(curves.std), "l2", 0.1))
    point = again.point(0.1, made)
    np.testing.assert_array_equal(point.target.kl, curves["strongest_bounded"].points[-1].target.kl)


def test_json_holds_means_with_intervals(curves):
    read = json.loads(json.dumps(curves.as_json(), allow_nan=False))
    pgd = next(curve for curve in read["curves"] if curve["name"] == "strongest_linf")
    point, response = curves["strongest_linf"].points[1], pgd["points"][1]["responses"][TARGET]
    kl = response["kl_perturbed_clean"]
    assert kl["mean"] == pytest.approx(point.target.kl.mean())
    assert kl["low"] < kl["mean"] < kl["high"]
    assert response["moved"]["mean"] == pytest.approx(np.mean(point.target.shift > 2))
    assert pgd["points"][1]["std"] == pytest.approx(0.03)
    bounded = next(curve for curve in read["curves"] if curve["name"] == "strongest_bounded")
    assert "std" not in bounded["points"][0] and bounded["unit"] == "cosmic_variance"


def test_maps_of_one_simulation_are_resampled_together(attacks, maps, truth, settings):
    heard = audience(attacks, maps, truth, BOX)
    one = security(attacks, heard, settings, groups=np.zeros(len(maps), int))
    kl = one.as_json()["curves"][0]["points"][0]["responses"][TARGET]["kl_perturbed_clean"]
    assert kl["low"] == kl["high"] == pytest.approx(kl["mean"])


def test_bounded_noise_stays_within_both_limits(attacks, maps):
    size = measure(maps, attacks.bounded_noise(maps, 3.0, 0.05), BOX)
    assert size.rms.max() <= 3.0 + 1e-4 and size.cosmic.max() < 0.07
    assert size.rms.min() > 1.0
    np.testing.assert_array_equal(Ball(0.0, "l2")(maps, maps), maps)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Budgets(values=(0.1,), unit="std"), "at least two"),
        (lambda: Budgets(values=(0.2, 0.1), unit="std"), "increase"),
        (lambda: Budgets(values=(0.0, 0.1), unit="std"), "above 0"),
        (lambda: Budgets(values=(0.1, 0.2), unit="sigma"), "std"),
        (lambda: Fractions(values=(-0.1, 0.1), unit="cosmic_variance"), "increase from 0"),
        (lambda: Audit(maps=1), "4"),
    ],
)
def test_budgets_that_make_no_curve_are_refused(make, said):
    with pytest.raises(ValidationError, match=said):
        make()
