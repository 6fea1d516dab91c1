"""Stage `search`: the worst systematic within the fence, and whether it holds on other maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from spurious import figures, seeds, tracking
from spurious.config import Config
from spurious.damage import measure, posterior_change
from spurious.files import md5, write_json
from spurious.inference.posterior import Posterior
from spurious.maps import MapSet
from spurious.perturbations.systematics import Logistic
from spurious.search import study
from spurious.search.result import Result
from spurious.stages.inputs import bystanders, files, split_of, target, test_set
from spurious.stages.inputs import posterior as load
from spurious.stages.layout import STUDY, Layout
from spurious.stages.output import save_figures


def run(config: Config) -> None:
    """Search on some test maps, confirm on the others; write the study, metrics and figures."""
    layout = Layout(config.scale)
    test, posterior = test_set(config), target(config)
    searched, confirming = halves(config, test)
    networks = files(config, config.run.target)
    inputs = [layout.maps, *networks]
    with tracking.start("search", config.scale, inputs=inputs) as log:
        log.params(config.search.model_dump() | {"seed": config.seed})
        log.dataset(searched, layout.maps, context="search")
        result = study.run(
            config.search,
            searched.maps,
            posterior,
            test.box_size,
            STUDY,
            config.seed,
            fingerprint="".join(md5(path) for path in networks),
        )
        metrics = summary(config, result, posterior, searched, confirming)
        transferred = transfer(config, result, searched, confirming)
        write_json(layout.result("study.json"), result.to_json())
        write_json(
            layout.result("search.json"), {"run_id": log.id, **metrics, "transfer": transferred}
        )
        log.metrics({name: value for name, value in metrics.items() if value is not None})
        for name, row in transferred.items():
            log.metrics({f"transfer.{name}.{k}": v for k, v in tracking.numbers(row).items()})
        log.series({"best_kl": [h["best_so_far"] or 0.0 for h in result.to_json()["history"]]})
        log.artifact(layout.result("study.json"))
        save_figures(layout, log, drawn(result, metrics))
    print(told(metrics))


def halves(config: Config, test: MapSet) -> tuple[MapSet, MapSet]:
    """The maps of the search, of test simulations drawn at random, and those of all others."""
    simulations = np.unique(test.index)
    order = seeds.generator(config.seed, "search maps").permutation(simulations)
    searched = np.isin(test.index, order[: config.search.maps])
    return test.take(np.flatnonzero(searched)), test.take(np.flatnonzero(~searched))


def summary(
    config: Config, result: Result, posterior: Posterior, searched: MapSet, confirming: MapSet
) -> dict[str, Any]:
    """The numbers that the report shows; None where nothing was feasible."""
    best, limit = result.best, config.search.max_power_change
    paper = _row(study.PAPER, searched, posterior, config.seed)
    found = _row(best.systematic, confirming, posterior, config.seed) if best else None
    return {
        "kl": best and best.kl,
        "change": best and best.max_power_change,
        "kl_confirmed": found and found["kl_perturbed_clean"]["mean"],
        "kl_confirmed_low": found and found["kl_perturbed_clean"]["low"],
        "kl_confirmed_high": found and found["kl_perturbed_clean"]["high"],
        "change_confirmed": found and found["mean_power_change_contrast"]["mean"],
        "a": best and best.a,
        "b": best and best.b,
        "beta": best and best.beta,
        "transition": best and -best.b / best.a,
        "least_density": best and best.least_density,
        "kl_paper": paper["kl_perturbed_clean"]["mean"],
        "change_paper": paper["mean_power_change_contrast"]["mean"],
        "closest_change": result.closest and result.closest.max_power_change,
        "max_power_change": limit,
        "n_trials": len(result.history),
        "n_feasible": sum(one.feasible for one in result.history),
        "n_search": len(searched),
        "n_confirm": len(confirming),
    }


def transfer(
    config: Config, result: Result, searched: MapSet, confirming: MapSet
) -> dict[str, dict[str, Any]]:
    """Damage of what was found to posteriors that the search did not see, by name.

    Those of the target's split are tried on the maps that confirm; others on their own test maps,
    less those of the simulations that the search saw.
    """
    if result.best is None:
        return {}
    alike, rows = bystanders(config), {}
    for name in [*config.run.posteriors, *config.run.ensembles]:
        if name == config.run.target:
            continue
        own = confirming if name in alike else unseen(test_set(config, name), searched)
        perturbed = result.best.systematic(own.maps).numpy()
        change = posterior_change(own.maps, perturbed, load(config, name))
        rows[name] = change.row(config.seed, own.index) | {"split": split_of(config, name)}
    return rows


def unseen(test: MapSet, searched: MapSet) -> MapSet:
    """The maps of simulations that are not among those of the search."""
    return test.take(np.flatnonzero(~np.isin(test.index, searched.index)))


def _row(systematic: Logistic, data: MapSet, posterior: Posterior, seed: int) -> dict[str, Any]:
    perturbed = systematic(data.maps).numpy()
    return measure(data.maps, perturbed, posterior, data.box_size).row(seed, data.index)


def drawn(result: Result, metrics: dict[str, Any]) -> dict[str, Figure]:
    """The figures of this stage."""
    values = np.array([one.kl for one in result.history])
    changes = np.array([one.max_power_change for one in result.history])
    front = [(one.max_power_change, one.kl) for one in result.pareto]
    others = {"paper's systematic": (metrics["change_paper"], metrics["kl_paper"])}
    return {
        "search_history": figures.search_history(values, changes, result.limit),
        "pareto": figures.pareto(values, changes, front, result.limit, others),
    }


def told(metrics: dict[str, Any]) -> str:
    """The outcome in a line or two."""
    if metrics["kl"] is None:
        return (
            f"no trial stayed within {metrics['max_power_change']:.3g}; "
            f"the closest changes the power by {metrics['closest_change']:.3g}"
        )
    return (
        f"a = {metrics['a']:.4g}, b = {metrics['b']:.4g}, beta = {metrics['beta']:.4g}: "
        f"KL = {metrics['kl']:.3g} on the search's maps, {metrics['kl_confirmed']:.3g} on others "
        f"(max |dP/P| = {metrics['change']:.3g}, {metrics['change_confirmed']:.3g}); "
        f"the paper's systematic: {metrics['kl_paper']:.3g} ({metrics['change_paper']:.3g})"
    )
