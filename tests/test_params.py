"""params.yaml: what is accepted, and that each refusal names key, value and what is allowed."""

import copy
import math
import pickle
import re
from pathlib import Path

import pytest
import yaml

from spurious.config import Budget, Config
from spurious.errors import UserError
from spurious.params import load

PARAMS = Path(__file__).parents[1] / "params.yaml"
BIM = {"kind": "bim", "alpha": {"value": 0.01, "unit": "std"}}


@pytest.fixture
def raw():
    return yaml.safe_load(PARAMS.read_text())


def load_changed(tmp_path, raw, changes, scale=None):
    changed = copy.deepcopy(raw)
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = changed
        for key in parents:
            section = section[key]
        section[last] = value
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(changed, sort_keys=False))
    return load(file, scale)


def test_shipped_file_is_valid_at_both_scales():
    pilot, paper = load(PARAMS), load(PARAMS, "paper")
    assert isinstance(pilot, Config)
    assert (pilot.scale, pilot.simulation.simulations) == ("pilot", 1210)
    assert (paper.scale, paper.simulation.simulations, paper.training.epochs) == (
        "paper",
        10000,
        150,
    )
    assert len(pilot.design.omega_m.values()) == len(pilot.design.sigma_8.values()) == 11
    assert pilot.design.omega_m.values()[2] == 0.15


@pytest.mark.parametrize("scale", ["pilot", "paper"])
def test_other_processes_get_the_same(scale):
    """Also entries whose sections are made when the file is read."""
    config = load(PARAMS, scale)
    assert pickle.loads(pickle.dumps(config)) == config


def test_profile_overrides_only_its_own_scale(tmp_path, raw):
    changes = {"training.epochs": 7, "profiles.pilot.training": {}}
    assert load_changed(tmp_path, raw, changes).training.epochs == 7
    assert load_changed(tmp_path, raw, changes, "paper").training.epochs == 150


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"simulation.lpt_ordr": 2}, "simulation.lpt_ordr = 2: unknown key, must be one of"),
        ({"simulation.lpt_order": 3}, "simulation.lpt_order = 3: Input should be 1 or 2"),
        (
            {"simulation.box_size.unit": "kpc"},
            "simulation.box_size.unit = 'kpc': Input should",
        ),
        (
            {"simulation.engine": "flowpm", "simulation.force_mesh": 2},
            "simulation.force_mesh = 2: must be 1 with simulation.engine = flowpm",
        ),
        ({"simulation.n_cells": 65}, "simulation.n_cells = 65: must be even"),
        ({"simulation.engine": "gadget"}, "simulation.engine = 'gadget': Input should be 'xla' or"),
        (
            {"attacks.paper.bim.alpha.value": -1},
            "attacks.paper.bim.alpha.value = -1: Input should be greater",
        ),
        (
            {"attacks.paper.bim.alpha.unit": "sigma"},
            "attacks.paper.bim.alpha.unit = 'sigma': Input should be",
        ),
        (
            {"attacks.paper.systematic.beta.unit": "std"},
            "attacks.paper.systematic.beta.unit = 'std'",
        ),
        (
            {"attacks.paper.fgsm.kind": "fsgm"},
            "attacks.paper.fgsm.kind = 'fsgm': must be one of 'random_sign', 'fgsm'",
        ),
        ({"training": True}, "training: must be a mapping, not True"),
        ({"simulation": None}, "simulation: must be a mapping, not None"),
        ({"training.test_fraction": 1.0}, "training.test_fraction = 1.0: Input should be less"),
        ({"training.learning_rate": float("nan")}, "training.learning_rate = nan: Input should be"),
        ({"design.omega_m.step": 0.07}, "is not start = 0.05 plus a whole number of steps of 0.07"),
        (
            {"design.omega_m.step": 1e-300},
            "step = 1e-300 from 0.05 to 0.55 makes 5e+299 values, at most 1000 are allowed",
        ),
        ({"design.sigma_8.step": 5e-324}, "design.sigma_8 = {"),
        (
            {"design.omega_m": {"start": -1.7e308, "stop": 1.7e308, "step": 1.0}},
            "makes inf values, at most 1000 are allowed",
        ),
        (
            {"profiles.pilot.simulation.simulations": 10**14},
            "simulations = 100000000000000: Input should be less than or equal to 1000000",
        ),
        ({"design.omega_m.start": 0.0}, "must lie between background.omega_b = 0.0486 and 1"),
        (
            {"search.families.logistic.a": {"low": 2.0, "high": 1.0}},
            "low = 2.0 must be less than high = 1.0",
        ),
        (
            {"search.families.logistic.transition": {"low": 0.0, "high": 1.0}},
            "transition.low = 0.0 must be greater than 0",
        ),
        ({"search.fences": {}}, "search.fences"),
        ({"search.fences.powr": 0.1}, "search.fences.powr = 0.1: unknown key, must be one of"),
        ({"search.maps": 363}, "search.maps: 363 must be less than the 363 test maps"),
        ({"profiles.pilot.simulation": {"simulations": 2}}, "leaves an empty part"),
        ({"profiles.paper.training.epochs": 0}, "at scale paper: training.epochs = 0"),
        (
            {"profiles.pilot.design": {}},
            "profiles.pilot.design: unknown key, must be one of",
        ),
        ({"run.scales": ["pilt"]}, "run.scales: 'pilt' must be one of profiles: pilot, paper"),
        ({"run.attacks": ["bam"]}, "run.attacks: 'bam' must be one of attacks: paper, white_box"),
        ({"attacks.none": {}}, "attacks.none: must have at least one entry"),
        (
            {
                "attacks.controls.bim": {
                    "kind": "random_sign",
                    "epsilon": {"value": 1, "unit": "std"},
                }
            },
            "attacks.controls.bim: is a name in attacks.paper too",
        ),
        (
            {"attacks.controls.transferred.on": "third"},
            "attacks.controls.transferred.on: 'third' must be one of what is run: compact, co",
        ),
        (
            {"attacks.controls.shuffled_pixels.of": {**BIM, "on": "third"}},
            "attacks.controls.shuffled_pixels.on: 'third' must be one of what is run",
        ),
        ({"run.attacks": []}, "run.attacks = []: List should have at least 1 item"),
        ({"seed": -1}, "seed = -1: Input should be greater than or equal to 0"),
        ({"sede": 1}, "sede = 1: unknown key"),
    ],
)
def test_refusals_are_one_line_that_names_the_key(tmp_path, raw, changes, message):
    with pytest.raises(UserError) as caught:
        load_changed(tmp_path, raw, changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "seed",
        "damage.share",
        "attacks.paper.fgsm.epsilon.value",
        "simulation.lpt_order",
        "posteriors.marginalised.defence.families.logistic.beta",
        "search.families.saturation.strength",
    ],
)
def test_true_is_no_number(tmp_path, raw, key):
    with pytest.raises(UserError, match=rf"{re.escape(key)} = True: must be a number\b"):
        load_changed(tmp_path, raw, {key: True})


@pytest.mark.parametrize(
    ("key", "value"), [("defend.maps", -math.inf), ("training.epochs", "ten"), ("search.starts", 0)]
)
def test_a_profile_hides_no_wrong_value_of_a_shared_section(tmp_path, raw, key, value):
    with pytest.raises(UserError, match=rf"params\.yaml: {re.escape(key)} = "):
        load_changed(tmp_path, raw, {key: value})


def test_a_shared_section_may_lack_what_every_profile_gives(tmp_path, raw):
    assert "simulations" not in raw["simulation"]
    assert load_changed(tmp_path, raw, {}).simulation.simulations == 1210


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "{}"])
def test_an_empty_file_leaves_out_every_section(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    assert load(tmp_path / "params.yaml").scale == "default"


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml is missing"):
        load(tmp_path / "nowhere.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("run: [pilot\n")
    with pytest.raises(UserError, match=r"broken\.yaml is not valid YAML"):
        load(broken)


def test_unknown_scale_is_refused():
    with pytest.raises(UserError, match="scale = 'huge': must be one of pilot, paper"):
        load(PARAMS, "huge")


def test_matched_amplitude_carries_the_whole_attack_it_is_matched_to():
    config = load(PARAMS)
    assert config.entries["systematic_matched"].beta.match == config.entries["bim"]


def test_budget_in_counts():
    assert Budget(value=0.5, unit="std").counts(40.0) == 20.0
    assert Budget(value=0.5, unit="count").counts(40.0) == 0.5


LOGISTIC = "kind: logistic, a: {value: 0.2, unit: 1/count}, b: 1.0"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            f"&me {{{LOGISTIC}, beta: {{match: *me}}}}",
            "attacks.added.one.beta.match: refers to attacks.added.one, which holds it",
        ),
        (
            "&me {kind: gaussian_noise, rms: {match: {kind: gaussian_noise, rms: {match: *me}}}}",
            "attacks.added.one.rms.match.rms.match: refers to attacks.added.one, which holds it",
        ),
        (
            "&me {kind: shuffled_pixels, of: *me}",
            "attacks.added.one.of: refers to attacks.added.one, which holds it",
        ),
        ("&me {<<: *me}", "attacks.added.one.<<: refers to attacks.added.one, which holds it"),
        ("&me [1, *me]", "attacks.added.one.1: refers to attacks.added.one, which holds it"),
        ("!!omap &me [a: *me]", "attacks.added.one.0.a: refers to attacks.added.one, which"),
        ("{? &me [*me] : 1}", "attacks.added.one.?.0: refers to attacks.added.one.?, which"),
        ("[" * 60 + "]" * 60, "attacks.added.one.0.0.0.0.0 ...: is nested too deeply, at most 32"),
        ("{a: " * 60 + "1" + "}" * 60, "attacks.added.one.a.a.a.a.a ...: is nested too deeply"),
        ("[" * 900 + "]" * 900, "line 2: is nested too deeply, at most 32 levels allowed"),
        ("{a: " * 2000 + "1" + "}" * 2000, "line 2: is nested too deeply, at most 32 levels"),
        ("2026-13-45", "is not valid YAML: month must be in 1..12"),
        ("9" * 5000, "is not valid YAML: Exceeds the limit"),
    ],
)
def test_values_that_hold_themselves_or_are_too_deep_are_one_line(tmp_path, entry, message):
    text = PARAMS.read_text().replace("\nattacks:", f"\nattacks:\n  added: {{one: {entry}}}\n#")
    file = tmp_path / "params.yaml"
    file.write_text(f"# first\n{text}")
    if "line 2" in message:
        file.write_text(f"# first\nadded: {entry}")
    with pytest.raises(UserError) as caught:
        load(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_the_whole_file_inside_itself_is_one_line(tmp_path):
    (tmp_path / "params.yaml").write_text("&all\nseed: *all\n")
    with pytest.raises(UserError, match=r"seed: refers to the file, which holds it"):
        load(tmp_path / "params.yaml")


def test_a_short_file_of_aliases_cannot_become_a_huge_one(tmp_path):
    """Nine to the tenth values, of which none is made."""
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 11)]
    (tmp_path / "params.yaml").write_text("\n".join(["l0: &l0 1", *levels]))
    with pytest.raises(UserError, match="more than 100000 values with every alias written out"):
        load(tmp_path / "params.yaml")


def test_aliases_that_hold_nothing_of_themselves_stay_allowed(tmp_path):
    """The same entry twice, and one inside another that is inside a third."""
    text = PARAMS.read_text() + "\n"
    noise = "{kind: gaussian_noise, rms: {match: *bim}}"
    text = text.replace("  controls:\n", f"  controls:\n    x: &x {noise}\n    y: *x\n", 1)
    (tmp_path / "params.yaml").write_text(text)
    entries = load(tmp_path / "params.yaml").entries
    assert entries["x"] == entries["y"] and entries["x"].rms.match == entries["bim"]


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("seed: 20221121", "seed: 1\nseed: 20221121", "seed"),
        ("  kind: grid", "  kind: grid\n  kind: sobol", "design.kind"),
        (
            "      kind: stripes",
            "      kind: beam\n      kind: stripes",
            "attacks.systematics.stripes.kind",
        ),
    ],
)
def test_a_key_that_stands_twice_is_refused_not_overwritten(tmp_path, old, new, key):
    text = PARAMS.read_text()
    assert old in text
    file = tmp_path / "params.yaml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"^{file}: {key}: stands twice$"):
        load(file)


def test_a_key_laid_over_an_alias_does_not_stand_twice(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text())  # strongest_l2 overrides epsilon of strongest_linf
    assert load(file).attacks["strongest"]["strongest_l2"].norm == "l2"


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": "x" * 100_000},
        {"x" * 100_000: 1},
        {"attacks.paper.bim.kind": "x" * 100_000},
        {"profiles.pilot": "x" * 100_000},
        {"training": "x" * 100_000},
    ],
)
def test_a_long_value_does_not_make_a_long_message(tmp_path, raw, changes):
    with pytest.raises(UserError) as caught:
        load_changed(tmp_path, raw, changes)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", ["a\nb", "a\x1b[31m", "a\u202eb", "a\u200b"])
def test_what_cannot_be_printed_is_written_out(tmp_path, raw, key):
    with pytest.raises(UserError, match="unknown key") as caught:
        load_changed(tmp_path, raw, {key: 1})
    assert str(caught.value).isprintable()
    with pytest.raises(UserError, match="unknown key") as caught:
        load_changed(tmp_path, raw, {"profiles": {"pilot": {key: 1}}})
    assert str(caught.value).isprintable()
    with pytest.raises(UserError, match=r"design\.kind = ") as caught:
        load_changed(tmp_path, raw, {"design": {"kind": key}})
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["se\ned", "\x1b[2Jseed", "seed\u2028", "s" * 5000, "seed\r"])
@pytest.mark.parametrize("section", ["run", "training", "attacks.paper.bim", "profiles.pilot"])
def test_a_key_of_any_signs_is_told_in_one_short_line(tmp_path, raw, key, section):
    with pytest.raises(UserError, match="unknown key") as caught:
        load_changed(tmp_path, raw, {f"{section}.{key}": "x" * 5000})
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


def test_a_message_is_one_line_whatever_it_repeats():
    assert str(UserError("a\nb\x1b[31m\u202e Ω_m\ud800")) == r"a\nb\x1b[31m\u202e Ω_m\ud800"
