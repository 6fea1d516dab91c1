"""`spurious attack --model`: a model and maps that this package did not make."""

import csv
import json
import sys
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from spurious import tracking
from spurious.cli import main
from spurious.data.hdf5 import read_maps, write_maps
from spurious.data.maps import MapSet, Standardiser
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.posteriors.trained import NetworkPosterior

ROOT = Path(__file__).parents[1]
SCALING = {
    "maps": {"mean": 20.0, "std": 9.0},
    "labels": {"s8": {"shift": 0.8, "scale": 0.1}, "a_agn": {"shift": 1.0, "scale": 0.5}},
}
OWN = ["attack", "--model", "mine.keras", "--maps", "maps.h5"]


def data_set(n=20, size=16, names=("a_agn", "omega_b", "s8")):
    """Maps whose mean follows s8, two of each simulation."""
    draw = np.random.default_rng(0)
    labels = draw.uniform(0.5, 1.0, (n // 2, len(names))).repeat(2, axis=0)
    maps = 25 * labels[:, -1, None, None] * draw.gamma(5.0, 0.2, (n, size, size))
    return MapSet(
        maps=maps.astype(np.float32),
        labels=labels,
        seeds=np.zeros(n, np.uint64),
        index=np.arange(n) // 2,
        axis=np.full(n, -1, np.int8),
        box_size=25.0,
        names=names,
        unit="1e10 Msun/h",
    )


def network(p=2, size=16):
    """Only layers of Keras."""
    keras.utils.set_random_seed(3)
    maps = keras.Input((size, size, 1))
    x = keras.layers.Conv2D(3, 5, strides=3, activation="relu")(maps)
    x = keras.layers.Flatten()(x)
    ends = [keras.layers.Dense(p)(x), keras.layers.Dense(p, "softplus")(x)]
    return keras.Model(maps, ends)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model, its scaling, maps and params.yaml in the current folder; runs are not kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "scaling.yaml").write_text(yaml.safe_dump(SCALING, sort_keys=False))
    network().save("mine.keras")
    write_maps(tmp_path / "maps.h5", data_set())
    return tmp_path


def spurious(*arguments):
    return CliRunner().invoke(main, arguments)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_table_of_a_model_of_ones_own(folder):
    before = files(folder)
    done = spurious(*OWN, "--scaling", "scaling.yaml", "--out", "out/here", "bim", "random_sign")
    assert done.exit_code == 0, done.output
    assert files(folder) == sorted(
        before
        + ["out/here/attacks.csv"]
        + [f"out/here/{name}.{kind}" for name in ("damage", "spectra") for kind in ("pdf", "png")]
        + [
            f"out/here/attacks/{name}.{kind}"
            for name in ("bim", "random_sign")
            for kind in ("h5", "json")
        ]
    )
    assert "|shift| s8" in done.output and "|shift| a_agn" in done.output
    assert "RMS z-score of the 20 clean maps: " in done.output
    row = json.loads((folder / "out/here/attacks/bim.json").read_text())
    assert row["n_maps"] == 20 and row["run_id"] == "untracked"
    # 0.01 std a step, in the scaling's std.
    assert row["parameters"]["alpha"] == pytest.approx(0.09)
    for key in ("kl_perturbed_clean", "abs_shift_s8", "abs_shift_a_agn", "rms_counts"):
        assert row[key]["low"] <= row[key]["mean"] <= row[key]["high"]
    with open("out/here/attacks.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["perturbation"] for line in table] == ["bim", "random_sign"]
    assert float(table[0]["kl_perturbed_clean"]) == row["kl_perturbed_clean"]["mean"]
    assert float(table[0]["kl_perturbed_clean"]) > float(table[1]["kl_perturbed_clean"]) / 10
    clean, attacked = data_set(), read_maps(folder / "out/here/attacks/bim.h5")
    assert np.abs(attacked.maps - clean.maps).max() == pytest.approx(0.9, rel=1e-3)
    assert attacked.names == ("s8", "a_agn")  # the model's order
    np.testing.assert_array_equal(attacked.labels, clean.labels[:, [2, 0]])
    assert (attacked.box_size, attacked.unit) == (25.0, "1e10 Msun/h")


@pytest.mark.slow
def test_the_audit_of_a_model_of_ones_own(folder):
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    raw["audit"] = {
        "maps": 5,
        "steps": 2,
        "constrained_steps": 2,
        "starts": 2,
        "reference_steps": 5,
        "linf": {"values": [0.01, 0.1], "unit": "std"},
        "l2": {"values": [0.01, 0.1], "unit": "std"},
        "cosmic": {"values": [0.0, 0.1], "unit": "cosmic_variance"},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    done = spurious("audit", *OWN[1:], "--scaling", "scaling.yaml", "--out", "out")
    assert done.exit_code == 0, done.output
    found = json.loads((folder / "out/audit.json").read_text())["checks"]
    assert found["budget_respected"]["passed"]
    assert found["beats_transfer"]["passed"] is None  # there is no other posterior
    assert f"{found['gradient_agrees']['sentence']}" in done.output
    assert (folder / "out/curves.json").is_file() and (folder / "out/security_curves.png").is_file()


def test_an_attack_raises_the_likelihood_loss_of_the_truth(folder):
    """The truth reaches the attack in the model's order: the loss rises for every map."""
    from spurious.posteriors.posterior import from_keras
    from spurious.posteriors.scaling_file import read_scaling

    assert spurious(*OWN, "--scaling", "scaling.yaml", "bim").exit_code == 0
    attacked = read_maps(folder / "results/own/mine/attacks/bim.h5")
    posterior = from_keras("mine.keras", scaling=read_scaling(Path("scaling.yaml")))
    clean = posterior(data_set().maps).log_prob(attacked.labels.astype(np.float32))
    assert np.all(posterior(attacked.maps).log_prob(attacked.labels.astype(np.float32)) < clean)


def test_runs_are_kept_in_the_experiment_of_the_models_name(folder, monkeypatch):
    monkeypatch.delenv("SPURIOUS_TRACKING")
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    raw["attacks"]["few"] = {
        n: raw["attacks"]["paper"].pop(n) for n in ("fgsm", "systematic_matched")
    }
    raw["run"]["attacks"] = ["few"]
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    done = spurious(*OWN, "--scaling", "scaling.yaml")
    assert done.exit_code == 0, done.stderr
    assert "attacks" not in done.stderr  # a bar is for terminals
    mlflow.set_tracking_uri(tracking.uri())
    runs = mlflow.search_runs(experiment_names=["mine"])
    assert sorted(runs["tags.mlflow.runName"]) == [
        "attack",
        "fgsm",
        "systematic_matched",
    ]
    assert set(runs["status"]) == {"FINISHED"}
    row = json.loads(Path("results/own/mine/attacks/fgsm.json").read_text())
    logged = runs.set_index("run_id").loc[row["run_id"]]
    assert logged["metrics.damage"] == row["kl_perturbed_clean"]["mean"]
    assert logged["tags.latest"] == "attacks"
    parent = runs.set_index("run_id").loc[logged["tags.mlflow.parentRunId"]]
    assert parent["params.model"] == "mine.keras" and len(parent["params.maps_md5"]) == 32


def test_a_model_of_this_package_needs_no_scaling(folder):
    head = HeadLayer({"s8": (0.5, 1.0)}, name=HEAD)
    posterior = NetworkPosterior(Compact().model(16, head, Standardiser(20.0, 10.0), 1))
    posterior.save(folder / "mine.keras")
    done = spurious(*OWN, "random_sign")
    assert done.exit_code == 0, done.output
    assert "|shift| s8" in done.output and "a_agn" not in done.output
    row = json.loads(Path("results/own/mine/attacks/random_sign.json").read_text())
    assert row["rms_counts"]["mean"] == pytest.approx(1.0, rel=0.02)  # 0.1 std
    write_maps(folder / "small.h5", data_set(size=8))
    done = spurious("attack", "--model", "mine.keras", "--maps", "small.h5")
    assert done.stderr == ("error: small.h5 has maps of 8 x 8 pixels: the model takes 16 x 16\n")
    done = spurious(*OWN, "--scaling", "scaling.yaml")
    assert done.stderr == (
        "error: --scaling scaling.yaml: mine.keras is of spurious and knows its units\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attack"], "attack: give a NAME, such as the group paper, or --model and --maps for a"),
        (["attack", "bim", "--maps", "maps.h5"], "--maps maps.h5: only goes with --model"),
        (["attack", "bim", "--out", "out"], "--out out: only goes with --model"),
        (["attack", "--model", "mine.keras"], "--maps is missing: the maps on which mine.keras"),
        (OWN, "--scaling is missing: a file that says in which units mine.keras was trained"),
        (
            [*OWN, "bom"],
            "attack = 'bom': must be a group, paper, white_box, strongest, systematics, controls, ",
        ),
        ([*OWN, "--scaling", "no.yaml"], "no.yaml is missing: see docs/own_model.md"),
        (["attack", "--model", "no.keras", "--maps", "maps.h5"], "no.keras is missing"),
    ],
)
def test_options_that_do_not_fit_are_one_line(folder, arguments, message):
    before = files(folder)
    done = spurious(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert files(folder) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"map": {}}, "map = {}: unknown key, must be one of maps, labels, inputs"),
        ({"maps": None}, "maps = None: Input should be a valid dictionary"),
        ({"maps": {"mean": 20.0}}, "maps.std: missing"),
        ({"maps": {"mean": 20.0, "std": 0}}, "maps.std = 0: Input should be greater than 0"),
        ({"labels": {}}, "labels = {}: Dictionary should have at least 1 item"),
        ({"labels": {"s8": 0.8}}, "labels.s8 = 0.8: Input should be a valid dictionary"),
        ({"labels": {"s8": {"shift": 1}}}, "labels.s8.scale: missing"),
        ({"labels": {"s8": {"shift": 1, "scale": 0}}}, "scaling.labels.s8 = (1.0, 0.0): must be"),
        ({"inputs": "log"}, "inputs = 'log': Input should be 'standardised' or 'counts'"),
    ],
)
def test_a_wrong_scaling_file_is_one_line(folder, change, message):
    (folder / "scaling.yaml").write_text(yaml.safe_dump({**SCALING, **change}))
    done = spurious(*OWN, "--scaling", "scaling.yaml")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: scaling.yaml: {message}")
    assert done.stderr.count("\n") == 1


def spoiled(maps):
    data = data_set()
    return MapSet(**{**vars(data), "maps": maps(data.maps).astype(np.float32)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: data_set(names=("omega_m", "s8")), "maps.h5 has no a_agn: its parameters are"),
        (lambda: data_set(size=24), "mine.keras takes maps of 16 x 16 pixels, not 24 x 24"),
        (lambda: data_set(n=0), "maps.h5: maps have shape (0, 16, 16): there must be at least one"),
        (lambda: spoiled(lambda m: np.log(m / 100)), "maps.h5: row 0 of maps has -"),
        (
            lambda: spoiled(lambda m: m * np.nan),
            "maps.h5: row 0 of maps has nan at pixel (0, 0): must be",
        ),
        (lambda: spoiled(np.ones_like), "maps.h5: row 0 of maps has 1 in all its pixels"),
        (
            lambda: spoiled(lambda m: m / m.max() * 3e38),
            "mine.keras gives posteriors that are not finite",
        ),
    ],
)
def test_maps_that_do_not_fit_are_one_line(folder, data, message):
    write_maps(folder / "maps.h5", data())
    done = spurious(*OWN, "--scaling", "scaling.yaml", "bim")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        ("toward_planck", "objective toward: the posterior's s8 is missing"),
        ("shift_s8", "objective shift_s8 needs omega_m and sigma_8"),
        ("initial_conditions", "kind initial_conditions acts on simulations"),
        ("universal", ""),  # there are no training maps to make a pattern of
    ],
)
def test_objectives_for_other_parameters_are_one_line_before_work_starts(folder, attack, message):
    before = files(folder)
    done = spurious(*OWN, "--scaling", "scaling.yaml", "bim", attack)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: attacks.{attack}: {message}")
    assert files(folder) == before


def test_an_attack_that_builds_on_another_is_refused_with_it(folder):
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    of = raw["attacks"]["white_box"]["shift_s8"]
    raw["attacks"]["controls"]["shuffled"] = {"kind": "shuffled_phases", "of": of}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw))
    done = spurious(*OWN, "--scaling", "scaling.yaml", "shuffled")
    assert done.stderr.startswith("error: attacks.shuffled: objective shift_s8 needs omega_m")


FUNCTION = """
import tensorflow as tf


def of_counts(maps):
    mean = tf.reduce_mean(maps, (1, 2))[:, None] / 25
    means = tf.concat([0.7 + 0 * mean, 0.8 + 0 * mean, mean], 1)
    return means, tf.zeros_like(means) + 0.1
"""


def test_a_function_of_ones_own_needs_no_scaling(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "functions", raising=False)
    (folder / "functions.py").write_text(FUNCTION)
    options = ["--maps", "maps.h5", "bim"]
    done = spurious("attack", "--model", "functions:of_counts", *options)
    assert done.exit_code == 0, done.output
    row = json.loads((folder / "results/own/of_counts/attacks/bim.json").read_text())
    # 0.01 std a step, in that of the maps.
    assert row["parameters"]["alpha"] == pytest.approx(0.01 * data_set().maps.std(), rel=1e-3)
    done = spurious("attack", "--model", "functions:of_count", *options)
    assert done.stderr == (
        "error: --model functions:of_count: module functions has no of_count; did you mean "
        "'of_counts'?\n"
    )


def test_means_alone_say_that_their_widths_are_fitted(folder):
    keras.Model(inputs := network().inputs, inputs[0][:, :2, 0, 0]).save("mine.keras")
    done = spurious(*OWN, "--scaling", "scaling.yaml", "bim")
    assert done.exit_code == 0, done.output
    assert "1 in s8, 1 in a_agn (1 by construction: its widths are its errors" in done.output


def test_a_saved_model_of_ones_own(folder):
    network().export("exported", verbose=False)
    arguments = ["--maps", "maps.h5", "--scaling", "scaling.yaml", "random_sign"]
    done = spurious("attack", "--model", "exported", *arguments)
    assert done.exit_code == 0, done.output
    assert (folder / "results/own/exported/attacks/random_sign.json").is_file()
