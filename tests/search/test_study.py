"""The Optuna study: resumable, honest about what is feasible, and better than chance."""

import json

import numpy as np
import optuna
import pytest

from spurious import config
from spurious.errors import UserError
from spurious.perturbations.systematics import Logistic
from spurious.search import study as search
from spurious.search.objective import Cube, Objective
from spurious.search.result import Found, Result

BOX = 128.0


def settings(starts, **changes):
    return config.Search.model_validate(
        {
            "starts": starts,
            "refine_steps": 12,
            "max_power_change": 0.05,
            "bounds": {
                "a": {"low": 0.01, "high": 2.0},
                "transition": {"low": 5.0, "high": 400.0},
                "beta": {"low": -30.0, "high": 30.0},
            },
        }
        | changes
    )


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(12, 16)


@pytest.fixture
def run(maps, linear_posterior, tmp_path):
    def run(wanted, name="search.db", **changes):
        arguments = {"root_seed": 7, "fingerprint": "one"} | changes
        return search.run(wanted, maps, linear_posterior, BOX, tmp_path / name, **arguments)

    return run


@pytest.fixture(scope="module")
def whole(maps, linear_posterior, tmp_path_factory):
    """An uninterrupted search of ten starts, two of them proposed by TPE, and its file."""
    storage = tmp_path_factory.mktemp("whole") / "deep" / "search.db"
    return search.run(settings(10), maps, linear_posterior, BOX, storage, 7, "one"), storage


def loaded(storage):
    (name,) = optuna.get_all_study_names(f"sqlite:///{storage}")
    return optuna.load_study(study_name=name, storage=f"sqlite:///{storage}")


def test_the_papers_systematic_comes_first(whole):
    first, refined = whole[0].history[:2]
    assert (first.kind, refined.kind) == ("proposal", "refined")
    assert (first.a, first.b, first.beta) == pytest.approx((0.25, -15.0, 3.0))
    assert len(whole[0].history) == 20


def test_bounds_that_exclude_the_papers_systematic_start_elsewhere(run):
    bounds = settings(1).bounds.model_dump() | {"a": {"low": 0.5, "high": 2.0}}
    (first,) = run(settings(1, bounds=bounds, refine_steps=0)).history
    assert 0.5 <= first.a <= 2.0


def test_every_other_start_covers_the_bounds(whole):
    """Aligned pairs of a Sobol sequence lie in opposite halves of every coordinate."""
    cube = Cube(settings(1).bounds)
    proposals = [one for one in whole[0].history if one.kind == "proposal"]
    upper = np.array([cube.point(one.systematic) > 0.5 for one in proposals[2::2]])
    np.testing.assert_array_equal(upper[0::2], ~upper[1::2])


def test_the_best_is_feasible_and_beats_chance(whole, maps, linear_posterior):
    """Twice as many points at random as the search evaluated."""
    cube = Cube(settings(1).bounds)
    objective = Objective(maps, linear_posterior, BOX, cube)
    points = np.random.default_rng(0).uniform(size=(2 * evaluations(whole[1]), 3))
    by_chance = [e.kl for e in map(objective, points) if e.max_change <= 0.05]
    best = whole[0].best
    assert best.feasible
    assert best.max_power_change <= 0.05
    assert best.kl > 1.05 * max(by_chance)
    assert objective(cube.point(best.systematic)).kl == pytest.approx(best.kl, rel=1e-4)


def test_optuna_sees_the_constraints_and_agrees_on_the_best(whole):
    result, storage = whole
    study = loaded(storage)
    assert study.best_value == result.best.kl
    assert study.user_attrs["best_feasible"].startswith(f"trial {study.best_trial.number}: KL ")
    for trial in study.trials:
        excess = trial.user_attrs["max_power_change"] - 0.05
        assert trial.constraints["power_change"] == pytest.approx(excess)
        assert trial.system_attrs["constraints"] == [pytest.approx(excess)]  # optuna-dashboard
        a, transition = trial.params["a"], trial.params["transition"]
        assert trial.user_attrs["a"] == pytest.approx(a)
        assert trial.user_attrs["b"] == pytest.approx(-a * transition)
        assert trial.user_attrs["beta"] == pytest.approx(np.sinh(trial.params["asinh_beta"]))
        assert len(trial.user_attrs["kl_gradient"]) == 3
    refined = [t for t in study.trials if t.user_attrs["kind"] == "refined"]
    assert [t.user_attrs["refined_from"] for t in refined] == [t.number - 1 for t in refined]


def test_gradients_in_the_study_are_by_its_own_parameters(whole, maps, linear_posterior):
    trial = loaded(whole[1]).trials[0]
    objective = Objective(maps, linear_posterior, BOX, Cube(settings(1).bounds))

    def value(log_a, log_transition, asinh_beta):
        b = -np.exp(log_a + log_transition)
        systematic = Logistic(np.exp(log_a), b, np.sinh(asinh_beta))
        return objective(objective.cube.point(systematic))

    centre = np.array([np.log(0.25), np.log(60.0), np.arcsinh(3.0)])
    for i, step in enumerate([0.05, 0.02, 0.05]):
        up, down = (value(*(centre + s * step * np.eye(3)[i])) for s in (1, -1))
        slope = (up.kl - down.kl) / (2 * step)
        assert trial.user_attrs["kl_gradient"][i] == pytest.approx(slope, rel=2e-2, abs=1e-3)


def evaluations(storage):
    """Points evaluated in a study; a refinement's first is its proposal."""
    return sum(trial.user_attrs.get("evaluations", 0) for trial in loaded(storage).trials)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.95])
def test_a_resumed_search_equals_an_uninterrupted_one(whole, run, monkeypatch, share, tmp_path):
    """Stopped in the first proposal, in its refinement, and once TPE proposes."""
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
    assert run(settings(10)).to_json() == whole[0].to_json()
    states = [trial.state.name for trial in loaded(tmp_path / "search.db").trials]
    assert set(states) <= {"COMPLETE", "FAIL"}
    assert states.count("COMPLETE") == 20


def test_n_starts_asked_for_twice_or_in_two_parts_are_n(whole, run, tmp_path):
    run(settings(4))
    again = run(settings(4))
    assert len(again.history) == 8
    assert len(loaded(tmp_path / "search.db").trials) == 8
    assert run(settings(10)).to_json() == whole[0].to_json()
    assert run(settings(4)).history == again.history


def test_other_work_in_the_same_file_is_another_study(run, tmp_path):
    few = settings(1, refine_steps=0)
    names = {run(few).study, run(few, fingerprint="two").study}
    assert len(names) == 2
    assert set(optuna.get_all_study_names(f"sqlite:///{tmp_path / 'search.db'}")) == names


def test_nothing_feasible_is_said_so(run, tmp_path):
    """Amplitudes from 10 counts on cannot keep within 1 % where they act on every pixel."""
    bounds = settings(1).bounds.model_dump() | {
        "transition": {"low": 390.0, "high": 400.0},
        "beta": {"low": 10.0, "high": 30.0},
    }
    found = run(settings(3, bounds=bounds, max_power_change=0.01))
    assert found.best is None
    assert found.closest.max_power_change > 0.01
    assert found.to_json()["best"] is None
    assert "none" in found.headline()
    study = loaded(tmp_path / "search.db")
    assert study.user_attrs["best_feasible"] == "none yet"
    with pytest.raises(ValueError, match="feasible"):
        _ = study.best_trial
    assert all(bounds["beta"]["low"] * 0.999 <= one.beta <= 30.001 for one in found.history)


def test_without_refinement_there_are_proposals_only(run):
    found = run(settings(3, refine_steps=0))
    assert [one.kind for one in found.history] == ["proposal"] * 3


def test_json_and_pareto(whole):
    result = whole[0]
    exported = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert exported["best"]["kl"] == result.best.kl
    assert exported["history"][-1]["best_so_far"] == result.best.kl
    for one in result.pareto:
        assert not any(
            other.kl > one.kl and other.max_power_change <= one.max_power_change
            for other in result.history
        )
    changes = [one.max_power_change for one in result.pareto]
    assert changes == sorted(changes)
    assert max(result.history, key=lambda one: one.kl) in result.pareto


def test_best_so_far_counts_feasible_trials_only():
    def found(kl, change):
        return Found(0, "proposal", 1.0, 1.0, 1.0, kl, change, 0.0, change <= 0.05)

    history = (found(9.0, 0.2), found(1.0, 0.01), found(3.0, 0.05), found(2.0, 0.02))
    exported = Result("name", 0.05, history).to_json()
    assert [one["best_so_far"] for one in exported["history"]] == [None, 1.0, 3.0, 3.0]
    assert [one["kl"] for one in exported["pareto"]] == [1.0, 2.0, 3.0, 9.0]


def test_a_damaged_file_is_named(run, tmp_path):
    (tmp_path / "search.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match=r"search\.db"):
        run(settings(1))
