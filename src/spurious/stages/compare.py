"""Stage `compare`: the attacks side by side, and how far apart their posteriors are."""

from __future__ import annotations

from itertools import combinations

from spurious import report, tracking
from spurious.bootstrap import bootstrap_weights, mean_interval
from spurious.config import Config
from spurious.damage import disagreement
from spurious.files import write_json
from spurious.maps import read_maps
from spurious.stages.inputs import attack_rows, files, target, test_set
from spurious.stages.layout import Layout
from spurious.stages.output import save_figures
from spurious.stages.table import drawn, told, write_table


def run(config: Config) -> None:
    """Write `results/<scale>/attacks.csv`, the KL of every pair of attacks, and two figures."""
    layout, names = Layout(config.scale), config.run.attacks
    test, posterior = test_set(config), target(config)
    rows = attack_rows(config)
    attacked = {name: read_maps(layout.attacked(name)) for name in names}
    weights = bootstrap_weights(len(test), config.seed, test.index)
    whole = [name for name in names if len(attacked[name]) == len(test)]
    pairs = {
        f"{first}_and_{second}": mean_interval(
            disagreement(attacked[first].maps, attacked[second].maps, posterior), weights
        )
        for first, second in combinations(whole, 2)
    }
    inputs = [
        layout.maps,
        *files(config, config.run.target),
        *(layout.attacked(name) for name in names),
    ]
    with tracking.start("compare", config.scale, inputs=inputs) as log:
        log.params({"attacks": ",".join(names)})
        write_table(layout.result("attacks.csv"), rows)
        write_json(layout.result("compare.json"), {"run_id": log.id, "kl_symmetrised": pairs})
        log.metrics({f"kl_symmetrised.{name}": pair["mean"] for name, pair in pairs.items()})
        log.artifact(layout.result("attacks.csv"))
        save_figures(layout, log, drawn(rows, report.PAPER_KL))
    print(told(rows))
    for name, pair in pairs.items():
        print(
            f"symmetrised KL of {name}: {pair['mean']:.3g} [{pair['low']:.3g}, {pair['high']:.3g}]"
        )
