"""Stage `assess`: all posteriors compared, and with what the power spectrum can tell."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spurious import figures, tracking
from spurious.config import Config, Likelihood
from spurious.data.hdf5 import read_maps
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.files import replacing, write_json
from spurious.networks.layers import log_power
from spurious.pipeline import inputs
from spurious.pipeline.figure_files import figure_files, save_figures
from spurious.pipeline.inputs import files
from spurious.pipeline.layout import Layout
from spurious.pipeline.loading import Posteriors
from spurious.pipeline.outputs import replaced_together
from spurious.pipeline.schemas import TrainedPosterior, read
from spurious.quality import assessment, fisher
from spurious.quality.assessment import Assessment, assess

COLUMNS = ("rmse", "r2", "relative_error", "z_mean", "z_rms", "coverage_68", "coverage_95")


def run(config: Config) -> None:
    """Write `assess.json`, `posteriors.csv` and `posteriors.png` below `results/<scale>/`."""
    layout, data = Layout(config.scale), read_maps(Layout(config.scale).maps)
    owners = labelled(config)
    inputs.check_models(config, config.run.posteriors)
    about = {label: described(config, *owner) for label, owner in owners.items()}
    read = [layout.maps, *(file for name in config.run.posteriors for file in files(config, name))]
    with (
        tracking.start("assess", config.scale, inputs=read) as log,
        replaced_together("assess", outputs(layout)) as out,
    ):
        log.params({"posteriors": ",".join(owners), "seed": config.seed})
        posterior = Posteriors(config)
        tests = {label: inputs.test_set(config, name) for label, (name, _) in owners.items()}
        found = {
            label: assess(
                posterior.trainings(name)[number - 1],
                tests[label],
                inputs.ranges(data),
                config.seed,
            )
            for label, (name, number) in owners.items()
        }
        rows = {label: about[label] | found[label].row() for label in owners}
        target = label_of(config, config.run.target, 1)
        result: dict[str, Any] = {
            "target": target,
            "posteriors": rows,
            "ratios": ratios(config, found, tests[target]),
            "fisher": forecast(config, data),
        }
        write_json(out.new(layout.result("assess.json")), {"run_id": log.id, **result})
        write_table(out.new(layout.result("posteriors.csv")), rows)
        for name, row in rows.items():
            log.metrics({f"{name}.{k}": v for k, v in tracking.numbers(row).items()})
        log.artifact(out.new(layout.result("posteriors.csv")))
        expected = result["fisher"].get("rmse_with_prior")
        bars = figures.posterior_bars(rows, data.names, expected)
        save_figures(out, layout, log, {"posteriors": bars})
    print(format_scores(rows, data.names))
    print(format_ratios(result, data.names))


def outputs(layout: Layout) -> list[Path]:
    """What the stage writes."""
    drawn = figure_files(layout, "posteriors")
    return [layout.result("assess.json"), layout.result("posteriors.csv"), *drawn]


def labelled(config: Config) -> dict[str, tuple[str, int]]:
    """Label -> (name, number of the training) of every network, estimator and ensemble."""
    return {
        label_of(config, name, number): (name, number)
        for name in config.run.present
        for number in range(1, config.trainings(name) + 1)
    }


def label_of(config: Config, name: str, training: int) -> str:
    """The name, with the training's number where there are several."""
    return config.labels(name)[training - 1]


def described(config: Config, name: str, training: int) -> dict[str, Any]:
    """The kind of a posterior and its numbers of maps; for an ensemble, its members."""
    what = {"split": inputs.split_of(config, name)}
    if members := config.members(name):
        kind = getattr(config.posteriors.get(name), "kind", "ensemble")
        return {"kind": kind, "members": members, **what}
    path = Layout(config.scale).result(f"posteriors/{name}.json")
    every = read(path, TrainedPosterior)
    every = [every, *every.get("others", [])]
    if training > len(every):
        raise UserError(
            f"{path}: has {len(every)} trainings, posteriors.{name}.trainings asks for "
            f"{config.trainings(name)}: run `spurious train {name}`"
        )
    kept = every[training - 1]
    sizes = {key: kept[key] for key in ("n_train", "n_validation", "n_test", "temperature")}
    return {"kind": config.posteriors[name].kind, **what, **sizes}


def ratios(config: Config, found: Mapping[str, Assessment], test: MapSet) -> dict[str, Any]:
    """RMSE of every posterior over that of each power-spectrum estimator: baseline -> posterior.

    Only posteriors tested on the same maps as the target are compared, and only the first of
    several trainings.
    """
    alike = [label_of(config, name, 1) for name in (config.run.target, *inputs.bystanders(config))]
    return {
        baseline: {
            name: assessment.rmse_ratios(found[name], found[baseline], test, config.seed)
            for name in alike
            if name != baseline
        }
        for baseline in alike
        if sees_only_power(config, baseline)
    }


def sees_only_power(config: Config, name: str) -> bool:
    """Whether a posterior sees only the power spectrum of a map."""
    settings = config.posteriors.get(name)  # a baseline has one training, so its label is its name
    return isinstance(settings, Likelihood) or getattr(settings, "preset", "") == "power_spectrum"


def forecast(config: Config, data: MapSet) -> dict[str, Any]:
    """The Fisher forecast of ln P(k), from the target's training simulations.

    Where they are too few for it, `left_out` says why.
    """
    kind = inputs.split_of(config, config.run.target)
    train = data.take(inputs.parts(config, data, kind).train)
    power = log_power(train.maps, data.box_size)
    try:
        made = fisher.forecast(train.labels, power, inputs.ranges(data))
    except UserError as error:
        return {"left_out": str(error)}
    differences = fisher.from_differences(train.labels, power, inputs.ranges(data))
    return {
        "n_maps": len(train),
        "degree": made.degree,
        "rmse": made.rmse,
        "rmse_with_prior": made.rmse_with_prior,
        "differences": differences and differences.rmse_with_prior,
    }


def write_table(path: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """One line per posterior: each metric `x` and the ends of its interval, `x.low`, `x.high`."""
    lines = [{"posterior": name, **tracking.numbers(row)} for name, row in rows.items()]
    fields = list(dict.fromkeys(key for line in lines for key in line))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(lines)


def format_scores(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """The table for a terminal, one block per parameter."""
    lines = []
    for parameter in names:
        lines.append(f"{parameter:20s}" + "".join(f"{column:>15s}" for column in COLUMNS))
        for name, row in rows.items():
            cells = (f"{row[f'{parameter}_{column}']['mean']:15.4f}" for column in COLUMNS)
            lines.append(f"  {name:18s}" + "".join(cells))
    return "\n".join(lines)


def format_ratios(result: Mapping[str, Any], names: Sequence[str]) -> str:
    """The target's RMSE over those of the power spectrum, and the forecast."""
    lines = []
    for baseline, ratios in result["ratios"].items():
        for name in names:
            if result["target"] in ratios:
                ratio = ratios[result["target"]][name]
                lines.append(
                    f"RMSE of {name}, {result['target']} over {baseline}: {ratio['mean']:.3f} "
                    f"[{ratio['low']:.3f}, {ratio['high']:.3f}]"
                )
    if why := result["fisher"].get("left_out"):
        return "\n".join([*lines, f"Fisher forecast of P(k): left out, {why}"])
    expected = result["fisher"]["rmse_with_prior"]
    forecasts = ", ".join(f"{name} {expected[name]:.4f}" for name in names)
    lines.append(f"Fisher forecast of P(k) within the prior: {forecasts}")
    return "\n".join(lines)
