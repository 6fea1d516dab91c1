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
RUN = ("scales", "posteriors", "ensembles", "target", "attacks", "defences")
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
        whole["search"] = {"families": ships["search"]["families"]} | search
    run = given.get("run", {})
    if isinstance(run, dict):
        whole["run"] = _run(given, whole, ships, scales) | run
    return whole


def _is_complete(given: Mapping[str, Any]) -> bool:
    run, search = given.get("run"), given.get("search")
    return (
        all(name in given for name in SECTIONS)
        and (not isinstance(run, dict) or {"scales", "posteriors", "target", "attacks"} <= set(run))
        and run is not None
        and (not isinstance(search, dict) or "families" in search)
    )


def _run(
    given: Mapping[str, Any], whole: Mapping[str, Any], ships: Mapping[str, Any], scales: list[str]
) -> dict[str, Any]:
    """The section `run` as it follows from the others; keys that the file gives come first."""
    said, usual = given.get("run", {}), ships["run"]
    trained = usual["posteriors"] if "posteriors" not in given else _trained(whole["posteriors"])
    trained = said.get("posteriors", trained)
    names = list(trained) if isinstance(trained, list) else []
    made = _ensembles(whole.get("ensembles", {}), names)
    made = said.get("ensembles", made)
    present = [*names, *(made if isinstance(made, list) else [])]
    attacks = _groups(whole["attacks"]) if "attacks" in given else usual["attacks"]
    if "attacks" not in given:  # some of these are made on other posteriors
        attacks = [name for name in attacks if _on(ships["attacks"][name]) <= set(present)]
    target = said.get("target", names[0] if names else "")
    return {
        "scales": scales[:1],
        "posteriors": trained,
        "ensembles": made,
        "target": target,
        "attacks": attacks,
        "defences": [n for n in usual["defences"] if n in names and n != target]
        if "posteriors" not in given
        else [],
    }


def _trained(posteriors: Any) -> list[str]:
    if not isinstance(posteriors, dict):
        return []
    return [
        name
        for name, entry in posteriors.items()
        if not (isinstance(entry, dict) and entry.get("kind") in MADE)
    ]


def _ensembles(ensembles: Any, names: list[str]) -> list[str]:
    """Those whose members are all trained."""
    if not isinstance(ensembles, dict):
        return []
    return [
        name
        for name, members in ensembles.items()
        if isinstance(members, list) and all(one in names for one in members)
    ]


def _groups(attacks: Any) -> list[str]:
    return list(attacks) if isinstance(attacks, dict) else []


def _on(value: Any) -> set[str]:
    """The posteriors on which a group's attacks are made, other than the target."""
    return set(_named_on(value))


def _named_on(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (str(value[key]) for key in ("on", True) if key in value)  # YAML's true
        for inner in value.values():
            yield from _named_on(inner)
