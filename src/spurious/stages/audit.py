"""Stage `audit`: damage against budget, and checks that tell when not to believe a damage."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spurious import figures, seeds, tracking
from spurious.audit import checks, saturation
from spurious.audit.criteria import Check
from spurious.audit.curves import TARGET
from spurious.config import Config
from spurious.data.maps import MapSet
from spurious.files import write_json
from spurious.pipeline.figure_files import figure_files, save_figures
from spurious.pipeline.inputs import bystanders, files, test_set
from spurious.pipeline.layout import Layout
from spurious.pipeline.loading import posterior, target
from spurious.pipeline.outputs import Outputs, replaced_together
from spurious.posteriors.posterior import Posterior
from spurious.report.findings import PAPER_KL

MARKS = {True: "ok", False: "FAILED", None: "-"}


def run(config: Config) -> None:
    """Attack some test maps with every budget; write curves, checks and a figure; print checks."""
    # Every attack is a graph of its own: TensorFlow would warn of that.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    layout, name = Layout(config.scale), config.run.target
    test = sample_maps(test_set(config), config.audit.maps, config.seed)
    others = {other: posterior(config, other) for other in bystanders(config)}
    inputs = [layout.maps, *files(config, name)]
    with (
        tracking.start("audit", config.scale, inputs=inputs) as log,
        replaced_together("audit", outputs(layout)) as out,
    ):
        log.dataset(test, layout.maps, context="test")
        found = examine(config, layout, out, log, name, target(config), test, others)
    print(format_checks(found))


def outputs(layout: Layout) -> list[Path]:
    """What the stage writes."""
    drawn = figure_files(layout, "security_curves")
    return [layout.result("curves.json"), layout.result("audit.json"), *drawn]


def examine(
    config: Config,
    layout: Layout,
    out: Outputs,
    log: tracking.Run,
    name: str,
    attacked: Posterior,
    test: MapSet,
    others: Mapping[str, Posterior],
) -> Sequence[Check]:
    """Curves and checks of a posterior called `name` on these maps: write and log.

    `others` see the maps of attacks on it; attacks on them are transferred to it.
    """
    log.params(config.audit.model_dump() | {"seed": config.seed, "target": name})
    found = checks.run(
        attacked,
        test.maps,
        test.labels,
        box_size=test.box_size,
        settings=config.audit,
        seed=config.seed,
        groups=test.index,
        others=others,
    )
    curves = {"target": name, "n_maps": len(test), **found.curves.as_json()}
    write_json(out.new(layout.result("curves.json")), {"run_id": log.id, **curves})
    strongest = saturation.as_json(found.strongest, found.curves.std, found.curves.weights)
    checked = {**verdicts(found.checks), "strongest": strongest}
    write_json(out.new(layout.result("audit.json")), {"run_id": log.id, **checked})
    drawn = figures.security_curves(curves, PAPER_KL if test.simulated else {})
    save_figures(out, layout, log, {"security_curves": drawn})
    track(log, curves, found.checks)
    return found.checks


def sample_maps(test: MapSet, count: int, seed: int) -> MapSet:
    """A random subset of `count` maps, in their order; all maps if there are no more."""
    drawn = seeds.generator(seed, "audit maps").permutation(len(test))[:count]
    return test.take(np.sort(drawn))


def verdicts(found: Sequence[Check]) -> dict[str, Any]:
    """The metrics file: how many checks failed, and each by name."""
    named = {check.name: check.as_json() for check in found}
    for check in named.values():
        del check["name"]
    return {"failed": sum(check.passed is False for check in found), "checks": named}


def track(log: tracking.Run, curves: Mapping[str, Any], found: Sequence[Check]) -> None:
    """Log one run per perturbation and budget; curves and checks go to the stage's run."""
    series: dict[str, list[float]] = {}
    for curve in curves["curves"]:
        about = {key: curve[key] for key in ("name", "family", "control", "unit")}
        for point in curve["points"]:
            name = f"{curve['name']} {point['budget']:.3g} {curve['unit']}"
            with log.child(name, {"attack": curve["name"]}) as one:
                one.params(about | {key: point[key] for key in ("budget", "std") if key in point})
                one.metrics(_metrics(point))
            for who, response in point["responses"].items():
                of = curve["name"] if who == TARGET else f"{curve['name']}.on_{who}"
                for key, value in response.items():
                    series.setdefault(f"{of}.{key}", []).append(value["mean"])
    log.series({key: values for key, values in series.items() if None not in values})
    log.metrics({f"check.{check.name}": check.value for check in found if check.value is not None})
    log.metrics({"checks_failed": sum(check.passed is False for check in found)})


def format_checks(found: Sequence[Check]) -> str:
    """The checks for a terminal: verdict, name, value, threshold, what was found."""
    width = max(len(check.name) for check in found)
    lines = []
    for check in found:
        value = "-" if check.value is None else f"{check.value:.3g}"
        about = f"{check.name:{width}s}  {value:>9s} ({check.threshold:g})  {check.sentence}"
        lines.append(f"{MARKS[check.passed]:6s}  {about}")
        if check.passed is False:
            lines.append(f"{'':8s}see {check.page}")
    return "\n".join(lines)


def _metrics(point: Mapping[str, Any]) -> dict[str, float]:
    """Damage at one budget; keys of other posteriors begin with their name."""
    metrics = {"rms_counts": point["rms_counts"]}
    for who, response in point["responses"].items():
        prefix = "" if who == TARGET else f"{who}."
        metrics |= {f"{prefix}{k}": v for k, v in tracking.numbers(response).items()}
    return {key: value for key, value in metrics.items() if value is not None}
