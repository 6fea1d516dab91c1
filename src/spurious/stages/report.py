"""Stage `report`: the paper's figures for our maps, and all results in one HTML file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from spurious import figures, seeds, tracking
from spurious.config import Config, Network, winner
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.description.fields import filled
from spurious.detection.detector import FEWEST
from spurious.errors import UserError
from spurious.figures import map_posteriors
from spurious.files import absent, replacing, write_json
from spurious.pipeline import schemas
from spurious.pipeline.figure_files import dark_png, figure_files, save_figures
from spurious.pipeline.inputs import attack_rows, files, test_set, winner_rows
from spurious.pipeline.layout import VERIFY_METRICS, Layout, reference_maps
from spurious.pipeline.loading import target
from spurious.pipeline.outputs import Outputs, replaced_together
from spurious.report import findings, page
from spurious.report.flip import flipped, labelled
from spurious.report.machine import machine
from spurious.report.metrics import select_metrics
from spurious.report.verdict import verdict

DEFENCES = ("defences_budget", "defences_trade")
DRAWN = ("headline", "overview", "figure_1", "figure_2")  # here
PICTURES = (
    "damage", "spectra", "detection", "security_curves", "posteriors", *DEFENCES,
)  # fmt: skip
# Of the posterior that is attacked.
OF_TARGET = ("predicted", "error_plane", "coverage", "pit", "sbc", "tarp", "learning_curve")
FIGURE_ATTACKS = ("bim", "systematic")
RESULTS = {
    "detection": schemas.Detection,
    "audit": schemas.Audit,
    "assess": schemas.Assess,
    "search": schemas.Search,
    "compare": schemas.Compare,
}


def run(config: Config) -> None:
    """Write the report as HTML and Markdown, its few metrics, and the figures drawn here."""
    layout = Layout(config.scale)
    inputs = [layout.maps, *files(config, config.run.target)]
    if not own_maps(read_maps(layout.maps)):
        inputs.insert(0, reference_maps())
    about, pictures = context(config, layout, inputs), images(config, layout)
    with (
        tracking.start("report", config.scale, inputs=inputs) as log,
        replaced_together("report", outputs(layout)) as out,
    ):
        dark = draw(config, layout, out, log, about)
        about["flip"] = flip(config)
        pictures |= {name: out.new(figure(layout, name)).read_bytes() for name in DRAWN}
        texts = {
            layout.report: page.render(about, pictures, dark),
            layout.result("report.md"): page.render_markdown(about, pictures),
        }
        for path, text in texts.items():
            with replacing(out.new(path)) as temporary:
                temporary.write_text(text, encoding="utf-8")
            log.artifact(out.new(path))
        write_json(out.new(layout.result("metrics.json")), about["metrics"])
        log.metrics(about["metrics"])
    print(f"The report: {layout.report}")


def outputs(layout: Layout) -> list[Path]:
    """What the stage writes."""
    results = [layout.result("report.md"), layout.result("metrics.json")]
    return [layout.report, *results, *figure_files(layout, *DRAWN)]


def figure(layout: Layout, name: str) -> Path:
    """Where a picture is."""
    return layout.result(f"{name}.png")


def images(config: Config, layout: Layout) -> dict[str, bytes]:
    """Pictures of other stages by name; optional ones only if they exist.

    Raises:
        UserError: one is missing that every run has.
    """
    folder = layout.result(f"posteriors/{config.run.target}")
    compared = defences(config, layout) is not None
    paths = {name: figure(layout, name) for name in PICTURES if compared or name not in DEFENCES}
    if missing := [path for path in paths.values() if not path.is_file()]:
        raise UserError(absent(missing[0]))
    paths |= {name: folder / f"{name}.png" for name in OF_TARGET}
    paths["pareto"] = figure(layout, "pareto")
    paths |= {f"search_{n}": layout.result(f"search/{n}.png") for n in config.search.families}
    return {name: path.read_bytes() for name, path in paths.items() if path.exists()}


def draw(
    config: Config, layout: Layout, out: Outputs, log: tracking.Run, about: Mapping[str, Any]
) -> dict[str, bytes]:
    """The figures of the report for test maps drawn at random; by name, those for a dark page."""
    test = test_set(config)
    groups = config.attacked
    shown = [name for name in FIGURE_ATTACKS if name in groups] or list(groups)[:2]
    attacked = {name: read_maps(layout.attacked(groups[name], name)) for name in shown}
    rows = examples(config, len(test))
    posterior, name = target(config), about["verdict"].name
    worst = read_maps(attacked_maps(config, layout, name))
    shown_row = rows[0] if len(worst) == len(test) else 0
    verdicts = {name: found["verdict"] for name, found in about["judged"].items()}
    drawn = {
        "headline": map_posteriors.headline(shown_row, test, name, worst, posterior),
        "overview": figures.damage_against_power(about["attacks"], verdicts),
        "figure_1": map_posteriors.workflow(rows[0], test, attacked, posterior),
        "figure_2": map_posteriors.examples(rows, test, attacked, posterior),
    }
    save_figures(out, layout, log, drawn)
    return {name: dark_png(figure) for name, figure in drawn.items()}


def examples(config: Config, count: int) -> np.ndarray:
    """Numbers of the test maps that the figures show, drawn at random."""
    generator = seeds.generator(config.seed, "examples")
    return generator.choice(count, config.report.examples, replace=False)


def flip(config: Config) -> dict[str, Any]:
    """The map of Figure 1 at every budget of the security curves."""
    test, posterior = test_set(config), target(config)
    linf = config.audit.linf
    counts = linf.counts(posterior.standardiser.std)
    budgets = dict(zip(labelled(linf.values, linf.unit), counts, strict=True))
    shown = test.maps[examples(config, len(test))[0]]
    return flipped(shown, budgets, posterior, config.audit.steps, config.seed)


def attacked_maps(config: Config, layout: Layout, name: str) -> Path:
    """The test maps as changed by an attack or by a winner of the search."""
    families = {winner(family): family for family in config.search.families}
    if name in families:
        return layout.attacked("search", families[name])
    return layout.attacked(config.attacked[name], name)


def context(config: Config, layout: Layout, inputs: list[Path]) -> dict[str, Any]:
    """Everything that the template needs, from the other stages' files."""
    rows = attack_rows(config) | winner_rows(config)
    detection, audit, assessed, search, compared = (
        schemas.read(layout.result(f"{name}.json"), schema) for name, schema in RESULTS.items()
    )
    defended = defences(config, layout)
    data = read_maps(layout.maps)
    own = own_maps(data)
    _check_alike(rows, detection, layout)
    _check_parameters(data.names, rows, assessed, defended, layout)
    judged = {name: found["judgement"] for name, found in detection.items()}
    simulated = {} if own else about_simulations(config, data)
    return {
        "scale": config.scale,
        "n_maps": len(data.maps) if own else config.simulation.simulations,
        "names": data.names,
        "own": own,
        "documented": Path("docs/index.md").exists(),
        "attacks": rows,
        "groups": page.grouped(rows),
        "judged": judged,
        "verdicts": page.verdicts(rows, judged),
        "checks": audit["checks"],
        "target": config.run.target,
        "trainings": config.trainings(config.run.target),
        "network": assessed["posteriors"][assessed["target"]],
        "assessed": assessed,
        "others": page.others(rows),
        "n_test": len(test_set(config)),
        "search": search,
        "defended": defended,
        "transfer_columns": page.transfer_columns(search["families"]),
        "verdict": verdict(rows, judged, informed(config)),
        "findings": findings.findings(rows, judged, search, assessed, audit["checks"], bool(own)),
        "metrics": select_metrics(rows, judged, search, assessed, audit["checks"], defended),
        "reasons": page.reasons(rows, config.run.target),
        "runs": recorded(config),
        "machine": machine(),
        "pairs": findings.pairs(compared["pairs"]),
        "differences": [] if own else page.differences(rows, target(config).standardiser.std),
        **simulated,
        "provenance": tracking.provenance(inputs, Path("params.yaml")),
        "parameters": yaml.safe_dump(resolved(config), sort_keys=False),
    }


def informed(config: Config) -> set[str]:
    """The attacks that are made with knowledge of a network."""
    return {
        name
        for group in config.attacks.values()
        for name, entry in group.items()
        if "posterior" in filled(entry.CLASS)
    }


def defences(config: Config, layout: Layout) -> dict[str, Any] | None:
    """`defences.json`; None where there is none to compare, and the stage was left out."""
    path = layout.result("defences.json")
    if not config.run.defences and not path.exists():
        return None
    found: dict[str, Any] = schemas.read(path, schemas.Defences)
    return found


def own_maps(data: MapSet) -> str:
    """What is to be said of maps that were not simulated here; nothing of those that were."""
    if data.simulated:
        return ""
    n, drawn = data.maps.shape[-1], map_posteriors.plane(data.names)
    shown = " and ".join(data.names[column] for column in drawn)
    return (
        f"These maps were not simulated here: {len(data)} maps of {n} × {n} pixels, "
        f"{data.box_size:g} Mpc/h wide, with the parameters {', '.join(data.names)}. “Counts” are "
        f"their own unit: {data.unit}. Posteriors are drawn over {shown}, whatever the others. "
        "What is said elsewhere of the engine’s verification, of baryons at low Ω_m and of the "
        "paper’s numbers is left out."
    )


def about_simulations(config: Config, data: MapSet) -> dict[str, Any]:
    """What only holds of maps that were simulated here."""
    omega_m_low = float(data.labels[:, data.names.index("omega_m")].min())
    return {
        "verify": schemas.read(VERIFY_METRICS, schemas.Verify),
        "omega_m_low": omega_m_low,
        "baryon_fraction": config.background.omega_b / omega_m_low,
    }


def _check_parameters(
    names: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    assessed: Mapping[str, Any],
    defended: Mapping[str, Any] | None,
    layout: Layout,
) -> None:
    """Refuse results of runs on maps with other parameters."""
    network = assessed["posteriors"][assessed["target"]]
    found = {f"results of {name}": findings.parameters(row, "shift_") for name, row in rows.items()}
    found[str(layout.result("assess.json"))] = findings.parameters(network, "", "_rmse")
    for name, row in ({} if defended is None else defended["defences"]).items():
        where = f"{layout.result('defences.json')}: defences.{name}.clean"
        found[where] = findings.parameters(row["clean"], "", "_rmse")
    for where, given in found.items():
        if set(given) != set(names):
            raise UserError(
                f"{where}: the parameters are {', '.join(given)}, those of {layout.maps} "
                f"{', '.join(names)}; make them again"
            )


def recorded(config: Config) -> list[dict[str, Any]]:
    """The runs in which the results were made, where runs are tracked; this one has not ended."""
    if os.environ.get("SPURIOUS_TRACKING") == "off":
        return []
    return [run for run in tracking.last_runs(config.scale) if run["name"] != "report"]


def _check_alike(
    rows: Mapping[str, Mapping[str, Any]], detection: Mapping[str, Any], layout: Layout
) -> None:
    """Refuse files of runs with other attacks or posteriors."""
    asked = page.others(rows)
    for name, row in rows.items():
        for other in asked:
            if other not in row["others"]:
                raise UserError(f"results of {name}: others.{other}: missing; make them again")
    path = layout.result("detection.json")
    enough = {name for name, row in rows.items() if row["n_maps"] >= 3 * FEWEST}  # a map an axis
    for name in sorted((enough - detection.keys()) | (detection.keys() - rows.keys())):
        why = "missing" if name in rows else "no such attack is run"
        raise UserError(f"{path}: {name}: {why}; run `spurious compare`")


def resolved(config: Config) -> dict[str, Any]:
    """All parameters as used: each network's training includes the shared settings."""
    parameters = config.model_dump(mode="json")
    for name, entry in config.posteriors.items():
        if isinstance(entry, Network):
            used = entry.trained(config.training).model_dump(mode="json")
            parameters["posteriors"][name]["training"] = used
    return parameters
