"""Which defence to take: a rule that is fixed beforehand, and a card that says what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]


def winner(rows: Rows, target: str, keep: float) -> str | None:
    """The defence with the least damage left, of those that are proven and keep enough.

    Args:
        rows: of `spurious.defences.evaluation.evaluate`, by name.
        target: the undefended posterior's name, which cannot win.
        keep: information that must be kept, as a share.

    Returns:
        Its name; None if no defence is proven, keeps enough and has less damage than the target.
    """
    allowed = [
        name
        for name, row in rows.items()
        if name != target
        and not row["unproven"]
        and row["information"]["mean"] >= keep
        and row["damage_left"] < 1
    ]
    return min(allowed, key=lambda name: rows[name]["damage_left"], default=None)


def card(name: str, row: Mapping[str, Any], undefended: Mapping[str, Any], entry: str) -> str:
    """What a user of the defended model must know, as Markdown.

    Args:
        name: of the defence.
        row: what was measured of it.
        undefended: the same of the target.
        entry: how params.yaml describes it.
    """
    fails = {
        family: found["kl"]["mean"]
        for family, found in row["families"].items()
        if found["kl"] is not None
    }
    lines = [
        f"# {name}",
        "",
        "The defence with the least damage left of those that were compared and proven.",
        "",
        "```yaml",
        entry.rstrip(),
        "```",
        "",
        f"- information kept: {_format(row['information'])} of the undefended posterior's",
        f"- damage of the strongest attack: {_format(row['damage'])} nat, undefended "
        f"{_format(undefended['damage'])}",
        *(f"- damage of the worst {family}: {kl:.3g} nat" for family, kl in fails.items()),
        f"- clean maps without an answer: {row['clean']['rejected']['mean']:.3g}",
        "",
        "Damage is the KL divergence of the posterior from itself on the clean map, and a lower "
        "bound: an attack that is not known yet may do more. One training, intervals over maps.",
    ]
    return "\n".join(lines)


def _format(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.3g} [{value['low']:.3g}, {value['high']:.3g}]"
