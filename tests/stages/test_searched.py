"""What the stage `search` says of a family, where the answer is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from spurious import config
from spurious.data.maps import Standardiser
from spurious.pipeline import family_search
from spurious.pipeline.confirmation import Tried, Witnesses
from spurious.posteriors.posterior import Posterior
from spurious.search.families import build_families
from spurious.search.objective import Objective
from spurious.search.result import Found, Result
from spurious.stages import search


def follows(maps):
    """The posterior of omega_m moves with a map's mean."""
    mean = tf.reduce_mean(tf.convert_to_tensor(maps), axis=(1, 2))
    means = tf.stack([mean, tf.zeros_like(mean)], axis=1)
    return tfp.distributions.MultivariateNormalDiag(means, tf.ones_like(means))


@pytest.fixture
def witnesses(project):
    """One posterior for all names."""
    one = Posterior.from_callable(
        follows, names=("omega_m", "sigma_8"), standardiser=Standardiser(64.0, 30.0)
    )
    made = Witnesses(project)
    made.targets, made.posterior = [one], lambda name: one
    return made


def found(family, parameters, feasible=True):
    excess = -0.1 if feasible else 0.1
    kl, heights = 1.0, {"power": 0.01 if feasible else 0.06, "mean_shift": 0.001}
    return Result(
        "study",
        family,
        {"power": 0.05, "mean_shift": 0.003},
        (Found(0, 0, "refined", parameters, kl, kl, kl, heights, excess, 0.0, feasible, False),),
    )


@pytest.mark.parametrize(
    ("changed", "feasible", "beyond"),
    [
        ("searched", True, []),
        ("confirming", True, ["mean_shift"]),
        ("searched", False, []),
    ],
)
def test_a_winner_holds_if_it_keeps_its_fences_on_unseen_maps(
    changed, feasible, beyond, witnesses, project
):
    """A gain of one per cent, of one half of the maps."""
    some = np.isin(witnesses.test.index, getattr(witnesses, changed).index)[:, None, None]

    def perturbation(maps, truth=None):
        gain = np.float32(1.01)
        return np.where(some, gain * maps, maps) if len(maps) == len(some) else gain * maps

    family = build_families(project.search)["logistic"]
    at_end = {"a": 2.0, "b": -80.0, "beta": 3.0}
    one = search.Searched(family, found("logistic", at_end, feasible), {})
    row = search.outcome(witnesses, one, Tried(witnesses, perturbation))
    assert row["feasible"] is feasible
    assert row["beyond"] == beyond
    assert row["holds"] is (feasible and not beyond)
    assert row["at_bound"] == ["a"]
    assert row["confirmed"]["fences"]["mean_shift"] == pytest.approx(
        0.01 if changed == "confirming" else 0, rel=1e-3, abs=1e-6
    )
    assert ("beyond a fence there" in search.describe("logistic", row)) is (
        feasible and bool(beyond)
    )


def test_a_line_says_where_a_winner_is_and_to_what_it_transfers():
    row = {
        "parameters": {"a": 2.0, "beta": -30.0}, "feasible": True, "holds": True, "at_bound": [],
        "kl": 0.17, "limits": {"power": 0.05}, "transfers_to": ["resnet", "contrast"],
        "confirmed": {"fences": {"power": 0.04}, "kl": {"mean": 0.16, "low": 0.1, "high": 0.2}},
    }  # fmt: skip
    assert search.describe("logistic", row) == (
        "logistic: a = 2, beta = -30: KL = 0.17 on the search's maps, 0.16 [0.1, 0.2] on others, "
        "where power 0.04 (limit 0.05); transfers to resnet, contrast"
    )
    assert search.describe("logistic", {**row, "transfers_to": []}).endswith("no other posterior")


def test_a_family_without_a_finite_value_does_not_hold(witnesses, project):
    family = build_families(project.search)["logistic"]
    empty = Result("study", "logistic", {"power": 0.05}, ())
    row = search.outcome(witnesses, search.Searched(family, empty, {}), None)
    assert (row["feasible"], row["holds"]) == (False, False)
    assert "parameters" not in row
    assert "no proposal" in search.describe("logistic", row)


@pytest.mark.parametrize("amplitude", [1.0, 0.5])
def test_wider_ranges_are_tried_where_a_winner_lies_on_an_end(
    amplitude, make_maps, linear_posterior
):
    """Stripes have KL = c A^2 and an RMS of A: in a wider range A = 5, the limit, and 25 c."""
    settings = config.Search.model_validate(
        {
            "fences": {"rms": 5.0},
            "families": {
                "one": {"kind": "stripes", "stripes": 4, "amplitude": {"low": -1, "high": 1}}
            },
        }
    )
    family = build_families(settings, 128.0, seed=3)["one"]
    maps = make_maps(4, 16) + np.float32(60)
    objective = Objective(maps, linear_posterior, 128.0, family, fences=("rms",))
    kl = objective(family.point({"amplitude": amplitude})).kl
    result = found("one", {"amplitude": amplitude})
    wide = family_search.widen(SimpleNamespace(search=settings, seed=3), objective, result)
    if amplitude < 1:
        assert wide is None
        return
    assert (wide["factor"], wide["ranges"]) == (10, {"amplitude": [-10, 10]})
    assert abs(wide["parameters"]["amplitude"]) == pytest.approx(5, rel=1e-2)
    assert wide["kl"] == pytest.approx(25 * kl, rel=2e-2)
    assert wide["fences"]["rms"] <= 5 and wide["feasible"]
    assert wide["at_bound"] == []
