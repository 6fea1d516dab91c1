"""Stage `defend`: what each defence costs, and what damage it avoids, beside the undefended target.

The target is measured first, by its first training; the defences then side by side. Each is one
training, so intervals are over maps alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from spurious import figures, tracking
from spurious.config import Config
from spurious.data.maps import MapSet
from spurious.defences.evaluation import Reference, Scene, evaluate
from spurious.defences.ranking import card, winner
from spurious.defences.worst_systematics import random_members
from spurious.errors import UserError, one_of, shown
from spurious.files import md5, write_json
from spurious.pipeline import code
from spurious.pipeline.confirmation import halves
from spurious.pipeline.figure_files import figure_files, save_figures
from spurious.pipeline.inputs import check_models, files, split_of, test_set
from spurious.pipeline.kept_rows import KeptRows
from spurious.pipeline.layout import Layout
from spurious.pipeline.loading import posterior
from spurious.pipeline.outputs import replaced_together
from spurious.pipeline.schemas import Search, read
from spurious.posteriors.posterior import Posterior
from spurious.posteriors.trained import Ensemble, NetworkPosterior
from spurious.processes import side_by_side
from spurious.report.defence_table import format_table, line, write_table
from spurious.search.families import build_families, build_family
from spurious.search.goals import check_goal
from spurious.stages.audit import sample_maps

PIPELINE, NAMED = "defences", "all_defences"
"""What results are called: those of `run.defences`, which DVC keeps, and those of other names."""
FIGURES = ("budget", "trade")


def run(config: Config, names: Sequence[str] = ()) -> None:
    """Measure the target and each defence; write the table, the rows and two figures.

    Results of given names go beside those of the pipeline, which belong to DVC. A comparison that
    is killed goes on after the rows that it has finished; only the target is measured again.

    Args:
        config: the configuration.
        names: posteriors or ensembles; by default those of `run.defences`.

    Raises:
        UserError: a name is none that can be compared with the target, or is not trained.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # every attack is a graph of its own
    compared, target = checked(config, names or config.run.defences), config.run.target
    layout, title = Layout(config.scale), NAMED if names else PIPELINE
    check_models(config, [target, *compared])
    check_goal(config.search.goal, test_set(config).names)
    inputs = [layout.maps, *(path for name in [target, *compared] for path in files(config, name))]
    with (
        tracking.start("defend", config.scale, inputs=list(dict.fromkeys(inputs))) as log,
        replaced_together(f"defend-{title}", outputs(layout, title)) as out,
    ):
        about = config.defend.model_dump() | {"seed": config.seed, "target": target}
        log.params(about | {"defences": ",".join(compared)})
        print(f"{target}, without a defence:", flush=True)
        row, reference = _measured(config, compared, target, None, log)
        kept = KeptRows(layout.checkpoints("defend") / title)
        kept.sweep()
        tasks = [(config, compared, name, reference, log, kept) for name in compared]
        processes = config.execution.processes
        made = side_by_side(_row, tasks, processes, desc="defences", unit="defence")
        rows = {target: row, **dict(zip(compared, made, strict=True))}
        best = winner(rows, target, config.defend.keep)
        result = {"target": target, "winner": best, "defences": rows} | _about(config, compared)
        write_json(out.new(layout.result(f"{title}.json")), {"run_id": log.id, **result})
        write_table(out.new(layout.result(f"{title}.csv")), rows)
        log.artifact(out.new(layout.result(f"{title}.csv")))
        save_figures(out, layout, log, draw_figures(result, title))
        if best is not None:
            register(config, best, rows, log)
    kept.clear()
    print(format_table(rows, best))


def outputs(layout: Layout, title: str = PIPELINE) -> list[Path]:
    """What the stage writes."""
    drawn = figure_files(layout, *(f"{title}_{name}" for name in FIGURES))
    return [layout.result(f"{title}.json"), layout.result(f"{title}.csv"), *drawn]


def checked(config: Config, names: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises:
        UserError: one is neither a posterior nor an ensemble, is the target, or was trained on
            some of the target's test maps.
    """
    target, allowed = config.run.target, [*config.posteriors, *config.ensembles]
    for name in names:
        if name not in allowed or name == target:
            others = [one for one in allowed if one != target]
            raise UserError(f"defence = {shown(name)}: {one_of(name, others)}")
        if split_of(config, name) != split_of(config, target):
            raise UserError(
                f"defence = {name!r}: has the split {split_of(config, name)}, the target "
                f"{split_of(config, target)}"
            )
        if undeclared := config.undeclared(name):
            raise UserError(undeclared)
    return list(dict.fromkeys(names))


def scene(config: Config, names: Sequence[str]) -> Scene:
    """The maps on which the target and these defences are measured; the same in every process."""
    settings, test = config.defend, test_set(config)
    searched, confirming = halves(config, test)
    families = build_families(config.search, test.box_size, config.seed)
    return Scene(
        test=test,
        attacked=sample_maps(test, settings.maps, config.seed),
        inside=inside(config, names, test),
        searched=searched,
        confirming=confirming,
        families={name: families[name] for name in config.tested_families},
        known=known(config),
        search=config.search,
        settings=settings,
        seed=config.seed,
    )


def known(config: Config) -> dict[str, dict[str, float]]:
    """Parameters of the worst systematic of each family that the stage `search` has found."""
    found = read(Layout(config.scale).result("search.json"), Search)["families"]
    return {
        name: found[name]["parameters"]
        for name in config.tested_families
        if "parameters" in found.get(name, {})
    }


def inside(config: Config, names: Sequence[str], test: MapSet) -> MapSet | None:
    """The test maps, each through a random systematic that a defence was trained over.

    All posteriors are shown the same; None if no defence was trained over any.
    """
    trained = {key: one for name in names for key, one in config.trained_over(name).items()}
    if not trained:
        return None
    families = [
        build_family(name, one, test.box_size, config.seed) for name, one in trained.items()
    ]
    return replace(test, maps=random_members(families, test.maps, config.seed))


def _row(
    config: Config,
    names: Sequence[str],
    name: str,
    reference: Reference,
    log: tracking.Run,
    kept: KeptRows,
) -> dict[str, Any]:
    """The row of a defence; perhaps in a process of its own."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    of = depends_on(config, names, name)
    return kept.get(name, of, lambda: _measured(config, names, name, reference, log)[0])


def depends_on(config: Config, names: Sequence[str], name: str) -> str:
    """What identifies a row: parameters, maps, networks, code, and the systematics of `inside`."""
    layout, target = Layout(config.scale), config.run.target
    stored = [layout.maps, *files(config, target), *files(config, name)]
    trained = sorted({key for one in names for key in config.trained_over(one)})
    kept = [
        config.model_dump_json(exclude={"execution"}),
        *map(md5, stored),
        *trained,
        code.fingerprint("defend"),
    ]
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()


def _measured(
    config: Config,
    names: Sequence[str],
    name: str,
    reference: Reference | None,
    log: tracking.Run,
) -> tuple[dict[str, Any], Reference]:
    """One posterior as a run of its own."""
    with log.child(f"defence {name}", {"defence": name}) as own:
        row, mine = evaluate(posterior(config, name), scene(config, names), reference)
        seen = config.seen(name)
        for family, found in row["families"].items():
            found["kind"] = config.search.families[family].kind
            found["seen"] = found["kind"] in seen
        row["kind"] = _kind(config, name)
        own.params({"defence": name, "kind": row["kind"], "made_of": config.members(name)})
        own.metrics(line(row))
        return row, mine


def _kind(config: Config, name: str) -> str:
    """What a reader should know a defence as."""
    entry = config.posteriors.get(name)
    defence = getattr(entry, "defence", None)
    return str(getattr(defence, "kind", getattr(entry, "kind", "ensemble")))


def _about(config: Config, names: Sequence[str]) -> dict[str, Any]:
    """What a reader of the rows must know of all of them."""
    families = {key: one.kind for name in names for key, one in config.trained_over(name).items()}
    settings = config.defend
    return {
        "epsilon": settings.epsilon.model_dump(),
        "fraction": settings.fraction,
        "n_attacked": settings.maps,
        "keep": settings.keep,
        "inside": sorted(families),
    }


def draw_figures(result: Mapping[str, Any], title: str) -> dict[str, Figure]:
    """The two figures."""
    drawn = (figures.damage_against_budget(result), figures.information_against_damage(result))
    return {f"{title}_{name}": figure for name, figure in zip(FIGURES, drawn, strict=True)}


def register(
    config: Config, name: str, rows: Mapping[str, Mapping[str, Any]], log: tracking.Run
) -> None:
    """The winner in the model registry as `<scale>-defended`, with its card.

    Of a posterior that is made of others, the first network that it is made of; the card says what
    is made of it.
    """
    entry = config.posteriors.get(name)
    made_of = config.ensembles.get(name) if entry is None else entry.model_dump(mode="json")
    text = card(name, rows[name], rows[config.run.target], yaml.safe_dump(made_of))
    network, example = first_network(posterior(config, name)), test_set(config).maps[:2]
    log.model(network.model, example, f"{config.scale}-defended", card=text)


def first_network(one: Posterior) -> NetworkPosterior:
    """The network of a posterior, or the first of those that it is made of."""
    while not isinstance(one, NetworkPosterior):
        one = one.members[0] if isinstance(one, Ensemble) else getattr(one, "inner")  # noqa: B009
    return one
