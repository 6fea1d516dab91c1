"""The Optuna study: resumable, honest about what is feasible, and better than chance."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from scipy.stats import qmc
from slow import slow_but

from spurious import config, seeds
from spurious.errors import UserError
from spurious.search import study as search
from spurious.search.families import build_families
from spurious.search.objective import Objective
from spurious.search.projection import nearest_within
from spurious.search.pruning import hopeless, promise
from spurious.search.result import Found, Result
from spurious.search.screening import most_promising
from spurious.search.starts import Starts

BOX = 128.0
PAPER = {"a": 0.25, "b": -15.0, "beta": 3.0}


def posterior(conftest):
    """The one of the fixture, in another process."""
    weights = np.random.default_rng(10).normal(size=(2, 16, 16)) * 3e-4
    return conftest.LinearGaussian(weights, np.array([0.3, 0.8]), np.array([0.05, 0.03]))


def settings(starts, **changes):
    return config.Search.model_validate(
        {
            "starts": starts,
            "refine_steps": 12,
            "fences": {"power": 0.05},
            "families": {"logistic": {"kind": "logistic"}},
        }
        | changes
    )


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(12, 16)


@pytest.fixture(scope="module")
def make_objective(maps, linear_posterior):
    """One compiled function for all tests with the same family and fences."""
    made = {}

    def make(wanted):
        (family,) = build_families(wanted, BOX).values()
        key = wanted.model_dump_json(include={"families", "fences"})
        if key not in made:
            made[key] = search.build_objective(wanted, family, maps, linear_posterior, BOX)
        return made[key]

    return make


@pytest.fixture
def run(make_objective, tmp_path):
    def run(wanted, name="search.db", fingerprint="one", root_seed=7):
        objective = make_objective(wanted)
        storage = tmp_path / name
        return search.run(wanted, objective, storage, root_seed, fingerprint, progress=False)

    return run


@pytest.fixture(scope="module")
def whole(make_objective, tmp_path_factory):
    """An uninterrupted search of ten starts, and its file."""
    storage = tmp_path_factory.mktemp("whole") / "deep" / "search.db"
    wanted = settings(10)
    return search.run(wanted, make_objective(wanted), storage, 7, "one", progress=False), storage


def loaded(storage):
    (name,) = optuna.get_all_study_names(f"sqlite:///{storage}")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{storage}")


def proposals(result):
    return [one for one in result.history if one.kind == "proposal"]


def test_the_papers_systematic_comes_first(whole):
    first, refined = whole[0].history[:2]
    assert (first.kind, refined.kind) == ("proposal", "refined")
    assert first.parameters == pytest.approx(PAPER)
    assert len(whole[0].history) == 20


def test_bounds_that_exclude_the_papers_systematic_start_elsewhere(run):
    families = {"logistic": {"kind": "logistic", "a": {"low": 0.5, "high": 2.0}}}
    (first,) = run(settings(1, families=families, refine_steps=0)).history
    assert 0.5 <= first.parameters["a"] <= 2.0


def test_starts_cover_the_bounds(run, make_objective):
    """Aligned eighths of a Sobol sequence have one point in each eighth of every coordinate."""
    family = make_objective(settings(1)).family
    found = run(settings(17, refine_steps=0)).history
    points = np.array([family.point(one.parameters) for one in found])
    for eighth in (points[1:9], points[9:17]):
        np.testing.assert_array_equal(np.sort((8 * eighth).astype(int), axis=0).T, [range(8)] * 3)


def test_other_root_seeds_begin_elsewhere(run, make_objective):
    family = make_objective(settings(1)).family
    wanted = settings(3, refine_steps=0)
    found = [run(wanted, f"{seed}.db", root_seed=seed).history for seed in (7, 8)]
    one, other = (np.array([family.point(f.parameters) for f in history]) for history in found)
    np.testing.assert_array_equal(one[0], other[0])  # the paper's
    assert np.abs(one[1:] - other[1:]).max(axis=1).min() > 0.01


def test_starts_are_the_known_then_the_most_promising_then_the_sequence(whole, make_objective):
    """Each moved within the fences; promise by hand, which there is the KL."""
    objective = make_objective(settings(1))
    sobol = qmc.Sobol(3, rng=seeds.generator(7, "cover")).random(16)
    moved = [nearest_within(objective.fences, point, {"power": 0.05}) for point in sobol]
    promises = [objective.value_only(point).kl for point in moved[:8]]
    found = [objective.family.point(one.parameters) for one in proposals(whole[0])]
    np.testing.assert_allclose(found[0], objective.family.point(PAPER), atol=1e-6)
    wanted = [moved[np.argmax(promises)], *moved[8:16]]
    np.testing.assert_allclose(found[1:], wanted, atol=1e-6)


def test_a_start_depends_on_no_other(whole, make_objective):
    """So workers that share a study begin where one would."""
    objective = make_objective(settings(1))
    trials = {t.user_attrs["start"]: t for t in loaded(whole[1]).trials[::2]}
    for number in (6, 1, 0):
        starts = Starts(objective, {"power": 0.05}, 7)
        assert starts(number) == trials[number].params


def test_climbs_begin_within_the_fences(whole):
    """All but the paper's: what is known is shown as it is, and moved when its climb begins."""
    excess = [one.excess for one in proposals(whole[0])]
    assert excess[0] > 0
    assert max(excess[1:]) <= 0


def test_what_is_not_finite_promises_nothing(make_objective):
    objective = make_objective(settings(1))
    points = [np.array([0.5, 0.5, 0.9]), np.array([0.5, 0.5, 0.6]), np.array([0.5, 0.6, 0.6])]

    def evaluate(point):
        found = objective.value_only(point)
        return found._replace(value=np.nan) if point[2] == 0.9 else found

    chosen = most_promising(evaluate, points, {"power": 0.05})
    promises = [promise(objective.value_only(point), {"power": 0.05}) for point in points[1:]]
    np.testing.assert_array_equal(chosen, points[1 + int(np.argmax(promises))])
    np.testing.assert_array_equal(most_promising(evaluate, points[:1], {"power": 0.05}), points[0])


def test_the_best_is_feasible_and_beats_chance(whole, make_objective):
    """Twice as many points at random as the search evaluated."""
    objective = make_objective(settings(1))
    points = np.random.default_rng(0).uniform(size=(2 * evaluations(whole[1]), 3))
    found = [objective.value_only(point) for point in points]
    by_chance = [one.kl for one in found if one.is_feasible({"power": 0.05})]
    best = whole[0].best
    assert best.feasible
    assert best.fences["power"] <= 0.05
    assert best.kl > 1.05 * max(by_chance)
    assert objective(objective.family.point(best.parameters)).kl == pytest.approx(best.kl, rel=1e-4)


def test_optuna_sees_the_constraints_and_agrees_on_the_best(whole):
    result, storage = whole
    study = loaded(storage)
    assert study.best_value == result.best.value
    assert study.best_trial.number == result.best.trial
    assert study.user_attrs["best_feasible"].startswith(f"trial {study.best_trial.number}: value ")
    assert study.user_attrs["fences"] == {"power": {"limit": 0.05, "tolerance": 1e-5}}
    for trial in study.trials:
        excess = trial.user_attrs["fences"]["power"] - 0.05
        assert trial.constraints["power"] == pytest.approx(excess)
        assert trial.system_attrs["constraints"] == [pytest.approx(excess)]  # optuna-dashboard
        assert trial.user_attrs["excess"] == pytest.approx(excess / 0.05)
        a, transition, beta = (trial.params[name] for name in ("a", "transition", "beta"))
        assert trial.user_attrs["parameters"] == pytest.approx(
            {"a": a, "b": -a * transition, "beta": beta}
        )
        assert trial.user_attrs["b"] == trial.user_attrs["parameters"]["b"]
    refined = [t for t in study.trials if t.user_attrs["kind"] == "refined"]
    assert [t.user_attrs["refined_from"] for t in refined] == [t.number - 1 for t in refined]


def test_intermediate_values_rise_to_the_refined_value(whole):
    """Every point of a climb is within the fences, so what the last one promised is what it has."""
    trials = loaded(whole[1]).trials
    for proposal, refined in zip(trials[::2], trials[1::2], strict=True):
        values = list(proposal.intermediate_values.values())
        assert values == sorted(values)
        assert refined.user_attrs["excess"] <= 0
        # A height may be above its limit by what rounding may move it.
        assert values[-1] == pytest.approx(refined.value, rel=1e-3)


def test_values_of_all_trials_are_on_one_scale(whole):
    """A climb begins with the KL of its proposal; Optuna's value of a pruned one is its last."""
    result, storage = whole
    study = loaded(storage)
    for trial in study.trials[2::2]:
        first, *_, last = trial.intermediate_values.values()
        assert first == pytest.approx(trial.user_attrs["kl"], rel=1e-4)
        if trial.state.name == "PRUNED":
            assert trial.value == last < study.best_value
            assert trial.user_attrs["value"] == trial.user_attrs["kl"] <= last * (1 + 1e-4)
            refined = study.trials[trial.number + 1]
            assert 0.5 < last / refined.value < 2  # a root would be several times as large
    assert result.best.value == study.best_value


def evaluations(storage):
    """Points evaluated in a study; a refinement's first is its proposal."""
    return sum(trial.user_attrs.get("evaluations", 0) for trial in loaded(storage).trials)


@pytest.mark.parametrize("share", slow_but((0.05,), (0.0, 0.05, 0.8)))
def test_a_resumed_search_equals_an_uninterrupted_one(whole, run, monkeypatch, share, tmp_path):
    """Ctrl-C in the first proposal, in its refinement, and late in the search."""
    evaluate, count, stop = Objective.__call__, [0], int(share * evaluations(whole[1]))

    def interrupted(self, point):
        if count[0] == stop:
            raise KeyboardInterrupt
        count[0] += 1
        return evaluate(self, point)

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(settings(10))
    states = [trial.state.name for trial in loaded(tmp_path / "search.db").trials]
    assert "RUNNING" not in states
    assert run(settings(10)).to_json() == whole[0].to_json()
    states = [trial.state.name for trial in loaded(tmp_path / "search.db").trials]
    assert states.count("FAIL") == 1
    assert len(states) == 21


KILLED = """
import os, signal, sys
sys.path[:0] = {folders!r}
import numpy as np
import conftest
import test_study as t
from spurious.search import study as search
from spurious.search.families import build_families
from spurious.search.objective import Objective

evaluate, left = Objective.__call__, [{evaluations}]

def until_killed(self, point):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return evaluate(self, point)

Objective.__call__ = until_killed
wanted = t.settings(4)
(family,) = build_families(wanted, t.BOX).values()
maps, posterior = conftest.density_maps(12, 16), t.posterior(conftest)
objective = search.build_objective(wanted, family, maps, posterior, t.BOX)
search.run(wanted, objective, {storage!r}, 7, "one", progress=False)
"""


@pytest.mark.slow
def test_sigkill_in_mid_refinement_leaves_no_trace(whole, run, tmp_path):
    """Twenty evaluations in, the third climb has begun."""
    here = Path(__file__).parent
    folders = [str(here), str(here.parent)]
    storage = str(tmp_path / "search.db")
    script = KILLED.format(folders=folders, evaluations=20, storage=storage)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    states = [trial.state.name for trial in loaded(storage).trials]
    assert states.count("RUNNING") == 1
    began = time.monotonic()
    found = run(settings(4))
    assert time.monotonic() - began < 20  # no wait for a heartbeat to go stale
    assert found.history == tuple(
        replace(one, trial=found.history[i].trial)
        for i, one in enumerate(one for one in whole[0].history if one.start < 4)
    )
    trials = loaded(storage).trials
    assert [t.state.name for t in trials].count("FAIL") == 1
    dead = next(t for t in trials if t.state.name == "FAIL")
    retried = next(t for t in trials if t.system_attrs.get("failed_trial") == dead.number)
    assert retried.params == dead.params
    assert retried.user_attrs["start"] == dead.user_attrs["start"]


def test_n_starts_asked_for_twice_or_in_two_parts_are_n(whole, run, tmp_path):
    run(settings(4))
    again = run(settings(4))
    assert len(again.history) == 8
    assert len(loaded(tmp_path / "search.db").trials) == 8
    assert run(settings(10)).to_json() == whole[0].to_json()
    assert run(settings(4)).history == again.history


def test_other_work_in_the_same_file_is_another_study(run, tmp_path):
    few = settings(1, refine_steps=0)
    names = {run(few).study, run(few, fingerprint="two").study, run(few, root_seed=8).study}
    names.add(run(settings(1, refine_steps=0, fences={"power": 0.04})).study)
    assert len(names) == 4
    assert set(optuna.get_all_study_names(f"sqlite:///{tmp_path / 'search.db'}")) == names


def test_nothing_feasible_is_said_so(run, tmp_path):
    """Amplitudes from 10 counts on cannot keep within 1 % where they act on every pixel."""
    family = {
        "kind": "logistic",
        "transition": {"low": 390.0, "high": 400.0},
        "beta": {"low": 10.0, "high": 30.0},
    }
    found = run(settings(3, families={"logistic": family}, fences={"power": 0.01}))
    assert found.best is None
    assert found.closest.fences["power"] > 0.01
    assert found.closest.excess == min(one.excess for one in found.history)
    assert found.to_json()["best"] is None
    assert "none" in found.headline()
    study = loaded(tmp_path / "search.db")
    assert study.user_attrs["best_feasible"] == "none yet"
    with pytest.raises(ValueError, match="feasible"):
        _ = study.best_trial
    assert all(10.0 <= one.parameters["beta"] <= 30.0 for one in found.history)


def test_what_lies_on_an_end_of_its_range_is_named(run, tmp_path):
    """Within wide fences the largest amplitude wins, and nothing but its range holds it."""
    family = {"kind": "logistic", "beta": {"low": 0.1, "high": 0.5}}
    found = run(settings(2, families={"logistic": family}, fences={"power": 0.9}))
    assert found.best.parameters["beta"] == pytest.approx(0.5, rel=2e-3)
    assert "beta" in found.best.at_bound
    trials = {trial.number: trial for trial in loaded(tmp_path / "search.db").trials}
    assert trials[found.best.trial].user_attrs["at_bound"] == found.best.at_bound
    (middle,) = [one for one in found.history if one.start == 1 and one.kind == "proposal"]
    assert middle.at_bound == []
    assert found.to_json()["best"]["at_bound"] == found.best.at_bound


def test_without_refinement_there_are_proposals_only(run):
    found = run(settings(3, refine_steps=0))
    assert [one.kind for one in found.history] == ["proposal"] * 3


@pytest.mark.slow
def test_another_family_with_several_fences(run, tmp_path):
    """Each fence is a constraint of its own, and all of them hold."""
    wanted = settings(
        3,
        families={"saturation": {"kind": "saturation", "sharpness": 4.0}},
        fences={"power": 0.05, "mean_shift": 0.01, "rms": 3.0},
    )
    found = run(wanted)
    assert set(found.best.parameters) == {"strength", "threshold"}
    for name, limit in found.limits.items():
        assert found.best.fences[name] <= limit
    trial = loaded(tmp_path / "search.db").best_trial
    assert set(trial.constraints) >= {"power", "mean_shift", "rms"}
    assert len(trial.system_attrs["constraints"]) == 3
    assert max(trial.constraints.values()) <= 0


def test_what_overflows_is_given_up_and_said_so(make_objective, tmp_path, monkeypatch):
    evaluate = Objective.__call__

    def broken(self, point):
        found = evaluate(self, point)
        return found._replace(value=np.nan) if point[2] > 0.5 else found

    monkeypatch.setattr(Objective, "__call__", broken)
    wanted = settings(4)
    objective = make_objective(wanted)
    found = search.run(wanted, objective, tmp_path / "s.db", 7, "one", progress=False)
    assert 0 in found.given_up
    assert {one.start for one in found.history} | set(found.given_up) == set(range(4))
    again = search.run(wanted, objective, tmp_path / "s.db", 7, "one", progress=False)
    assert again == found


def test_json_and_pareto(whole):
    result = whole[0]
    exported = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert exported["best"]["kl"] == result.best.kl
    assert exported["history"][-1]["best_so_far"] == result.best.value
    for one in result.pareto:
        assert not any(
            other.value > one.value and other.excess <= one.excess for other in result.history
        )
    excesses = [one.excess for one in result.pareto]
    assert excesses == sorted(excesses)
    assert max(result.history, key=lambda one: one.value) in result.pareto


def test_best_so_far_counts_feasible_trials_only():
    def found(value, excess):
        return Found(0, 0, "proposal", {}, value, value, value, {}, excess, 0.0, excess <= 0, False)

    history = (found(9.0, 3.0), found(1.0, -0.8), found(3.0, 0.0), found(2.0, -0.6))
    exported = Result("name", "logistic", {"power": 0.05}, history).to_json()
    assert [one["best_so_far"] for one in exported["history"]] == [None, 1.0, 3.0, 3.0]
    assert [one["value"] for one in exported["pareto"]] == [1.0, 2.0, 3.0, 9.0]


def test_a_climb_is_hopeless_only_if_it_would_stay_below_the_best():
    assert hopeless([0.0, 0.3, 0.31, 0.32], 0.4)
    assert not hopeless([0.0, 0.3, 0.32, 0.35], 0.4)
    assert not hopeless([0.0, 0.3, 0.31], 9.0)
    assert not hopeless([0.0, 0.395, 0.396, 0.397], 0.4)
    assert not hopeless([0.0, 0.3, 0.31, 0.32], -np.inf)


def test_a_promise_is_the_value_at_the_fence(make_objective):
    """Three times the amplitude promises the same, as long as the change is small."""
    objective = make_objective(settings(1))
    small, large = (
        objective(objective.family.point({"a": 0.1, "b": -6.0, "beta": beta}))
        for beta in (0.5, 1.5)
    )
    assert large.kl > 5 * small.kl
    limit = {"power": small.fences["power"].height}
    assert promise(small, limit) == pytest.approx(small.kl)
    assert promise(large, limit) == pytest.approx(promise(small, limit), rel=0.2)


@pytest.mark.slow
def test_hopeless_starts_are_pruned_and_the_best_is_found_all_the_same(
    whole, make_objective, tmp_path, monkeypatch
):
    found, storage = whole
    wanted = settings(10)
    objective = make_objective(wanted)
    pruned = [t for t in loaded(storage).trials if t.state.name == "PRUNED"]
    assert pruned
    for trial in pruned:
        assert trial.user_attrs["pruned"]
        assert trial.user_attrs["kind"] == "proposal"
    assert sum(one.pruned for one in found.history) == 2 * len(pruned)
    monkeypatch.setattr(search, "hopeless", lambda *arguments: False)
    patient = search.run(wanted, objective, tmp_path / "s.db", 7, "one", progress=False)
    assert found.best.value == pytest.approx(patient.best.value, rel=2e-3)
    assert evaluations(storage) < evaluations(tmp_path / "s.db")


def test_a_damaged_file_is_named(run, tmp_path):
    (tmp_path / "search.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match=r"search\.db"):
        run(settings(1))
