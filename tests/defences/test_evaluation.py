"""A defence beside the undefended posterior: information, damage, checks, the worst systematics."""

from dataclasses import dataclass, replace

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp
from around import Around, Rounded

from spurious.audit.attacks import Attacks, Limit
from spurious.audit.measurement import measure
from spurious.config import Budget, Defend, Search
from spurious.config.audit import Budgets
from spurious.data.maps import MapSet
from spurious.defences import cost, robustness
from spurious.defences.adaptive import Heard, OverNoise, attacks_on
from spurious.defences.evaluation import Scene, evaluate, largest, left
from spurious.defences.ranking import card, winner
from spurious.defences.smoothing import Noise, Smoothed
from spurious.defences.worst_systematics import random_members, worst
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.preset import STANDARDISE
from spurious.posteriors.trained import NetworkPosterior
from spurious.search.families import build_families
from spurious.search.study import build_objective

BOX, SIDE = 64.0, 16
SETTINGS = Defend(
    maps=8,
    linf=Budgets(values=(0.03, 0.1, 0.3), unit="std"),
    l2=Budgets(values=(0.03, 0.1), unit="std"),
    epsilon=Budget(value=0.1, unit="std"),
    rms=Budget(value=0.1, unit="std"),
    steps=8,
    constrained_steps=12,
    restarts=1,
    reference_maps=3,
    reference_steps=30,
    starts=1,
    refine_steps=4,
    certificate_draws=300,
)
SEARCH = Search.model_validate(
    {
        "maps": 12,
        "fences": {"power": 0.1},
        "families": {
            "logistic": {"kind": "logistic"},
            "saturation": {"kind": "saturation"},
        },
    }
)


@dataclass(frozen=True)
class Wider(Around):
    """With all standard deviations `factor` times as large."""

    factor: float = 2.0

    def __call__(self, maps):
        one = self.inner(maps)
        return tfp.distributions.MultivariateNormalDiag(one.mean(), self.factor * one.stddev())


@pytest.fixture(scope="module")
def network():
    """A small network of random weights, bent enough that noise of some counts matters."""
    head = HeadLayer({"omega_m": (0.1, 0.5), "sigma_8": (0.6, 0.9)}, name=HEAD)
    maps = keras.Input((SIDE, SIDE))
    units = keras.layers.Normalization(None, mean=64.0, variance=900.0, name=STANDARDISE)
    x = keras.layers.Flatten()(units(maps))
    draw = [keras.initializers.RandomNormal(stddev=s, seed=i) for i, s in ((1, 0.4), (2, 0.4))]
    x = keras.layers.Dense(24, activation="tanh", kernel_initializer=draw[0])(x)
    out = head(keras.layers.Dense(head.n_features, kernel_initializer=draw[1])(x))
    return NetworkPosterior(keras.Model(maps, out))


@pytest.fixture(scope="module")
def data(make_maps, linear_posterior):
    maps = make_maps(40, SIDE, seed=3) + 20
    noise = np.random.default_rng(1).normal(size=(40, 2))
    return MapSet(
        maps=maps,
        labels=linear_posterior.means(maps) + linear_posterior.scale * noise,
        seeds=np.arange(40, dtype=np.uint64),
        index=np.arange(40),
        axis=np.full(40, 2, np.int8),
        box_size=BOX,
    )


@pytest.fixture(scope="module")
def scene(data):
    return Scene(
        test=data,
        attacked=data.take(np.arange(8)),
        inside=replace(data, maps=1.05 * data.maps),
        searched=data.take(np.arange(12)),
        confirming=data.take(np.arange(12, 40)),
        families=build_families(SEARCH, BOX, 0),
        known={"logistic": {"a": 0.25, "b": -15.0, "beta": 0.5}},
        search=SEARCH,
        settings=SETTINGS,
        seed=5,
    )


@pytest.fixture(scope="module")
def undefended(linear_posterior, scene):
    return evaluate(linear_posterior, scene)


@pytest.mark.slow
def test_the_undefended_relative_to_itself_keeps_all_and_avoids_nothing(undefended):
    row, reference = undefended
    assert row["information"] == {"mean": 1, "low": 1, "high": 1}
    assert row["damage_ratio"] == row["damage_left"] == 1
    assert row["damage"]["mean"] == reference.damage > 0
    assert row["unproven"] == []
    assert all(point["transferred"] is None for point in row["curves"])


@pytest.mark.slow
def test_the_same_posterior_as_a_defence_has_the_same_row(linear_posterior, scene, undefended):
    row, _ = evaluate(linear_posterior, scene, undefended[1])
    assert row["information"]["mean"] == 1
    assert row["damage_ratio"] == pytest.approx(1, rel=1e-5)
    assert row["damage_left"] == pytest.approx(1, rel=0.02)
    for point in row["curves"]:
        assert point["own"] == pytest.approx(point["transferred"], rel=1e-5)
    # An attack on itself cannot beat the same attack on its twin: nothing is proved.
    assert row["unproven"] == ["beats_transfer"]


@pytest.mark.slow
def test_a_wider_posterior_keeps_less_and_is_hurt_less(linear_posterior, scene, undefended):
    row, _ = evaluate(Wider(linear_posterior), scene, undefended[1])
    assert row["information"]["mean"] == pytest.approx(1 / 4, rel=1e-4)
    assert row["damage_ratio"] == pytest.approx(1 / 4, rel=1e-3)
    assert row["clean"]["omega_m_z_rms"]["mean"] == pytest.approx(
        undefended[0]["clean"]["omega_m_z_rms"]["mean"] / 2, rel=1e-4
    )
    for name, found in row["families"].items():
        theirs = undefended[0]["families"][name]["kl"]["mean"]
        # Its climb goes on from where the other ended.
        assert theirs / 4 * (1 - 1e-4) < found["kl"]["mean"] < theirs / 3


@pytest.fixture(scope="module")
def masked(linear_posterior, scene, undefended):
    return evaluate(Rounded(linear_posterior), replace(scene, families={}), undefended[1])[0]


@pytest.mark.slow
def test_a_masked_gradient_is_unproven(masked):
    row = masked
    assert {"gradient_not_zero", "beats_transfer"} <= set(row["unproven"])
    assert row["checks"]["gradient_not_zero"]["passed"] is False
    # What the masked gradient hides, the attack on the undefended posterior finds.
    most = [point for point in row["curves"] if point["norm"] == "linf"][-1]
    assert most["damage"]["mean"] * 1.000001 > most["transferred"] > 5 * most["own"]


@pytest.mark.slow
def test_damage_is_the_most_of_all_attacks(masked):
    row = masked
    for point in row["curves"]:
        assert point["damage"]["mean"] >= max(point["own"], point["transferred"]) - 1e-7
    at = next(p for p in row["curves"] if (p["norm"], round(p["std"], 6)) == ("linf", 0.1))
    assert row["damage"]["mean"] >= at["damage"]["mean"] - 1e-7


@pytest.mark.slow
def test_every_check_of_an_attack_that_works_passes(undefended):
    row, _ = undefended
    failed = [name for name, check in row["checks"].items() if check["passed"] is False]
    assert failed == []
    assert row["checks"]["beats_transfer"]["passed"] is None


@pytest.mark.slow
def test_checks_see_an_attack_that_does_not_work(masked):
    for name in ("gradient_agrees", "beats_noise"):
        assert masked["checks"][name]["passed"] is False, name


@pytest.mark.slow
def test_damage_where_the_power_is_kept_is_less_and_has_checks_of_its_own(undefended, masked):
    row, reference = undefended
    bounded = row["bounded"]
    assert 0 < bounded["damage"]["mean"] < row["damage"]["mean"]
    assert bounded["damage"]["mean"] >= bounded["own"] - 1e-7
    assert (bounded["fraction"], round(bounded["std"], 6)) == (SETTINGS.fraction, 0.1)
    assert len(row["curves"]) == 5 and len(reference.attacked) == 6
    assert {"gradient_not_zero", "beats_transfer"} <= set(masked["bounded"]["unproven"])


@pytest.mark.slow
def test_maps_of_the_bounded_attack_keep_their_power(undefended, scene):
    _, reference = undefended
    (limit,) = (one for one in reference.attacked if one.constrained)
    size = measure(scene.attacked.maps, reference.attacked[limit], BOX)
    assert size.cosmic.max() <= SETTINGS.fraction + 0.02
    assert size.linf.max() <= limit.epsilon + size.rounding.max()


@pytest.mark.slow
def test_calibration_inside_is_that_of_the_maps_with_a_systematic(linear_posterior, scene, data):
    row, _ = evaluate(linear_posterior, replace(scene, families={}))
    changed = cost.quality(linear_posterior, replace(data, maps=1.05 * data.maps), scene.seed)
    assert row["inside"] == changed != row["clean"]
    assert row["clean"] == cost.quality(linear_posterior, data, scene.seed)
    assert row["damage_left"] == 1


@pytest.fixture(scope="module")
def smoothed(network):
    return Smoothed(network, Noise(6.0), draws=12, seed=2)


@pytest.mark.slow
def test_an_attack_through_the_smoothing_beats_one_that_does_not_know_it(network, smoothed, data):
    maps, limit = data.maps[:8], Limit(2.0)
    like, heard = Attacks(smoothed, steps=15, seed=1), Heard(smoothed, maps)
    knows = attacks_on(smoothed, like)
    assert isinstance(knows, OverNoise)
    blind = heard(replace(like, posterior=network).strongest(maps, limit)).damage
    assert heard(knows.strongest(maps, limit)).damage.mean() > 1.1 * blind.mean()


@pytest.mark.slow
def test_of_known_and_fresh_noise_what_does_more_is_taken(smoothed, data):
    maps, limit = data.maps[:6], Limit(2.0)
    like, heard = Attacks(smoothed, steps=10, seed=1), Heard(smoothed, maps)
    both = heard(attacks_on(smoothed, like).strongest(maps, limit)).damage
    known = heard(like.strongest(maps, limit)).damage
    fresh = heard(replace(like, posterior=smoothed.fresh()).strongest(maps, limit)).damage
    np.testing.assert_allclose(both, np.maximum(known, fresh), rtol=1e-4)


def test_a_smoothed_posterior_says_what_is_certified(scene, network):
    weights = scene.weights(scene.attacked)
    quiet = Smoothed(network, Noise(12.0), draws=2)
    rows = cost.certificates(quiet, scene.attacked.maps, SETTINGS, weights)
    assert [round(row["std"], 6) for row in rows] == [0.03, 0.1]
    assert rows[0]["shift"]["omega_m"]["mean"] > 0
    assert rows[1]["shift"]["omega_m"] is None  # 48 counts in all against 12 of noise
    assert cost.certificates(network, scene.attacked.maps, SETTINGS, weights) == []


@pytest.mark.slow
def test_the_worst_systematic_beats_the_place_where_its_climb_began(linear_posterior, scene):
    family, maps = scene.families["logistic"], scene.searched
    objective = build_objective(SEARCH, family, maps.maps, linear_posterior, BOX)
    known, limits = family.point(scene.known["logistic"]), SEARCH.fences.limits
    found = worst(objective, limits, known, 0, 6, seed=1)
    assert found.feasible
    assert found.kl > objective(known).kl
    assert family.point(found.parameters) == pytest.approx(found.point, abs=1e-6)
    more = worst(objective, limits, known, 2, 6, seed=1)
    assert more.kl >= found.kl


def test_random_members_differ_map_by_map_and_call_by_call_alike(scene, data):
    families = list(scene.families.values())
    found = random_members(families, data.maps, seed=1)
    np.testing.assert_array_equal(found, random_members(families, data.maps, seed=1))
    assert np.abs(found - random_members(families, data.maps, seed=2)).max() > 1
    changes = (found - data.maps).reshape(len(found), -1)
    assert (np.abs(changes).max(axis=1) > 0).mean() > 0.8
    assert found.min() >= 0
    same = random_members(families, np.tile(data.maps[:1], (20, 1, 1)), seed=1)
    assert len(np.unique(same.reshape(20, -1), axis=0)) == 20


@pytest.mark.slow
def test_what_is_left_is_a_geometric_mean_of_ratios(undefended):
    _, reference = undefended
    against = replace(reference, damage=2.0, families={"one": 0.1, "two": None})
    assert left(1.0, {"one": 0.05, "two": 0.02}, against) == pytest.approx(0.5)
    assert left(1.0, {"one": None, "two": None}, against) < 1e-10
    assert left(1.0, {}, replace(against, families={})) == pytest.approx(0.5)
    assert largest({"one": None}) == 0


def rows(**changes):
    base = {"unproven": [], "information": {"mean": 0.8, "low": 0.7, "high": 0.9}}
    good = {**base, "damage_left": 0.3}
    return {"none": {**base, "damage_left": 1.0}, "good": good, "other": {**good, **changes}}


@pytest.mark.parametrize(
    ("changes", "best"),
    [
        ({"damage_left": 0.2}, "other"),
        ({"damage_left": 0.4}, "good"),
        ({"damage_left": 0.2, "unproven": ["saturates"]}, "good"),
        ({"damage_left": 0.2, "information": {"mean": 0.4}}, "good"),
    ],
)
def test_the_winner_has_the_least_damage_of_what_is_proven_and_keeps_enough(changes, best):
    assert winner(rows(**changes), "none", 0.5) == best


def test_there_is_no_winner_where_nothing_is_better_than_no_defence():
    assert winner({"none": rows()["none"]}, "none", 0.5) is None
    assert winner({"none": rows()["none"], "bad": rows()["none"]}, "none", 0.5) is None
    assert winner(rows(), "none", 0.9) is None


@pytest.mark.slow
def test_the_card_says_what_it_costs_and_where_it_fails(undefended):
    row, _ = undefended
    text = card("calm", row, row, "kind: network\n")
    assert text.startswith("# calm\n")
    for part in ("kind: network", "information kept: 1 [1, 1]", "worst logistic: ", "lower bound"):
        assert part in text


@pytest.mark.slow
def test_unproven_names_decisive_checks_only(undefended):
    row, _ = undefended
    assert set(row["checks"]) == {
        "gradient_not_zero",
        "beats_transfer",
        "saturates",
        "gradient_agrees",
        "iterative_beats_single",
        "monotone",
        "full_damage",
        "beats_noise",
        "restarts_agree",
        "budget_respected",
        "planted_found",
    }
    assert set(robustness.DECISIVE) < set(row["checks"])
    assert set(row["bounded"]["checks"]) == {"beats_transfer", "saturates"}
