"""What optuna-dashboard gets: the best feasible trial, names and notes."""

import json
from wsgiref.util import setup_testing_defaults

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna_dashboard import get_note, wsgi

from spurious.errors import UserError
from spurious.search import dashboard, notes
from spurious.search.families import build_families
from spurious.studies import open_study


def study(path, direction="maximize", **trials):
    """A study with trials of this value and excess, by name."""
    made = open_study(path, "s", direction)
    for value, excess in trials.values():
        made.add_trial(
            optuna.trial.create_trial(
                params={"x": 0.5},
                distributions={"x": FloatDistribution(0, 1)},
                value=value,
                constraints={"power": excess},
            )
        )
    return made


def asked(path, place):
    """What the dashboard answers to a request."""
    app = wsgi(dashboard.storage_of(path))
    environment = {"PATH_INFO": place, "QUERY_STRING": ""}
    setup_testing_defaults(environment)
    return json.loads(b"".join(app(environment, lambda status, headers, error=None: None)))


def best(path):
    (found,) = asked(path, "/api/studies/1")["best_trials"]
    return found["number"]


def test_the_best_trial_is_feasible_although_another_has_a_larger_value(tmp_path):
    path = tmp_path / "s.db"
    study(path, good=(1.0, -0.1), broken=(5.0, 0.2), better=(2.0, -0.01), poor=(0.1, -1.0))
    assert best(path) == 2


def test_the_closest_is_shown_if_none_is_feasible(tmp_path):
    path = tmp_path / "s.db"
    study(path, far=(5.0, 2.0), near=(1.0, 0.1))
    assert best(path) == 1


def test_a_study_that_minimises_is_shown_its_least(tmp_path):
    path = tmp_path / "s.db"
    study(path, "minimize", high=(3.0, -1.0), low=(1.0, -1.0))
    assert best(path) == 1


def test_a_study_without_trials_is_shown(tmp_path):
    path = tmp_path / "s.db"
    study(path)
    assert asked(path, "/api/studies/1")["best_trials"] == []


def test_what_is_missing_or_damaged_is_one_line(tmp_path):
    with pytest.raises(UserError, match="is missing: nothing was searched yet"):
        dashboard.storage_of(tmp_path / "none.db")
    (tmp_path / "s.db").write_text("no database" * 100)
    with pytest.raises(UserError, match="is damaged or is no Optuna study"):
        dashboard.storage_of(tmp_path / "s.db")


def test_a_note_says_what_is_searched_and_is_written_once(tmp_path, config):
    made = study(tmp_path / "s.db")
    family = build_families(config.search, 128.0, 1)["logistic"]
    for _ in range(2):
        notes.name_objective(made, "kl", "nat")
        notes.write_note(made, family, "kl", "nat", {"power": 0.05}, None)
    assert "family `logistic`" in get_note(made) and "`power` at most 0.05" in get_note(made)
    found = asked(tmp_path / "s.db", "/api/studies/1")
    assert found["objective_names"] == ["kl / nat"]
    assert found["note"]["version"] == 1
