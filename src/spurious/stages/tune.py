"""Stage `tune`: better architectures and training settings, by the validation loss alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from spurious import config as sections
from spurious import figures, tracking
from spurious.config import Config
from spurious.data.hdf5 import read_maps
from spurious.defences.build import of_posterior
from spurious.errors import UserError
from spurious.files import sweep, write_json
from spurious.pipeline.figure_files import figure_files, save_figures
from spurious.pipeline.inputs import parts
from spurious.pipeline.layout import STUDY, Layout
from spurious.pipeline.outputs import replaced_together
from spurious.training import tuning
from spurious.training.tuning_result import Result


def run(config: Config, trials: int | None = None) -> None:
    """Run the study; write `results/<scale>/tune.json` and figures; print the best entry.

    `trials` takes the place of `config.tune.trials`.
    """
    layout, (name, base) = Layout(config.scale), to_beat(config)
    settings = config.tune if trials is None else config.tune.model_copy(update={"trials": trials})
    data = read_maps(layout.maps)
    split = parts(config, data, base.split)
    defence = of_posterior(name, base, data.take(split.train), config.seed)
    with (
        tracking.start("tune", config.scale, inputs=[layout.maps]) as log,
        replaced_together("tune", outputs(layout)) as out,
    ):
        sweep(layout.checkpoints("tune"))
        log.params(settings.model_dump() | {"base": name, "seed": config.seed})
        log.dataset(data, layout.maps, context="training")
        result = tuning.run(
            settings,
            data,
            split,
            base,
            config.training,
            config.seed,
            STUDY,
            layout.checkpoints("tune"),
            defence=defence,
        )
        path = out.new(layout.result("tune.json"))
        write_json(path, {"run_id": log.id, "base": name, **result.to_json()})
        log.metrics(tracking.numbers(result.to_json()))
        log.series({"best_so_far": [value for value in result.best_so_far if value is not None]})
        log.artifact(path)
        save_figures(out, layout, log, draw_figures(result))
    print(format_outcome(result, name))


def outputs(layout: Layout) -> list[Path]:
    """What the stage writes."""
    drawn = figure_files(layout, "tuning_history", "tuning_importances")
    return [layout.result("tune.json"), *drawn]


def to_beat(config: Config) -> tuple[str, sections.Network]:
    """The network of the first trial and its name."""
    name = config.tune.base or config.run.target
    base = config.posteriors.get(name)
    if not isinstance(base, sections.Network):
        networks = [k for k, v in config.posteriors.items() if isinstance(v, sections.Network)]
        raise UserError(f"tune.base = {name!r}: must be a network, one of {', '.join(networks)}")
    return name, base


def draw_figures(result: Result) -> dict[str, Figure]:
    """The figures of this stage."""
    values = [one.value for one in result.trials]
    return {
        "tuning_history": figures.tuning_history(values, result.best_so_far),
        "tuning_importances": figures.tuning_importances(
            result.importances, result.count("complete")
        ),
    }


def format_outcome(result: Result, name: str) -> str:
    """The outcome, and the entry to paste into params.yaml."""
    best, default = result.best, result.default
    counts = ", ".join(f"{result.count(how)} {how}" for how in ("complete", "pruned", "diverged"))
    lines = [f"{len(result.trials)} trials: {counts}"]
    if best is None or default is None or default.value is None:
        return lines[0]
    lines.append(f"validation loss of {name}: {default.value:.4f} nats a map")
    if best.index == 0:
        return "\n".join([*lines, "no trial beats it"])
    lines.append(
        f"best, trial {best.index}: {best.value:.4f}, flattered by the maps that chose it. "
        "To train and test it,\nput this into `posteriors` of params.yaml:"
    )
    return "\n".join([*lines, "", pasteable(best.entry)])


def pasteable(entry: dict[str, Any], name: str = "tuned") -> str:
    """An entry of `posteriors` as YAML, indented as in params.yaml."""
    text = yaml.safe_dump({name: entry}, sort_keys=False, default_flow_style=None, width=100)
    return "".join(f"  {line}" for line in text.splitlines(keepends=True)).rstrip()
