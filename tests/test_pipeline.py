"""All stages on a small real suite, in the order of dvc.yaml."""

import csv
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import optuna
import psutil
import pytest
import yaml
from mlflow import MlflowClient
from PIL import Image

from spurious import params, tracking
from spurious.damage import posterior_change
from spurious.data.hdf5 import read_maps, write_maps
from spurious.errors import CheckFailed, UserError
from spurious.pipeline import inputs, loading
from spurious.pipeline.layout import Layout
from spurious.posteriors.trained import load
from spurious.report.verdict import verdict
from spurious.stages import (
    assess,
    attack,
    audit,
    compare,
    defend,
    report,
    search,
    simulate,
    train,
    tune,
    verify,
)
from spurious.tracking import views

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SMALL = {
    "design": {
        "kind": "grid",
        "omega_m": {"start": 0.1, "stop": 0.5, "step": 0.2},
        "sigma_8": {"start": 0.6, "stop": 1.0, "step": 0.2},
    },
    "simulation": {
        "n_cells": 16,
        "box_size": {"value": 64.0, "unit": "Mpc/h"},
        "scale_factors": {"start": 0.1, "stop": 1.0, "stages": 4},
    },
    "search": {
        "maps": 6,
        "refine_steps": 3,
        "fences": {"power": 0.2, "mean_shift": 0.2},
        "families": {
            "logistic": {"kind": "logistic"},
            "saturation": {"kind": "saturation", "sharpness": 4.0},
        },
        "front": {"power": [0.05, 0.2], "cosmic": [0.1, 0.5]},
    },
    "audit": {
        "maps": 6,
        "steps": 3,
        "constrained_steps": 3,
        "starts": 2,
        "reference_steps": 5,
        "transfer": 1,
        "linf": {"values": [0.01, 0.1], "unit": "std"},
        "l2": {"values": [0.01, 0.1], "unit": "std"},
        "cosmic": {"values": [0.0, 0.1], "unit": "cosmic_variance"},
    },
    "defend": {
        "maps": 5,
        "linf": {"values": [0.03, 0.1], "unit": "std"},
        "l2": {"values": [0.01, 0.03], "unit": "std"},
        "steps": 3,
        "constrained_steps": 3,
        "restarts": 1,
        "reference_maps": 2,
        "reference_steps": 5,
        "refine_steps": 2,
    },
    "report": {"examples": 2},
    "execution": {"workers": {"kind": "local"}, "processes": 1},
    "profiles": {
        "pilot": {
            "simulation": {"simulations": 90, "shard_size": 15},
            "training": {"epochs": 3},
            "search": {"starts": 2},
        }
    },
}
DEFENDED = ("marginalised", "adversarial")
# Every kind of entry is tried in tests/entries; here, one of each that the stage treats apart.
FEW = {
    "strongest": ["strongest_bounded"],
    "white_box": ["universal", "minimum_norm", "initial_conditions"],
    "systematics": ["baryons"],
    "controls": ["shuffled_phases", "transferred"],
}


def reduced(raw):
    """Parameters of the same pipeline in a few minutes."""
    for section, values in SMALL.items():
        raw[section] = values if section == "profiles" else raw.get(section, {}) | values
    raw["posteriors"]["compact"]["trainings"] = 2
    raw["run"]["posteriors"].insert(3, "held_out")
    # A fourth of the pilot's particles a pixel: what takes away more would empty maps.
    families = raw["posteriors"]["marginalised"]["defence"]["families"]
    families["logistic"]["beta"] = {"low": -1.0, "high": 5.0}
    every = {name: entry for group in raw["attacks"].values() for name, entry in group.items()}
    del raw["attacks"]["more"]
    for group, names in FEW.items():
        raw["attacks"][group] = {name: every[name] for name in names}
    raw["attacks"]["white_box"]["initial_conditions"] |= {"maps": 2, "steps": 2}
    raw["attacks"]["white_box"]["universal"] |= {"steps": 3}
    raw["attacks"]["white_box"]["minimum_norm"] |= {"steps": 3, "maps": 5, "bisections": 2}
    return raw


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a small params.yaml and the reference sample, as the current folder."""
    folder = tmp_path_factory.mktemp("project")
    raw = reduced(yaml.safe_load((ROOT / "params.yaml").read_text()))
    (folder / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (folder / "data").mkdir()
    (folder / "data" / "reference").symlink_to(ROOT / "data" / "reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield params.load(folder / "params.yaml")


@pytest.fixture(scope="module")
def verified(project):
    verify.run(project)
    return project


@pytest.fixture(scope="module")
def simulated(verified):
    simulate.run(verified, workers=1)
    return verified


@pytest.fixture(scope="module")
def trained(simulated):
    for name in simulated.run.posteriors:
        train.run(simulated, name)
    return simulated


@pytest.fixture(scope="module")
def assessed(trained):
    assess.run(trained)
    return trained


@pytest.fixture(scope="module")
def attacked(assessed):
    attack.run(assessed, assessed.run.attacks)
    return assessed


@pytest.fixture(scope="module")
def audited(attacked):
    audit.run(attacked)
    return attacked


@pytest.fixture(scope="module")
def searched(assessed):
    search.run(assessed)
    return assessed


@pytest.fixture(scope="module")
def compared(attacked, searched):
    compare.run(searched)
    return searched


@pytest.fixture(scope="module")
def defended(searched):
    defend.run(searched)
    return searched


@pytest.fixture(scope="module")
def reported(searched, audited, compared, defended):
    report.run(searched)
    return searched


def read(name):
    return json.loads(Layout("pilot").result(name).read_text())


def test_verify_measures_agreement_with_flowpm(verified):
    metrics = json.loads(Path("results/verify.json").read_text())
    assert metrics["n_maps"] == 12
    assert 0 < metrics["max_difference"] <= 1e-5
    assert len(Path("data/verify.csv").read_text().splitlines()) == 13


def test_verify_stops_the_pipeline_beyond_the_tolerance(verified, tmp_path, monkeypatch):
    reference = read_maps(Path("data/reference/flowpm.h5"))
    swapped = reference.maps.copy()
    swapped[3] = reference.maps[3].T  # an axis for another
    write_maps(tmp_path / "data" / "reference" / "flowpm.h5", replace(reference, maps=swapped))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckFailed, match=r"omega_m = 0\.55, sigma_8 = 1\.0"):
        verify.run(verified)
    assert not Path("data/verify.csv").exists()
    assert not Path("results").exists()


def test_simulate_writes_labelled_maps_in_counts(simulated):
    data = read_maps(Path("data/pilot/maps.h5"))
    assert data.maps.shape == (90, 16, 16)
    np.testing.assert_allclose(data.maps.mean(axis=(1, 2)), 16, rtol=1e-5)
    assert data.maps.min() >= 0
    assert data.labels[0].tolist() == [0.1, 0.6]
    assert data.labels[1].tolist() == [0.1, 0.8]
    assert not Path("data/shards/pilot").exists()


def test_train_writes_every_posterior_with_its_curve_and_metrics(trained):
    layout = Layout("pilot")
    assert read("posteriors/compact.json")["others"][0]["n_test"] == 27
    weights = [load(layout.posterior("compact", i)).model.get_weights()[0] for i in (1, 2)]
    assert weights[0].shape == weights[1].shape and not np.allclose(*weights)
    for name in trained.run.posteriors:
        metrics = read(f"posteriors/{name}.json")
        assert metrics["n_train"] + metrics["n_validation"] + metrics["n_test"] == 90
        assert {"omega_m_rmse", "sigma_8_r2", "chi2", "tarp_deviation", "edges"} <= set(metrics)
        assert metrics["nll"]["low"] <= metrics["nll"]["mean"] <= metrics["nll"]["high"]
        assert layout.posterior(name).is_file()
        curve = layout.result(f"posteriors/{name}/history.csv")
        assert curve.exists() == (name != "likelihood")
        assert layout.result(f"posteriors/{name}/tarp.png").is_file()
    assert len(layout.result("posteriors/compact/history.csv").read_text().splitlines()) == 4
    assert not Path("data/checkpoints/pilot/compact").exists()


def test_the_held_out_split_tests_cosmologies_that_were_never_seen(trained):
    data = read_maps(Path("data/pilot/maps.h5"))
    split = inputs.parts(trained, data, "held_out")
    seen = {tuple(row) for row in data.labels[split.train]}
    held_out = {tuple(row) for row in data.labels[split.test]}
    assert len(held_out) == 3 and not seen & held_out
    assert read("posteriors/held_out.json")["n_test"] == len(split.test) == 30


def test_the_registered_model_gives_the_same_posterior_in_a_new_process(trained):
    """Loaded from MLflow by its alias: to 1e-6."""
    test = inputs.test_set(trained)
    np.save("maps.npy", test.maps)
    script = (
        "import mlflow, numpy as np, spurious.posteriors.trained as p\n"
        "p.load('models/pilot/likelihood/1.keras')\n"
        "mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db')\n"
        "model = mlflow.keras.load_model('models:/pilot-compact@current')\n"
        "found = p.NetworkPosterior(model)(np.load('maps.npy'))\n"
        "np.savez('found.npz', mean=found.mean(), std=found.stddev())\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    expected = load(Layout("pilot").posterior("compact"))(test.maps)
    with np.load("found.npz") as found:
        np.testing.assert_allclose(found["mean"], expected.mean(), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found["std"], expected.stddev(), rtol=1e-6, atol=1e-7)
    version = MlflowClient(tracking.uri()).get_model_version_by_alias("pilot-compact", "current")
    assert version.run_id == read("posteriors/compact.json")["run_id"]


def test_assess_compares_all_posteriors_and_makes_the_ensembles(assessed):
    found = read("assess.json")
    others = [*assessed.run.posteriors[1:], *assessed.run.ensembles]
    names = ["compact_1", "compact_2", *others]
    assert list(found["posteriors"]) == names
    assert found["target"] == "compact_1"
    assert found["posteriors"]["ensemble"]["members"] == ["compact"]
    kept = read("posteriors/compact.json")
    for name, row in (("compact_1", kept), ("compact_2", kept["others"][0])):
        assert found["posteriors"][name]["omega_m_rmse"] == row["omega_m_rmse"]
        assert found["posteriors"][name]["temperature"] == row["temperature"]
    assert set(found["ratios"]) == {"power_spectrum", "likelihood"}
    ratio = found["ratios"]["likelihood"]["compact_1"]["sigma_8"]["mean"]
    rmse = {name: found["posteriors"][name]["sigma_8_rmse"]["mean"] for name in names}
    assert ratio == pytest.approx(rmse["compact_1"] / rmse["likelihood"])
    assert "held_out" not in found["ratios"]["likelihood"]
    assert set(found["fisher"]["rmse"]) == {"omega_m", "sigma_8"}
    with open(Layout("pilot").result("posteriors.csv"), newline="") as file:
        assert [line["posterior"] for line in csv.DictReader(file)] == names


def test_every_attack_has_its_row_and_its_run(attacked):
    client = MlflowClient(tracking.uri())
    runs = {}
    for name, group in attacked.attacked.items():
        row = read(f"attacks/{group}/{name}.json")
        run = client.get_run(row["run_id"])
        assert (run.data.tags["group"], run.data.tags["attack"]) == (group, name)
        metrics = read(f"attacks/{group}.json")
        assert run.data.tags["mlflow.parentRunId"] == metrics["run_id"]
        assert metrics[name]["kl_perturbed_clean"] == row["kl_perturbed_clean"]
        kept = {a.path for a in client.list_artifacts(row["run_id"])}
        assert kept == {"extremes", "extremes.png", "parameters.json", f"{name}.json"}
        assert run.data.metrics["damage"] == row["kl_perturbed_clean"]["mean"]
        assert set(run.data.params) == {"group", "kind", "budget", "unit"}
        assert run.data.tags["dvc.models/pilot/compact/2.keras"]
        assert set(row["others"]) == {
            *DEFENDED,
            "contrast",
            "resnet",
            "power_spectrum",
            "likelihood",
            "ensemble",
        }
        other = row["others"]["likelihood"]["kl_perturbed_clean"]["mean"]
        assert run.data.metrics["damage to/likelihood"] == other
        runs[name] = run
    assert len({run.data.tags["pipeline"] for run in runs.values()}) == 1
    assert all(run.data.tags["git.commit"] == "none" for run in runs.values())


@pytest.mark.parametrize(
    ("name", "n_maps"), [("universal", 27), ("minimum_norm", 5), ("initial_conditions", 2)]
)
def test_attacks_that_need_other_than_the_test_maps(attacked, name, n_maps):
    """The training maps for a universal pattern, the simulations behind maps, or a few of them."""
    row = read(f"attacks/white_box/{name}.json")
    assert row["n_maps"] == n_maps
    assert row["kl_perturbed_clean"]["mean"] > 0
    data = read_maps(Layout("pilot").attacked("white_box", name))
    assert len(data) == n_maps
    np.testing.assert_allclose(data.maps.mean(axis=(1, 2)), 16, rtol=0.1)


def test_the_maps_that_were_hurt_most_and_least_are_kept(attacked):
    run = read("attacks/paper/bim.json")["run_id"]
    folder = Path(MlflowClient(tracking.uri()).download_artifacts(run, "extremes"))
    kept = {kind: read_maps(folder / f"{kind}.h5") for kind in ("clean", "perturbed")}
    test, every = inputs.test_set(attacked), read_maps(Layout("pilot").attacked("paper", "bim"))
    change = posterior_change(test.maps, every.maps, loading.target(attacked)).kl_perturbed_clean
    found = [int(np.flatnonzero(test.index == i)[0]) for i in kept["clean"].index]
    assert found[0] == change.argmax() and found[2] == change.argmin()
    assert change[found[1]] == pytest.approx(np.median(change))
    np.testing.assert_array_equal(kept["clean"].maps, test.maps[found])
    np.testing.assert_array_equal(kept["perturbed"].maps, every.maps[found])


def test_the_pattern_of_a_universal_attack_is_kept(attacked):
    run = read("attacks/white_box/universal.json")["run_id"]
    file = MlflowClient(tracking.uri()).download_artifacts(run, "extremes/pattern.npy")
    assert np.load(file).shape == (16, 16)


def test_a_row_is_the_mean_of_attacks_on_every_training(attacked):
    """White-box attacks are made on each, the second on a fifth of the maps; others once."""
    test, damage = inputs.test_set(attacked), []
    targets = loading.Posteriors(attacked).trainings("compact")
    layout, row = Layout("pilot"), read("attacks/paper/bim.json")
    for number, target in enumerate(targets, start=1):
        made = read_maps(layout.attacked("paper", "bim", number))
        clean = compare.same_maps(test, made)
        damage.append(posterior_change(clean.maps, made.maps, target).kl_perturbed_clean)
    assert [len(one) for one in damage] == [27, 5]
    means = [one.mean() for one in damage]
    assert row["kl_perturbed_clean"]["mean"] == pytest.approx(np.mean(means))
    kept = [one["kl_perturbed_clean"]["mean"] for one in row["trainings"]]
    assert kept == pytest.approx(means)
    assert row["retrained"]["kl_perturbed_clean"]["mean"] < min(means)
    same = read("attacks/paper/systematic.json")
    assert [one["n_maps"] for one in same["trainings"]] == [27, 27] and "retrained" not in same
    assert not layout.attacked("paper", "systematic", 2).exists()


def test_a_transferred_attack_is_made_on_the_other_network(attacked):
    """It hurts that one more than the attack on the target does, and the target less."""
    rows = {
        name: read(f"attacks/{attacked.attacked[name]}/{name}.json")
        for name in ("bim", "transferred")
    }
    own = {name: row["kl_perturbed_clean"]["mean"] for name, row in rows.items()}
    other = {n: r["others"]["resnet"]["kl_perturbed_clean"]["mean"] for n, r in rows.items()}
    assert own["transferred"] < own["bim"] and other["transferred"] > other["bim"]


def test_one_attack_of_a_group_can_be_made_again(attacked):
    before = read("attacks/paper.json")
    attack.run(attacked, ["fgsm"])
    after = read("attacks/paper.json")
    assert list(after) == list(before)
    assert after["fgsm"] == before["fgsm"] and after["run_id"] != before["run_id"]


def test_matching_gives_the_systematic_the_attacks_mean_squared_change(attacked):
    clean = read_maps(Path("data/pilot/maps.h5"))
    test = {int(i): m for i, m in zip(clean.index, clean.maps, strict=True)}

    def mean_square(name):
        data = read_maps(Layout("pilot").attacked("paper", name))
        before = np.stack([test[int(i)] for i in data.index])
        return np.mean((data.maps.astype(np.float64) - before) ** 2)

    assert mean_square("systematic_matched") == pytest.approx(mean_square("bim"), rel=1e-4)


def test_the_table_holds_every_attack_and_number(compared):
    with open(Layout("pilot").result("attacks.csv"), newline="") as file:
        table = {line["perturbation"]: line for line in csv.DictReader(file)}
    winners = [f"searched_{name}" for name in compared.search.families]
    assert list(table) == [*compared.attacked, *winners]
    kl = read("attacks/paper/fgsm.json")["kl_perturbed_clean"]
    line = table["fgsm"]
    assert float(line["kl_perturbed_clean"]) == kl["mean"]
    assert float(line["kl_perturbed_clean.low"]) == kl["low"]


def test_detection_looks_at_every_attack_on_enough_maps_and_at_the_winners(compared):
    found = read("detection.json")
    winners = {f"searched_{name}" for name in compared.search.families}
    assert set(found) == winners | set(compared.attacked) - {"initial_conditions"}
    assert (found["bim"]["n_maps"], found["minimum_norm"]["n_maps"]) == (27, 5)
    for row in found.values():
        asked = row["judgement"]["detectors"]
        assert all(0 < row[name]["p_value"] <= 1 for name in asked)
    assert found["minimum_norm"]["judgement"]["verdict"] in ("noticed", "too few maps")
    with open(Layout("pilot").result("detection.csv"), newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["perturbation"] == "bim"]
    assert [line["detector"] for line in lines] == [
        "log_power", "pdf", "peaks", "equilateral", "squeezed", "minkowski", "scattering", "mmd",
        "network", "network_contrast",
    ]  # fmt: skip
    by_power = next(line for line in lines if line["detector"] == "log_power")
    assert float(by_power["p_value"]) == found["bim"]["log_power"]["p_value"]
    assert float(by_power["auroc"]) == found["bim"]["log_power"]["auroc"]["mean"]


def test_mlflow_shows_all_attacks_and_winners_side_by_side(compared):
    client = MlflowClient(tracking.uri())
    shown = client.search_runs(["1"], views.QUERY)
    rows = inputs.attack_rows(compared) | inputs.winner_rows(compared)
    assert {run.info.run_id for run in shown} == {row["run_id"] for row in rows.values()}
    judged = {name: one["judgement"] for name, one in read("detection.json").items()}
    runs = {run.info.run_id: run.data for run in shown}
    for name, row in rows.items():
        data = runs[row["run_id"]]
        assert {"group", "kind", "budget", "unit"} <= set(data.params)
        assert data.metrics["damage"] == row["kl_perturbed_clean"]["mean"]
        if name in judged:
            assert data.metrics["auroc"] == judged[name]["auroc"]["mean"]
            assert data.tags["verdict"] == judged[name]["verdict"]


def test_every_pair_of_attacks_is_compared(compared):
    pairs = read("compare.json")["pairs"]
    assert len(pairs) == 15
    found = {(pair["first"], pair["second"]): pair["kl_symmetrised"] for pair in pairs}
    kl = found["bim", "systematic"]
    assert 0 < kl["low"] < kl["mean"] < kl["high"]


def test_a_table_agrees_with_itself_and_not_with_another(compared, tmp_path, capsys):
    table = Layout("pilot").result("attacks.csv")
    compare.against(compared, table)
    assert "outside" not in capsys.readouterr().out
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    bim = next(row for row in rows if row["perturbation"] == "bim")
    for end in ("low", "high"):
        key = f"kl_perturbed_clean.{end}"
        bim[key] = str(10 * float(bim[key]))
    other = tmp_path / "attacks.csv"
    with open(other, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    compare.against(compared, other)
    told = capsys.readouterr().out
    assert "outside: kl_perturbed_clean of bim" in told


def test_search_keeps_its_study_and_confirms_on_other_maps(searched):
    metrics = read("search.json")
    assert (metrics["n_search"], metrics["n_confirm"]) == (6, 21)
    assert set(metrics["transfer"]) == {
        "contrast", "resnet", "held_out", "power_spectrum", "likelihood", *DEFENDED, "ensemble",
    }  # fmt: skip
    assert metrics["transfer"]["likelihood"]["n_maps"] == 21
    assert metrics["transfer"]["held_out"]["split"] == "held_out"
    studies = read("study.json")
    assert list(studies) == list(metrics["families"]) == ["logistic", "saturation"]
    first = studies["logistic"]["history"][0]["parameters"]
    assert first == pytest.approx({"a": 0.25, "b": -15.0, "beta": 3.0})
    storage = "sqlite:///mlruns/optuna.db"
    for study in studies.values():
        trials = optuna.load_study(study_name=study["study"], storage=storage).trials
        assert len(trials) == len(study["history"]) == 4


def test_what_is_told_of_transfer_follows_from_the_table(searched):
    for family in read("search.json")["families"].values():
        kl = {name: row["kl_perturbed_clean"]["mean"] for name, row in family["transfer"].items()}
        least = 0.1 * family["confirmed"]["kl"]["mean"]
        assert family["transfers_to"] == [
            name
            for name in (
                "contrast",
                "resnet",
                "held_out",
                "power_spectrum",
                "likelihood",
                *DEFENDED,
            )
            if kl[name] >= least
        ]
        heights = family["confirmed"]["fences"]
        assert family["beyond"] == [n for n in ("power", "mean_shift") if heights[n] > 0.2]


def test_the_winner_of_every_family_keeps_its_fences_or_is_told_not_to(searched):
    families, studies = read("search.json")["families"], read("study.json")
    for name, family in families.items():
        within = all(family["fences"][f] <= limit for f, limit in family["limits"].items())
        assert family["feasible"] == within
        feasible = [one for one in studies[name]["history"] if one["feasible"]]
        assert not feasible or family["kl"] == max(one["kl"] for one in feasible)
        confirmed = family["kl_confirmed"]
        assert confirmed["low"] <= confirmed["mean"] <= confirmed["high"]
    front = read("search.json")["front"]
    assert set(front) <= {"power", "cosmic"}
    for curve in (curve for named in front.values() for curve in named.values()):
        assert curve["kl"] == sorted(curve["kl"])


def test_a_study_is_a_run_and_so_are_the_trials_worth_keeping(searched):
    client = MlflowClient(tracking.uri())
    experiment = client.get_experiment_by_name("pilot").experiment_id
    parent = read("search.json")["run_id"]
    studies = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'")
    assert sorted(run.info.run_name for run in studies) == ["study logistic", "study saturation"]
    assert {a.path for a in client.list_artifacts(parent)} >= {"search.json", "study.json"}


def test_the_audit_has_curves_checks_and_a_run_for_each_budget(audited):
    curves, found = read("curves.json"), read("audit.json")
    assert curves["target"] == "compact" and curves["n_maps"] == 6
    assert {"gradient_agrees", "budget_respected", "planted_found"} <= set(found["checks"])
    assert found["checks"]["budget_respected"]["passed"]
    assert all((ROOT / check["page"]).is_file() for check in found["checks"].values())
    client = MlflowClient(tracking.uri())
    experiment = client.get_experiment_by_name("pilot").experiment_id
    below = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{found['run_id']}'")
    assert len(below) == sum(len(curve["points"]) for curve in curves["curves"])


class _External(HTMLParser):
    """Everything a page would fetch, and the files beside it to which it links."""

    def __init__(self):
        super().__init__()
        self.found, self.files = [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        for key in ("src", "href"):
            inside = tag == "a" or values.get(key, "data:").startswith("data:")
            if not inside:
                self.found.append((tag, values[key]))
        if tag == "a" and ":" not in values["href"] and not values["href"].startswith("#"):
            self.files.append(values["href"])


class _Parameters(HTMLParser):
    """The text of a page's last preformatted block."""

    inside, text = False, ""

    @classmethod
    def of(cls, html):
        parser = cls()
        parser.feed(html)
        return parser.text

    def handle_starttag(self, tag, attrs):
        if tag == "pre":
            self.inside, self.text = True, ""

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "pre"

    def handle_data(self, data):
        self.text += data if self.inside else ""


def test_defences_are_compared_and_tracked_side_by_side(defended):
    found = read("defences.json")
    assert list(found["defences"]) == ["compact", *defended.run.defences]
    assert found["inside"] == ["beam", "calibration", "gain_drift", "logistic"]
    for name, row in found["defences"].items():
        assert row["inside"]["nll"]["low"] <= row["inside"]["nll"]["mean"]
        seen = {family: one["seen"] for family, one in row["families"].items()}
        assert seen == {"logistic": name == "marginalised", "saturation": False}
    client = MlflowClient(tracking.uri())
    runs = client.search_runs(["1"], "tags.stage = 'defend' and tags.defence != ''")
    assert {run.data.tags["defence"] for run in runs} >= set(found["defences"])
    one = next(run for run in runs if run.data.tags["defence"] == "adversarial")
    row = found["defences"]["adversarial"]
    assert one.data.metrics["information"] == row["information"]["mean"]


def test_report_is_one_file_that_needs_no_network(reported):
    html = Layout("pilot").report.read_text()
    external = _External()
    external.feed(html)
    assert external.found == []
    assert html.count('src="data:image/png;base64,') == 26  # four of them twice, dark too
    kl = read("attacks/paper/bim.json")["kl_perturbed_clean"]["mean"]
    assert f"{kl:.3g}" in html
    assert "git.commit" in html
    for file in external.files:
        assert (Layout("pilot").report.parent / file).exists(), file


def test_the_report_begins_with_the_numbers_of_its_files(reported):
    html = Layout("pilot").report.read_text()
    judged = {name: one["judgement"] for name, one in read("detection.json").items()}
    rows = inputs.attack_rows(reported) | inputs.winner_rows(reported)
    found = verdict(rows, judged)
    row = rows[found.name]
    shown = re.findall(r'<data class="mean" value="(\S+)" data-low="(\S+)" data-high="(\S+)"', html)
    expected = [row["kl_perturbed_clean"], row["mean_power_change_contrast"]]
    expected += [judged[found.name]["auroc"]]
    assert [tuple(map(float, one)) for one in shown] == [
        (one["mean"], one["low"], one["high"]) for one in expected
    ]
    text = Layout("pilot").result("report.md").read_text()
    assert found.numbers[0].shown in text and "headline.png" in text


def test_the_report_names_the_runs_in_which_its_numbers_were_made(reported):
    html = Layout("pilot").report.read_text()
    for name in ("audit.json", "search.json", "compare.json"):
        assert read(name)["run_id"] in html


def test_the_report_says_what_each_search_found_and_whether_it_holds(reported):
    html = Layout("pilot").report.read_text()
    for name, family in read("search.json")["families"].items():
        kl = family["kl_confirmed"]["mean"]
        assert f"Search, {name}:" in html
        assert family["holds"] is False or f"a mean KL of {kl:.3g}" in html


def test_the_report_prints_the_parameters_that_were_used(reported):
    """A network's own training lies over the shared section, and the scale's over both."""
    printed = yaml.safe_load(_Parameters.of(Layout("pilot").report.read_text()))
    used = printed["posteriors"]["compact"]["training"]
    assert (used["epochs"], used["recalibrate"]) == (3, True)
    assert printed["posteriors"]["resnet"]["training"]["epochs"] == 3


def tree():
    """Every file of the results, maps and models: its bytes, and when it was written.

    Not those that let a stage go on: they are no results.
    """
    every = (path for top in ("data", "results", "models") for path in Path(top).rglob("*"))
    kept = ("shards", "checkpoints")
    files = [path for path in every if path.is_file() and path.parts[1] not in kept]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@contextmanager
def damaged(path):
    """A file cut in half for a while; its time is put back, too."""
    content, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes(content[: len(content) // 2])
    try:
        yield
    finally:
        path.write_bytes(content)
        os.utime(path, ns=times)


@contextmanager
def in_the_way(path):
    """A folder where a file belongs, for a while."""
    if path.exists():
        path.rename(path.with_suffix(".moved"))
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        if path.with_suffix(".moved").exists():
            path.with_suffix(".moved").rename(path)


# An input damaged that the stage needs late, or no way to write what it writes last.
LATE = [
    ("simulate", in_the_way, "data/pilot/maps.h5"),
    ("train", in_the_way, "results/pilot/posteriors/likelihood.json"),
    ("tune", in_the_way, "results/pilot/tuning_importances.png"),
    ("assess", damaged, "models/pilot/likelihood/1.keras"),
    ("assess", in_the_way, "results/pilot/posteriors.png"),
    ("attack", damaged, "models/pilot/likelihood/1.keras"),
    ("attack", in_the_way, "results/pilot/attacks/systematics.json"),
    ("audit", in_the_way, "results/pilot/security_curves.png"),
    ("search", damaged, "models/pilot/held_out/1.keras"),
    ("search", in_the_way, "results/pilot/study.json"),
    ("compare", damaged, "data/pilot/attacks/controls/transferred.h5"),
    ("compare", in_the_way, "results/pilot/detection.png"),
    ("defend", damaged, "results/pilot/search.json"),
    ("defend", in_the_way, "results/pilot/all_defences_trade.png"),
    ("report", damaged, "results/pilot/compare.json"),
    ("report", in_the_way, "results/pilot/figure_2.png"),
]


@pytest.mark.parametrize(("stage", "harm", "path"), LATE)
def test_a_stage_that_fails_late_leaves_the_former_results_as_they_were(
    reported, stage, harm, path
):
    run = {
        "simulate": lambda: simulate.run(reported, workers=1),
        "train": lambda: train.run(reported, "likelihood"),
        "tune": lambda: tune.run(quick(reported), trials=1),
        "assess": lambda: assess.run(reported),
        "attack": lambda: attack.run(reported, ["systematics"]),
        "audit": lambda: audit.run(reported),
        "search": lambda: search.run(reported),
        "compare": lambda: compare.run(reported),
        "defend": lambda: defend.run(reported, ["resnet"]),
        "report": lambda: report.run(reported),
    }[stage]
    with harm(Path(path)):
        before = tree()
        with pytest.raises(UserError, match=Path(path).name):
            run()
        assert tree() == before
        assert left_behind() == []


def quick(config):
    tuned = config.tune.model_copy(update={"epochs": 1, "startup_trials": 1})
    return config.model_copy(update={"tune": tuned})


def left_behind():
    """Files that were being written."""
    every = (path for top in ("data", "results", "models") for path in Path(top).rglob(".*"))
    return [path for path in every if path.suffix == ".new" or ".part" in path.name]


def test_verify_beyond_its_tolerance_leaves_the_former_table(reported):
    before = tree()
    strict = reported.verify.model_copy(update={"tolerance": 1e-12})
    with pytest.raises(CheckFailed):
        verify.run(reported.model_copy(update={"verify": strict}))
    assert tree() == before


def spurious(*arguments, **options):
    """A stage as a process of its own."""
    command = [BIN / "spurious", *arguments]
    return subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options
    )


def test_a_full_disk_leaves_the_former_results_and_says_so_in_one_line(reported):
    """No file may grow beyond 2 MB: figures are written, a report with a large picture is not."""
    picture = Path("results/pilot/detection.png")
    former = picture.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
    Image.fromarray(noise).save(picture)
    before = tree()

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    try:
        environment = {**os.environ, "SPURIOUS_TRACKING": "off"}
        process = spurious("report", preexec_fn=limit, env=environment)
        _, told = process.communicate(timeout=120)
        assert process.returncode == 1, told
        assert told.splitlines()[-1] == (
            "error: results/pilot/.report.new/report.html cannot be written: file too large"
        )
        assert "Traceback" not in told
        assert (tree(), left_behind()) == (before, [])
    finally:
        picture.write_bytes(former)


def test_a_file_where_a_folder_belongs_is_one_line(reported, tmp_path):
    """As a folder in which nothing may be written, which would not stop root."""
    before = tree()
    results = Path("results/pilot")
    results.rename("results/moved")
    results.write_text("")
    try:
        process = spurious("audit")
        _, told = process.communicate(timeout=120)
    finally:
        results.unlink()
        Path("results/moved").rename(results)
    assert process.returncode == 1
    assert told.splitlines()[-1] == (
        "error: results/pilot/.audit.new cannot be used: not a directory"
    )
    assert (tree(), left_behind()) == (before, [])


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_stage_that_is_stopped_leaves_nothing_but_its_former_results(reported, how):
    """In the middle of its work, with processes at work for it, one of them has written a row."""
    before = tree()
    raw = yaml.safe_load(Path("params.yaml").read_text())
    raw["execution"]["processes"] = 2
    Path("more.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    # A shell that starts the tests in the background has SIGINT ignored, also in what they start.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    options = {"start_new_session": True} | heard
    process = spurious("attack", "paper", "--params", "more.yaml", **options)
    new = Path("results/pilot/attacks/.attack-paper.new/paper")
    until = time.monotonic() + 120
    while not list(new.glob("*.json")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    number = getattr(signal, how)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == {"SIGINT": 130, "SIGTERM": 143}.get(how, -number), told
    _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []
    assert {p: one for p, one in tree().items() if ".attack-paper.new" not in p.parts} == before
    own = {run.info.run_id for run in running()}
    if how == "SIGKILL":
        assert own and left_behind()
        attack.run(reported, ["paper"])  # closes the runs and removes what was left
    else:
        assert "run it again to go on" in told.splitlines()[-1]
        assert "Traceback" not in told
    assert running() == [] and left_behind() == []


def running():
    client = MlflowClient(tracking.uri())
    experiment = client.get_experiment_by_name("pilot").experiment_id
    return client.search_runs([experiment], "attributes.status = 'RUNNING'")


def test_single_attacks_that_are_made_again_leave_the_others(reported):
    before = tree()
    attack.run(reported, ["fgsm"])
    changed = {str(path) for path, one in tree().items() if before.get(path) != one}
    assert changed == {
        "results/pilot/attacks/paper.json",
        "results/pilot/attacks/paper/fgsm.json",
        "data/pilot/attacks/paper/fgsm.h5",
        "data/pilot/attacks/paper/fgsm.2.h5",
    }


def test_a_group_that_is_made_again_drops_what_does_not_belong(reported):
    stale = [Layout("pilot").attacked("systematics", "gone"),
             Layout("pilot").result("attacks/systematics/gone.json")]  # fmt: skip
    for path in stale:
        path.write_text("{}")
    attack.run(reported, ["systematics"])
    assert not any(path.exists() for path in stale)
