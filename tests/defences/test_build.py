"""Entries of params.yaml: as objects in the data's own units, and refused in one line."""

import copy
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from spurious import config, kinds
from spurious.config.posteriors import Posterior
from spurious.defences.build import build
from spurious.defences.worst_case import WorstCase
from spurious.description.lookup import class_of
from spurious.errors import UserError
from spurious.params import load
from spurious.perturbations.spectral import Bounded, PhaseOnly
from spurious.training.defence import Defence

PARAMS = Path(__file__).parents[2] / "params.yaml"
STD = {"value": 0.1, "unit": "std"}
GAIN = {"kind": "gain_drift", "amplitude": {"low": -0.1, "high": 0.1}}
OVER_GAIN = {"kind": "systematics_training", "families": {"gain": GAIN}}
EVERY = {
    "adversarial_training": {"epsilon": STD},
    "trades": {"epsilon": STD, "beta": 2.0},
    "systematics_training": {"families": {"gain": GAIN}},
    "gradient_penalty": {"weight": 0.1},
    "fisher_penalty": {"weight": 0.1},
}


def entry(kind, **fields):
    return config.Network(kind="network", defence={"kind": kind, **fields}).defence


def refused(tmp_path, defence, network=None):
    """What `load` says of a file with this defence."""
    raw = copy.deepcopy(yaml.safe_load(PARAMS.read_text()))
    raw["posteriors"]["defended"] = {"kind": "network", "defence": defence, **(network or {})}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(UserError) as caught:
        load(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def test_every_kind_is_built(data):
    assert set(EVERY) == set(kinds.GROUPS["defence"])
    for kind, fields in EVERY.items():
        built = build(entry(kind, **fields), data, seed=1)
        assert isinstance(built, Defence) and type(built) is class_of("defence", kind)


def test_a_budget_in_std_is_counted_in_the_training_maps(data):
    std = data.maps.std(dtype=np.float64)
    for budget, counts in ((STD, 0.1 * std), ({"value": 3.0, "unit": "count"}, 3.0)):
        built = build(entry("adversarial_training", epsilon=budget), data, seed=1)
        assert isinstance(built, WorstCase) and built.epsilon == pytest.approx(counts)


def test_constraints_become_objects(data):
    given = [{"kind": "bounded", "fraction": 0.1}, {"kind": "phase_only"}]
    built = build(entry("trades", epsilon=STD, constraints=given), data, seed=1)
    one, two = built.constraints
    assert isinstance(one, Bounded) and one.fraction == 0.1
    assert two == PhaseOnly()


@pytest.mark.parametrize(
    ("defence", "message"),
    [
        (
            {"kind": "adversarial_training", "epsilon": {"value": 0.0, "unit": "std"}},
            "defended.defence.epsilon = {'value': 0.0, 'unit': 'std'}: must be above 0 and at most "
            "1 std, not 0 std",
        ),
        (
            {"kind": "trades", "epsilon": {"value": 1.5, "unit": "std"}},
            "defended.defence.epsilon = {'value': 1.5, 'unit': 'std'}: must be above 0 and at most "
            "1 std, not 1.5 std",
        ),
        (
            {"kind": "adversarial_training", "epsilon": {"value": 1, "unit": "sigma"}},
            "defended.defence.epsilon.unit = 'sigma': Input should be",
        ),
        ({"kind": "adversarial_training"}, "defended.defence.epsilon: missing"),
        (
            {"kind": "adversarial_training", "epsilon": STD, "steps": 0},
            "defended.defence.steps = 0: must be between 1 and 100, not 0",
        ),
        (
            {"kind": "adversarial_training", "epsilon": STD, "norm": "l3"},
            "defended.defence.norm = 'l3': Input should be 'linf' or 'l2'",
        ),
        (
            {"kind": "adversarial_training", "epsilon": STD, "constraints": [{"kind": "bound"}]},
            "defended.defence.constraints.0.kind = 'bound': must be one of 'phase_only'",
        ),
        (
            {"kind": "gradient_penalty", "weight": -1.0},
            "defended.defence.weight = -1.0: must be between 0 and 1e+06, not -1",
        ),
        (
            {"kind": "systematics_training", "families": {}},
            "families = {}: must have at least one",
        ),
        (
            {
                "kind": "systematics_training",
                "families": {"gain": GAIN},
                "left_out": ["gain_drift"],
            },
            "left_out: gain_drift is trained on too, as families.gain: must be kinds of "
            "systematics that no family has",
        ),
        (
            {**OVER_GAIN, "left_out": ["beam"], "families": {"beam": GAIN}},
            "left_out: gain_drift is trained on too, as families.beam",
        ),
        (
            {**OVER_GAIN, "left_out": ["gian"]},
            "left_out: 'gian' must be among logistic, calibration",
        ),
        (
            {"kind": "systematics_training", "families": {"gain": {"kind": "gian_drift"}}},
            "defended.defence.families.gain.kind = 'gian_drift': must be one of",
        ),
        (
            {**OVER_GAIN, "clean": 1.2},
            "defended.defence.clean = 1.2: must be between 0 and 1, not 1.2",
        ),
        (
            {"kind": "adversarial"},
            "defended.defence.kind = 'adversarial': must be one of 'adversarial_training', 't",
        ),
        ({"epsilon": STD}, "defended.defence.kind: missing"),
        (
            {"kind": "spurious.data.maps.MapSet"},
            "defence.kind = 'spurious.data.maps.MapSet': MapSet must be a dataclass that extends",
        ),
        (
            {"kind": "nowhere.Defence"},
            "defence.kind = 'nowhere.Defence': there is no module nowhere, neither installed",
        ),
        ("trades", "kind, which must be one of 'adversarial_training', 'trades'"),
    ],
)
def test_refusals_are_one_line_that_names_the_key(tmp_path, defence, message):
    assert message in refused(tmp_path, defence)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            {"input": "counts "},
            "defended.input = 'counts ': Input should be 'counts', 'con",
        ),
        ({"input": {"kind": "clip"}}, "must be counts, contrast, log, rank, or a section of kind"),
        (
            {"input": {"kind": "clipped", "upper": {"value": 0, "unit": "count"}}},
            "defended.input.upper = {'value': 0, 'unit': 'count'}: must be between 0.001 and",
        ),
        (
            {"input": {"kind": "band_limited", "high": {"value": 0.5, "unit": "1/Mpc"}}},
            "defended.input.high.unit = '1/Mpc': Input should be 'h/Mpc'",
        ),
        (
            {"input": "rank", "preset": "power_spectrum"},
            "input = 'rank' must be counts for the preset power_spectrum",
        ),
    ],
)
def test_representations_are_refused_in_one_line(tmp_path, network, message):
    assert message in refused(tmp_path, {"kind": "gradient_penalty", "weight": 0.1}, network)


def test_a_budget_in_counts_beyond_the_data_is_refused(data):
    std = data.maps.std(dtype=np.float64)
    large = {"value": round(float(1.1 * std), 3), "unit": "count"}
    with pytest.raises(UserError) as caught:
        build(entry("adversarial_training", epsilon=large), data, seed=1)
    assert str(caught.value) == (
        f"defence.epsilon = {large['value']:g} count: must be at most {std:.4g} count, the "
        "standard deviation of the training maps' pixels"
    )


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        (
            {"kind": "logistic", "a": {"low": 0.5, "high": 1.0}, "beta": {"low": -150, "high": 0}},
            "beta = -150",
        ),
        ({"kind": "stripes", "stripes": 4, "amplitude": {"low": 0, "high": 90}}, "amplitude = 90"),
        ({"kind": "correlated_noise", "rms": {"low": 0, "high": 90}}, "rms = 90"),
    ],
)
def test_ranges_that_would_make_maps_negative_are_refused(data, family, ends):
    maps = replace(data, maps=np.maximum(data.maps, 10))
    with pytest.raises(UserError) as caught:
        build(entry("systematics_training", families={"one": family}), maps, seed=1)
    text = str(caught.value)
    assert text.startswith("defence.families.one: ") and ends in text and "\n" not in text
    assert "of the training maps' pixels negative, at most 1% are allowed" in text


def blocks(language):
    """The examples of docs/defences.md."""
    page = (PARAMS.parent / "docs" / "defences.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_an_own_defence_is_one_class_and_one_entry(tmp_path, monkeypatch, data):
    """The class and the entry of the docs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (code,) = (block for block in blocks("python") if "class Noisy" in block)
    (tmp_path / "my_defence.py").write_text(code)
    given = yaml.safe_load(blocks("yaml")[-1])["posteriors"]["noisy"]
    built = build(config.Network.model_validate(given).defence, data, seed=1)
    assert built.rms == pytest.approx(0.05 * data.maps.std(dtype=np.float64))
    shown = built.shown(None, data.maps[:3], None, [1, 2])
    assert np.std(shown - data.maps[:3]) == pytest.approx(built.rms, rel=0.1)


def test_the_entries_of_the_docs_are_valid(data):
    found = [yaml.safe_load(block) for block in blocks("yaml")[:-1]]
    for name, given in ((n, e) for one in found for n, e in one["posteriors"].items()):
        entry = TypeAdapter(Posterior).validate_python(given)
        if entry.kind == "network":  # the others are made of posteriors
            assert build(entry.defence, data, seed=1), name
