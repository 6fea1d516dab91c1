"""What a params.yaml may leave out.

A section that a file lacks is that of the params.yaml that ships, and `run` follows from the
others: all posteriors that the file has, the first of them as the target, all groups of attacks.
Without `profiles` there is one scale, `default`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from spurious import shipped

SCALE = "default"
SECTIONS = ("seed", "design", "simulation", "training", "posteriors", "attacks", "search")
RUN = ("scales", "posteriors", "target", "attacks")  # keys that have no default of their own
SEARCH = ("families", "fences")  # the same of `search`
MADE = ("smoothed", "abstaining")  # kinds of posteriors that are not trained


def completed(given: Mapping[str, Any], scales: list[str]) -> dict[str, Any]:
    """The sections of a file beside `profiles`, and those that it lacks.

    Values of a wrong type are left for the schema to refuse.

    Args:
        given: the sections that the file has.
        scales: the names of its profiles.
    """
    if _is_complete(given):
        return dict(given)
    ships = yaml.safe_load(shipped.params().read_text(encoding="utf-8"))
    whole = {name: ships[name] for name in SECTIONS if name not in given} | dict(given)
    if "posteriors" not in given:
        whole.setdefault("ensembles", ships["ensembles"])
    search = whole["search"]
    if isinstance(search, dict):
        whole["search"] = {key: ships["search"][key] for key in SEARCH} | search
    run = given.get("run", {})
    if isinstance(run, dict):
        whole["run"] = _run(given, whole, ships, scales) | run
    return whole


def _is_complete(given: Mapping[str, Any]) -> bool:
    run, search = given.get("run"), given.get("search")
    return (
        all(name in given for name in SECTIONS)
        and "run" in given
        and (not isinstance(run, dict) or set(RUN) <= set(run))
        and (not isinstance(search, dict) or set(SEARCH) <= set(search))
    )


def _run(
    given: Mapping[str, Any], whole: Mapping[str, Any], ships: Mapping[str, Any], scales: list[str]
) -> dict[str, Any]:
    """The section `run` as it follows from the others; keys that the file gives come first."""
    said, usual = given.get("run", {}), ships["run"]
    own = isinstance(given.get("posteriors"), dict)
    trained = _trained(given["posteriors"]) if own else usual["posteriors"]
    trained = said.get("posteriors", trained)
    names = list(trained) if isinstance(trained, list) else []
    made = _ensembles(whole.get("ensembles", {}), names)
    made = said.get("ensembles", made)
    present = [*names, *(made if isinstance(made, list) else [])]
    if isinstance(given.get("attacks"), dict):
        attacks = list(given["attacks"])
    else:  # some of these are made on other posteriors
        ready = {n for n, group in ships["attacks"].items() if set(_on(group)) <= set(present)}
        attacks = [name for name in usual["attacks"] if name in ready]
    target = said.get("target", names[0] if names else "")
    return {
        "scales": scales[:1],
        "posteriors": trained,
        "ensembles": made,
        "target": target,
        "attacks": attacks,
        "defences": [] if own else [n for n in usual["defences"] if n in names and n != target],
    }


def _trained(posteriors: Mapping[str, Any]) -> list[str]:
    """All but those that are made of others."""
    made = [n for n, one in posteriors.items() if isinstance(one, dict) and one.get("kind") in MADE]
    return [name for name in posteriors if name not in made]


def _ensembles(ensembles: Any, names: list[str]) -> list[str]:
    """Those whose members are all trained."""
    if not isinstance(ensembles, dict):
        return []
    return [
        name
        for name, members in ensembles.items()
        if isinstance(members, list) and all(one in names for one in members)
    ]


def _on(value: Any) -> Iterator[str]:
    """The posteriors on which a group's attacks are made, other than the target."""
    if isinstance(value, dict):
        yield from (str(value[key]) for key in ("on", True) if key in value)  # YAML's true
        for inner in value.values():
            yield from _on(inner)
