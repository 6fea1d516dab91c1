"""Security curves against closed forms, and one graph for all budgets."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from spurious import spectra
from spurious.audit.attacks import Attacks
from spurious.audit.curves import TARGET, audience, security
from spurious.audit.response import Listener, measure
from spurious.config.audit import Audit, Budgets, Fractions
from spurious.perturbations.constraints import Ball
from spurious.perturbations.gradient import BIM, FGSM, PGD
from spurious.perturbations.spectral import Bounded

BOX = 64.0


@pytest.fixture(scope="module")
def attacks(linear_posterior, settings):
    return Attacks(linear_posterior, settings.steps, settings.restarts, seed=3)


@pytest.fixture(scope="module")
def other(linear_posterior):
    return replace(linear_posterior, weights=linear_posterior.weights[:, ::-1])


@pytest.fixture(scope="module")
def curves(attacks, maps, truth, settings, other):
    heard = audience(attacks, maps, truth, BOX, {"other": other})
    return security(attacks, heard, settings, seed=3)


def test_budgets_set_later_are_those_given_to_a_new_attack(attacks, linear_posterior, maps, truth):
    std = linear_posterior.standardiser.std
    for epsilon in (0.02 * std, 0.2 * std):
        for found, wanted in (
            (attacks.bim(maps, truth, epsilon), BIM(linear_posterior, epsilon / 10)),
            (attacks.fgsm(maps, truth, epsilon), FGSM(linear_posterior, epsilon)),
            (
                attacks.pgd(maps, truth, epsilon),
                PGD(linear_posterior, epsilon, steps=4, random_start=False),
            ),
            (
                attacks.bounded(maps, truth, epsilon, 0.2),
                PGD(
                    linear_posterior,
                    epsilon,
                    steps=4,
                    norm="l2",
                    random_start=False,
                    constraints=(Bounded(0.2),),
                ),
            ),
        ):
            np.testing.assert_allclose(found, wanted(maps, truth), atol=2e-4)


def test_each_attack_is_traced_once_for_all_budgets_and_steps(attacks, maps, truth, curves):
    attacks.pgd(maps, truth, 1.0, 7)
    for adjustable in (attacks._linf, attacks._l2, attacks._bounded):
        assert adjustable.pgd._attack.experimental_get_tracing_count() == 1


def test_random_starts_end_apart(attacks, linear_posterior, maps, truth):
    ends = attacks.ends(maps, truth, 3.0).numpy()
    assert ends.shape == (len(maps), 2, 16, 16)
    one = PGD(linear_posterior, 3.0, steps=4, restarts=2, seed=3)(maps, truth).numpy()
    best = np.array([np.abs(ends[i] - one[i]).max((1, 2)).min() for i in range(len(maps))])
    np.testing.assert_allclose(best, 0, atol=2e-4)


def test_kl_and_shift_are_those_of_the_gaussian(linear_posterior, maps, truth):
    changed = maps + np.random.default_rng(2).normal(size=maps.shape).astype(np.float32)
    found = Listener(linear_posterior, maps, truth)(changed)
    shift = (linear_posterior.means(changed) - linear_posterior.means(maps)) / 1.0
    shift = shift / linear_posterior.scale
    np.testing.assert_allclose(found.kl, np.sum(shift**2, 1) / 2, rtol=1e-3)
    np.testing.assert_allclose(found.shift, np.abs(shift).max(1), rtol=1e-3)
    z = [(truth - linear_posterior.means(one)) / linear_posterior.scale for one in (changed, maps)]
    loss = np.sum(z[0] ** 2 - z[1] ** 2, 1) / 2
    np.testing.assert_allclose(found.loss, loss, rtol=1e-3, atol=1e-4)


def test_a_listener_takes_more_maps_than_fit_in_memory(linear_posterior, make_maps):
    many = make_maps(130, 16)
    labels = np.tile([0.3, 0.8], (130, 1))
    whole = Listener(linear_posterior, many, labels)(many + 1)
    last = Listener(linear_posterior, many[125:], labels[125:])(many[125:] + 1)
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
    point = curves["pgd"].points[-1]
    assert set(point.responses) == {TARGET, "other"}
    assert point.target.kl.mean() > 2 * point.responses["other"].kl.mean()
    assert set(curves["noise"].points[0].responses) == {TARGET}


def test_every_family_has_its_budgets_in_its_unit(curves, settings):
    std = curves.std
    np.testing.assert_allclose(curves["pgd"].budgets, np.array(settings.linf.values) * std)
    np.testing.assert_allclose(curves["pgd_l2"].budgets, np.array(settings.l2.values) * std)
    np.testing.assert_allclose(curves["bounded"].budgets, settings.cosmic.values)
    assert curves["bim"].budgets == pytest.approx([settings.epsilon.counts(std)])
    assert {c.name for c in curves.family("cosmic")} == {"bounded", "bounded_noise", "phase_only"}


def test_the_same_seed_gives_the_same_numbers(linear_posterior, maps, truth, settings, curves):
    attacks = Attacks(linear_posterior, settings.steps, settings.restarts, seed=3)
    again = audience(attacks, maps, truth, BOX)
    made = attacks.bounded(maps, truth, settings.cosmic_rms.counts(curves.std), 0.1)
    point = again.point(0.1, made)
    np.testing.assert_array_equal(point.target.kl, curves["bounded"].points[-1].target.kl)


def test_json_holds_means_with_intervals(curves):
    read = json.loads(json.dumps(curves.as_json(), allow_nan=False))
    pgd = next(curve for curve in read["curves"] if curve["name"] == "pgd")
    point, response = curves["pgd"].points[1], pgd["points"][1]["responses"][TARGET]
    kl = response["kl_perturbed_clean"]
    assert kl["mean"] == pytest.approx(point.target.kl.mean())
    assert kl["low"] < kl["mean"] < kl["high"]
    assert response["moved"]["mean"] == pytest.approx(np.mean(point.target.shift > 2))
    assert pgd["points"][1]["std"] == pytest.approx(0.03)
    bounded = next(curve for curve in read["curves"] if curve["name"] == "bounded")
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
