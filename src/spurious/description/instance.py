"""From an entry of params.yaml to the object that it describes, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from spurious.description.fields import filled
from spurious.description.lookup import described_class
from spurious.description.schema import plain, select_fields
from spurious.description.section import Entry
from spurious.kinds import GROUPS


def instance(entry: Entry, **surroundings: Any) -> Any:
    """The object: quantities as numbers, what its class wants filled in from the surroundings."""
    given = {name: surroundings[name] for name in filled(entry.CLASS) if name in surroundings}
    for name, value in select_fields(entry).items():
        if value is not None:  # else a quantity left out: the class knows its own
            given[name] = plain(value)
    return entry.CLASS(**given)


def named(group: str, given: str | Entry) -> Any:
    """The object of a section, or of the name of a kind that needs no field."""
    return described_class(group, given)() if isinstance(given, str) else instance(given)


def written(group: str, one: Any) -> dict[str, Any]:
    """An object's kind and fields, as params.yaml writes those of a class without quantities."""
    path = f"{type(one).__module__}.{type(one).__qualname__}"
    kind = next((kind for kind, home in GROUPS[group].items() if home == path), path)
    return {"kind": kind} | {field.name: getattr(one, field.name) for field in fields(one)}
