"""What optuna-dashboard says of a study: the name of its objective, and a note."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import optuna
from optuna.exceptions import ExperimentalWarning

from spurious.search.families import Family
from spurious.search.result import Found

NOTE = """# The worst systematic of the family `{family}`

Each trial is one systematic. Its value is the **{goal}**, in {unit}: what it does to the posterior
of the test maps that the search sees. Trials come in pairs: a *proposal*, and the *refined*
systematic that a climb along exact gradients found from it.

A trial counts if it keeps within every fence:

{limits}

Trials that break one are grey. **Best:** {best}.
"""


def name_objective(study: optuna.Study, goal: str, unit: str) -> None:
    """Give the value of a study its name."""
    names = [f"{goal} / {unit}"]
    if study.metric_names != names:  # each is a transaction
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(names)


def write_note(
    study: optuna.Study,
    family: Family,
    goal: str,
    unit: str,
    limits: Mapping[str, float],
    best: Found | None,
) -> None:
    """Say on the study what is searched, what the fences are, and what is best so far."""
    from optuna_dashboard import get_note, save_note

    listed = "\n".join(f"- `{name}` at most {limit:g}" for name, limit in limits.items())
    text = NOTE.format(
        family=family.name, goal=goal, unit=unit, limits=listed, best=describe_best(best)
    )
    if get_note(study) != text:
        save_note(study, text)


def describe_best(best: Found | None) -> str:
    """The best feasible trial in a line."""
    if best is None:
        return "none yet"
    shown = ", ".join(f"{name} = {value:.4g}" for name, value in best.parameters.items())
    return f"trial {best.trial}: value {best.value:.4g}, {shown}"
