"""The Pareto fronts of a search, beside the attacks of the group `strongest`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from spurious import figures
from spurious.config import Config
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.data.splits import places
from spurious.pipeline.schemas import Result
from spurious.search.fences import measure_heights

STRONGEST = "strongest"


class Curve(Result):
    """The front of a family along a fence: the largest damage found at each height."""

    heights: list[float]
    kl: list[float]


class Fronts(Result):
    """What is needed of `search.json`.

    Attributes:
        front: fence -> family -> its front.
        limits: fence -> height at which the search was run.
        fences_paper: fence -> height of the paper's systematic on the maps of the search.
        kl_paper: its mean KL(perturbed ‖ clean), nats.
    """

    front: dict[str, dict[str, Curve]]
    limits: dict[str, float]
    fences_paper: dict[str, float]
    kl_paper: float


def strongest(
    config: Config,
    test: MapSet,
    attacked: Mapping[str, Path],
    rows: Mapping[str, Mapping[str, Any]],
    fences: Iterable[str],
) -> dict[str, dict[str, Any]]:
    """White-box attacks of the group `strongest`, beside which a front is drawn.

    None is an upper bound: each keeps to another constraint than the fences and changes every map
    individually, which one rule for all maps cannot; but its RMS is limited, which a rule's is not.

    Args:
        config: has the attacks.
        test: clean maps.
        attacked: where the maps of each attack that was made are.
        rows: its damage.
        fences: those whose heights are asked for.

    Returns:
        Label, which says what the attack respects -> "name", its "kl" in nats, "rms_counts" and
        the height of each of "fences" on the maps that it was made on, without a margin.
    """
    found = {}
    for name, entry in config.attacks.get(STRONGEST, {}).items():
        if name not in attacked:
            continue
        maps = read_maps(attacked[name])
        clean = test.take(places(test, maps))
        rms = rows[name]["rms_counts"]["mean"]
        found[f"{_respected(entry)}, RMS {rms:.2g} counts"] = {
            "name": name,
            "kl": rows[name]["kl_perturbed_clean"]["mean"],
            "rms_counts": rms,
            "fences": measure_heights(clean, maps.maps, fences),
        }
    return found


def _respected(entry: Any) -> str:
    """The constraints of a white-box attack, as text."""
    kinds = [one.kind.replace("_", " ") for one in getattr(entry, "constraints", ())]
    norm = getattr(entry, "norm", "linf")
    return f"attack, {' and '.join(kinds) if kinds else f'any change of its {norm} norm'}"


def draw_fronts(
    found: Mapping[str, Any], beside: Mapping[str, Mapping[str, Any]]
) -> dict[str, Figure]:
    """The Pareto front of every family along each fence; no figure if there is none.

    Args:
        found: as `Fronts`.
        beside: attacks, of `strongest`.
    """
    shown = {
        fence: {name: list(zip(c["heights"], c["kl"], strict=True)) for name, c in named.items()}
        for fence, named in found["front"].items()
    }
    paper = {
        fence: {"paper's systematic": (found["fences_paper"][fence], found["kl_paper"])}
        for fence in shown
    }
    marks = {
        fence: {
            label: (one["fences"][fence], one["kl"])
            for label, one in beside.items()
            if fence in one["fences"]
        }
        for fence in shown
    }
    return {"pareto": figures.fronts(shown, paper, marks, found["limits"])} if shown else {}
