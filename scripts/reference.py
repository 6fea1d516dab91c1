"""Write the reference tables of README and docs from what the classes say of themselves.

A table stands between `<!-- reference: NAME -->` and `<!-- end -->`, where NAME is a group of
`spurious.kinds`, some kinds of perturbations, `families`, `fences`, `commands`, `statuses`,
`headline` for the results of the pipeline, one of `MEASURED` and ` of SCALE` for what the scripts
beside this one have measured, `figure NAME` for one of the pilot with what the report says of it,
or `other figures`. A test compares.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

import headline
from explained import lines
from spurious.cli import main
from spurious.commands.explained import STATUSES
from spurious.description import tables
from spurious.description.lookup import class_of
from spurious.files import read_json
from spurious.kinds import GROUPS
from spurious.report.pictures import PICTURES
from spurious.search.fences import FENCES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FIGURE = "figure "
TARGET = "target"
OF_NETWORKS = ("learning_curve", "predicted", "error_plane", "coverage", "pit", "sbc", "tarp")
PLACE = re.compile(r"(<!-- reference: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def table(name: str) -> str:
    """The table of a name; of several kinds, one table of all."""
    if name in TABLES:
        return TABLES[name]()
    what, _, scale = name.rpartition(" of ")
    if what in MEASURED:
        return MEASURED[what](scale)
    if name.startswith(FIGURE):
        return figure(name.removeprefix(FIGURE))
    if name in GROUPS:
        return fields({kind: class_of(name, kind) for kind in GROUPS[name]})
    return fields({kind: class_of("perturbation", kind) for kind in name.split()})


def fields(kinds: Mapping[str, type]) -> str:
    """A row for each kind and one for each of its fields; an amplitude is bold."""
    body: list[list[str]] = []
    for kind, one in kinds.items():
        body.append([f"`{kind}`", "", "", "", "", tables.summary(one)])
        amplitude = getattr(one, "AMPLITUDE", None)
        for row in tables.rows(one):
            name = f"**{row.name}**" if row.name == amplitude else row.name
            body.append(["", name, row.allowed, row.unit, row.default, row.meaning])
    return markdown(["kind", "field", "allowed", "unit", "default", "what it is"], body)


def families() -> str:
    """A row for each parameter of each kind that a search can move."""
    body: list[list[str]] = []
    for kind in tables.families():
        first = f"`{kind}`"
        for one in tables.ranges(class_of("perturbation", kind)):
            body.append([first, one.name, one.values, one.unit, one.scale, one.why])
            first = ""
    head = ["kind", "parameter", "range or value", "unit", "searched in its", "why"]
    return markdown(head, body)


def fences() -> str:
    """A row for each fence of the search."""
    body = [
        [f"`{name}`", one.height, str(one.within), one.blind, f"{one.tolerance:g}"]
        for name, one in FENCES.items()
    ]
    head = ["fence", "height", "limit", "blind to", "float32 knows it to"]
    return markdown(head, body)


def commands() -> str:
    """A row for each command: its arguments, its options, what it does."""
    body = []
    for name, one in sorted(main.commands.items()):
        context = click.Context(one, info_name=name)
        words = [p.make_metavar(context) for p in one.params if isinstance(p, click.Argument)]
        options = [f"`{p.opts[0]}`" for p in one.params if isinstance(p, click.Option)]
        does = (one.help or "").partition("\n\n")[0]
        body.append([f"`{' '.join([name, *words])}`", ", ".join(options), " ".join(does.split())])
    return markdown(["command", "options", "what it does"], body)


def statuses() -> str:
    """A row for each exit status."""
    return markdown(["status", "why"], [[str(one), why] for one, why in STATUSES.items()])


def defences(scale: str) -> str:
    """A row for each defence that `make defences` has compared; means, without their intervals."""
    with open(ROOT / "results" / scale / "all_defences.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    families = [key for key in rows[0] if re.fullmatch(r"family\.\w+", key)]
    head = ["posterior", "defence", "information", "−ln p", "−ln p inside", "68 % holds", "attack"]
    head += ["P(k) kept", *(key.removeprefix("family.") for key in families)]
    head += ["damage left", "no answer", "unproven by"]
    return markdown(head, [_defence(row, families) for row in rows])


def _defence(row: Mapping[str, str], families: Iterable[str]) -> list[str]:
    covered = [float(row[f"clean.{name}_coverage_68"]) for name in ("omega_m", "sigma_8")]
    silent = [float(row[key]) for key in ("clean.rejected", "rejected_attacked")]
    kept = _number(row["bounded"]) + (f" ({why})" if (why := row["bounded.unproven_by"]) else "")
    worst = [
        _number(row[key]) + (" (seen)" if float(row[f"{key}.seen"] or 0) else "")
        for key in families
    ]
    return [
        f"`{row['defence']}`",
        row["kind"].replace("_", " "),
        *(_number(row[key]) for key in ("information", "clean.nll", "inside.nll")),
        ", ".join(f"{share:.2f}" for share in covered),
        _number(row["damage"]),
        kept,
        *worst,
        _number(row["damage_left"]),
        ", ".join(f"{share:.0%}" for share in silent) if any(silent) else "",
        row["unproven_by"].replace(" ", ", "),
    ]


def _number(text: str) -> str:
    return f"{float(text):.3g}".replace("-", "−") if text else ""


def schedules(scale: str) -> str:
    """A row for each schedule of training that was compared."""
    body = []
    for name, row in read_json(ROOT / "results" / scale / "schedules.json").items():
        best = row["best"]
        losses = best["validation_nll"], row["averaged"]["validation_nll"], best["test_nll"]
        body.append(
            [name, str(len(row["history"]["loss"])), f"{row['seconds_per_epoch']:.1f}"]
            + [f"{loss:.3f}".replace("-", "−") for loss in losses]
            + [f"{best[parameter]:.4f}" for parameter in ("omega_m", "sigma_8")]
        )
    head = ["schedule", "epochs", "s an epoch", "−ln p, validation", "… of averaged weights"]
    return markdown([*head, "−ln p, test", "RMSE of Ω_m", "… of σ_8"], body)


def times(scale: str) -> str:
    """How long each stage took, the longest first."""
    seconds = read_json(ROOT / "results" / scale / "times.json")["seconds"]
    whole = sum(seconds.values())
    longest = sorted(seconds.items(), key=lambda one: -one[1])
    body = [[f"`{name}`", _clock(time), f"{time / whole:.0%}"] for name, time in longest]
    return markdown(["stage", "min:s", "of all"], [*body, ["all, one by one", _clock(whole), ""]])


def _clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


def limits(scale: str) -> str:
    """Networks that differ from the target in one thing, and what each reaches."""
    found = read_json(ROOT / "results" / scale / "what_limits.json")
    body = [[f"{name}, {row['epochs']} epochs", *_quality(row)] for name, row in found.items()]
    return markdown(QUALITY, body)


def quality(scale: str) -> str:
    """What the trainings of the target reach, and what P(k) can."""
    found = read_json(ROOT / "results" / scale / "assess.json")
    own, forecast = found["posteriors"], found["fisher"]["rmse_with_prior"]
    target = found["target"].rpartition("_")[0]
    rows = {f"`{name}`": row for name, row in own.items() if name.rpartition("_")[0] == target}
    rows |= {f"`{name}`": own[name] for name in ("ensemble", "power_spectrum") if name in own}
    body = [[name, *_quality(row)] for name, row in rows.items()]
    errors = [f"{forecast[name]:.4f}" for name in ("omega_m", "sigma_8")]
    body.append(["Fisher forecast of P(k), within the prior", "", "", *errors, "", "", "", ""])
    return markdown(QUALITY, body)


QUALITY = ["network", "training maps", "−ln p", "RMSE of Ω_m", "… of σ_8"]
QUALITY += ["RMS of z, Ω_m", "… σ_8", "within 68 %, Ω_m", "… σ_8"]


def _quality(row: Mapping[str, Any]) -> list[str]:
    """Maps, loss, and the errors and calibration of both parameters, with half a 95 % interval."""
    cells = [str(row.get("n_train", "")), _within(row["nll"], 2)]
    for kind, digits in (("rmse", 4), ("z_rms", 2), ("coverage_68", 3)):
        cells += [_within(row[f"{name}_{kind}"], digits) for name in ("omega_m", "sigma_8")]
    return cells


def _within(value: Mapping[str, float], digits: int) -> str:
    """Mean ± half of the interval's width."""
    half = (value["high"] - value["low"]) / 2
    return f"{value['mean']:.{digits}f} ± {half:.{digits}f}".replace("-", "−")


def readings(scale: str) -> str:
    """A row for each reading of the paper on the target."""
    found = read_json(ROOT / "results" / scale / "explained.json")["rows"]
    return markdown(*lines.readings(found, TARGET, found[0]["clip"]))


def agreeing(scale: str) -> str:
    """A row for each reading on the target that agrees with both of the paper's divergences."""
    rows = read_json(ROOT / "results" / scale / "explained.json")["rows"]
    return markdown(*lines.agreeing(rows, TARGET))


def nearest(scale: str) -> str:
    """A row for each network: the reading of the paper that comes nearest to its numbers."""
    return markdown(*lines.nearest(read_json(ROOT / "results" / scale / "explained.json")["rows"]))


def least_changes(scale: str) -> str:
    """A row for each damage: how little P(k) changes in what does so much."""
    rows = read_json(ROOT / "results" / scale / "explained.json")["rows"]
    return markdown(*lines.least_changes(rows))


def figure(name: str) -> str:
    """A figure of the pilot, and how to read it."""
    one = PICTURES[name]
    return f"![{one.alt}](../results/pilot/{name}.png)\n\n{one.read}\n"


def other_figures() -> str:
    """A row for each figure of a network, and how to read it."""
    body = [[f"`{name}.png`", PICTURES[name].read] for name in OF_NETWORKS]
    return markdown(["figure", "how to read it"], body)


def results() -> str:
    """The paper's claims beside the results of each scale."""
    return markdown(*headline.rows(ROOT / "results"))


def markdown(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    lines = [_line(head), _line("---" for _ in head), *(_line(cells) for cells in body)]
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


MEASURED = {
    "defences": defences, "schedules": schedules, "quality": quality, "limits": limits,
    "times": times, "readings": readings, "agreeing readings": agreeing,
    "nearest readings": nearest,
    "least changes": least_changes,
}  # fmt: skip
"""What was measured -> function of the scale that makes the table."""
TABLES = {
    "families": families, "fences": fences, "commands": commands, "statuses": statuses,
    "other figures": other_figures,
    "headline": results,
}  # fmt: skip
"""Name -> function that makes the table."""


def filled(page: str) -> str:
    """A page with its tables made anew."""
    return PLACE.sub(lambda found: f"{found[1]}{table(found[2])}{found[4]}", page)


if __name__ == "__main__":
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if (made := filled(page)) != page:
            path.write_text(made, encoding="utf-8")
            print(f"{path.name}: tables made anew")
