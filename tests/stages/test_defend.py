"""The stage `defend` on a small suite: files, refusals, wrapped posteriors, the winner."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml

from spurious import params
from spurious.config import Abstaining, Smoothed
from spurious.defences import abstaining, smoothing
from spurious.errors import UserError
from spurious.files import read_json
from spurious.pipeline import inputs, loading
from spurious.pipeline.confirmation import halves
from spurious.pipeline.layout import Layout
from spurious.pipeline.schemas import Defences, read
from spurious.posteriors.trained import Ensemble
from spurious.stages import assess, defend, train
from spurious.stages.audit import sample_maps

PARAMS = Path(__file__).parents[2] / "params.yaml"
KNOWN = defend.known  # which other tests leave out
SMALL = {
    "maps": 6,
    "linf": {"values": [0.03, 0.1], "unit": "std"},
    "l2": {"values": [0.01, 0.03], "unit": "std"},
    "epsilon": {"value": 0.1, "unit": "std"},
    "rms": {"value": 0.03, "unit": "std"},
    "steps": 4,
    "constrained_steps": 4,
    "restarts": 1,
    "reference_maps": 2,
    "reference_steps": 6,
    "families": ["logistic"],
    "starts": 1,
    "refine_steps": 2,
}
SMOOTHED = {
    "kind": "smoothed",
    "of": "compact",
    "over": {"kind": "noise", "rms": {"value": 0.2, "unit": "std"}},
    "draws": 3,
}
ABSTAINING = {
    "kind": "abstaining",
    "of": "smoothed",
    "detector": "pdf",
    "against": {
        "signs": {"kind": "random_sign", "epsilon": {"value": 0.5, "unit": "std"}},
        "systematic": {
            "kind": "logistic",
            "a": {"value": 0.25, "unit": "1/count"},
            "b": -15.0,
            "beta": {"value": 9.0, "unit": "count"},
        },
    },
    "false_alarms": 0.2,
    "maps": 40,
}


@pytest.fixture(scope="module")
def made(stored, config, folder):
    """The configuration with networks, posteriors made of them, and what the search found."""
    config, networks = stored
    entries = {
        **config.posteriors,
        "smoothed": Smoothed.model_validate(SMOOTHED),
        "abstaining": Abstaining.model_validate(ABSTAINING),
    }
    run = config.run.model_copy(update={"posteriors": ["compact", "resnet"], "defences": []})
    defended = type(config.defend).model_validate(SMALL)
    update = {"posteriors": entries, "run": run, "defend": defended}
    return config.model_copy(update=update), networks


@pytest.fixture
def here(made, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    monkeypatch.setattr(defend, "known", lambda config: {})
    return made[0]


def test_a_wrapped_posterior_is_made_of_the_first_training_of_the_other(made, here, data):
    config, networks = made
    found = loading.posterior(config, "smoothed")
    assert isinstance(found, smoothing.Smoothed)
    assert found.over.rms == pytest.approx(0.2 * 30)
    assert found.draws == 3
    own = smoothing.Smoothed(networks["compact", 1], found.over, 3, found.seed)
    np.testing.assert_allclose(found(data.maps[:4]).mean(), own(data.maps[:4]).mean(), rtol=1e-5)
    assert inputs.networks(config, "smoothed") == [("compact", 1)]
    assert inputs.networks(config, "abstaining") == [("compact", 1)]
    assert inputs.split_of(config, "abstaining") == "random"


def test_what_decides_a_wrapped_posterior_is_named_for_studies(made):
    config, _ = made
    assert config.how_made("compact") == config.how_made("ensemble") == []
    one, two = config.how_made("abstaining")  # of the other, which is of a network
    assert one.startswith("abstaining: {") and two.startswith("smoothed: {")
    entry = config.posteriors["smoothed"].model_copy(update={"draws": 4})
    other = config.model_copy(update={"posteriors": {**config.posteriors, "smoothed": entry}})
    assert other.how_made("abstaining")[1] != two


def test_the_same_posterior_comes_out_of_the_shared_ones(made, here, data):
    config, _ = made
    one = loading.Posteriors(config)("smoothed")(data.maps[:4]).mean()
    np.testing.assert_array_equal(one, loading.posterior(config, "smoothed")(data.maps[:4]).mean())


def test_a_detector_is_taught_by_training_maps_and_set_by_validation_maps(made, here, data):
    config, _ = made
    found = loading.posterior(config, "abstaining")
    assert isinstance(found, abstaining.Abstaining)
    assert isinstance(found.inner, smoothing.Smoothed)
    assert found.detector.directions.shape[1] == len(ABSTAINING["against"])
    split = inputs.parts(config, data, "random")
    held_out = data.maps[split.validation]
    rank = int(np.ceil((len(held_out) + 1) * 0.8))
    assert np.sum(found.accepts(held_out)) == rank
    again = loading.posterior(config, "abstaining")
    assert again.detector.threshold == found.detector.threshold


def test_an_ensemble_may_have_members_that_are_made(made, here):
    config, _ = made
    config = config.model_copy(update={"ensembles": {"calm": ["smoothed", "resnet"]}})
    found = loading.posterior(config, "calm")
    assert isinstance(found, Ensemble)
    assert [type(one).__name__ for one in found.members] == ["Smoothed", "NetworkPosterior"]
    assert inputs.networks(config, "calm") == [("compact", 1), ("resnet", 1)]


def test_the_network_that_is_registered_is_the_first_within(made):
    network, other = made[1]["resnet", 1], made[1]["compact", 1]
    assert defend.first_network(network) is network
    assert defend.first_network(Ensemble([network, other])) is network
    calm = smoothing.Smoothed(Ensemble([other, network]), smoothing.Noise(rms=1.0), draws=2)
    assert defend.first_network(calm) is other


def test_a_posterior_made_of_another_is_described_by_its_kind(made):
    about = assess.described(made[0], "smoothed", 1)
    assert (about["kind"], about["members"]) == ("smoothed", ["compact"])


def test_what_is_made_is_not_trained(made, here):
    with pytest.raises(UserError, match=r"posterior = 'smoothed': is made of compact, train that"):
        train.run(made[0], "smoothed")


@pytest.fixture(scope="module")
def written(made, folder):
    """What the stage wrote of a network and of one that abstains and is smoothed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SPURIOUS_TRACKING", "off")
        patch.setattr(defend, "known", lambda config: {})
        defend.run(made[0], ["resnet", "abstaining", "resnet"])
    return folder / "results/pilot"


@pytest.mark.slow
@pytest.mark.stage
def test_every_defence_has_a_row_beside_the_target(written, made):
    result = read(written / "all_defences.json", Defences)
    assert list(result["defences"]) == ["compact", "resnet", "abstaining"]
    kinds = {name: row["kind"] for name, row in result["defences"].items()}
    assert kinds == {"compact": "network", "resnet": "network", "abstaining": "abstaining"}
    seen = {name: row["families"]["logistic"]["seen"] for name, row in result["defences"].items()}
    assert seen == {"compact": False, "resnet": False, "abstaining": True}
    row = result["defences"]["compact"]
    assert (row["information"]["mean"], row["damage_left"]) == (1, 1)
    assert result["defences"]["abstaining"]["clean"]["rejected"]["mean"] > 0
    assert result["inside"] == []
    assert row["inside"] is None
    assert result["n_attacked"] == 6


@pytest.mark.slow
@pytest.mark.stage
def test_the_table_has_the_rows_in_short(written):
    rows = read_json(written / "all_defences.json")["defences"]
    with open(written / "all_defences.csv", newline="") as file:
        lines = {line["defence"]: line for line in csv.DictReader(file)}
    assert list(lines) == list(rows)
    for name, line in lines.items():
        row = rows[name]
        assert float(line["information"]) == row["information"]["mean"]
        assert float(line["damage.high"]) == row["damage"]["high"]
        assert line["unproven_by"] == " ".join(row["unproven"])
        assert float(line["proven"]) == (not row["unproven"])
        assert (
            float(line["clean.sigma_8_coverage_68"]) == row["clean"]["sigma_8_coverage_68"]["mean"]
        )
        assert float(line["linf.0.1_std"]) == row["curves"][1]["damage"]["mean"]
        assert float(line["bounded.low"]) == row["bounded"]["damage"]["low"]
        assert float(line["bounded.proven"]) == (not row["bounded"]["unproven"])
        assert line["bounded.unproven_by"] == " ".join(row["bounded"]["unproven"])


@pytest.mark.slow
@pytest.mark.stage
def test_two_figures_are_drawn(written):
    for name in ("all_defences_budget", "all_defences_trade"):
        assert (written / f"{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.stage
def test_given_names_leave_the_results_of_the_pipeline_alone(written):
    assert sorted(path.name for path in written.glob("*defences*")) == [
        "all_defences.csv",
        "all_defences.json",
        "all_defences_budget.pdf",
        "all_defences_budget.png",
        "all_defences_trade.pdf",
        "all_defences_trade.png",
    ]
    layout = Layout("pilot")
    pipeline, named = (
        set(defend.outputs(layout, title)) for title in (defend.PIPELINE, defend.NAMED)
    )
    assert not pipeline & named


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["other"], r"defence = 'other': must be one of held_out, contrast, "),
        (["compact"], r"defence = 'compact': must be one of "),
        (["held_out"], r"defence = 'held_out': has the split held_out, the target random"),
        (["full_covariance"], r"full_covariance/1.keras is missing: make it with `spurious train"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(here, names, message):
    with pytest.raises(UserError, match=message) as refused:
        defend.run(here, names)
    assert "\n" not in str(refused.value)


def test_a_named_defence_that_leaves_open_what_is_unseen_is_refused_in_one_line(here):
    entry = params.load(PARAMS).posteriors["marginalised"]
    over_gain = entry.defence.model_copy(
        update={"families": {"gain": entry.defence.families["gain_drift"]}, "left_out": ()}
    )
    entries = {**here.posteriors, "gain": entry.model_copy(update={"defence": over_gain})}
    config = here.model_copy(update={"posteriors": entries})
    with pytest.raises(UserError) as refused:
        defend.run(config, ["gain"])
    assert str(refused.value) == (
        "posteriors.gain.defence.left_out: logistic is tested, as search.families.logistic, but "
        "neither trained over nor left out"
    )


@pytest.mark.slow
@pytest.mark.stage
def test_the_winner_is_registered_with_its_card(made, here, written):
    kept = {}

    class Log:
        def model(self, model, example, name, current=True, card=""):
            kept.update(model=model, example=example, name=name, card=card)

    rows = read_json(written / "all_defences.json")["defences"]
    defend.register(here, "abstaining", rows, Log())
    assert kept["name"] == "pilot-defended"
    assert kept["model"].name == made[1]["compact", 1].model.name
    assert "kind: abstaining" in kept["card"]
    assert kept["example"].shape == (2, 16, 16)


CHANGES = [
    ({"run.defences": ["other"]}, "run.defences: 'other' must be one of"),
    ({"run.defences": ["compact"]}, "run.defences: 'compact' must be one of"),
    ({"run.defences": ["trades"]}, "run.defences: 'trades' must be one of run.posteriors"),
    ({"run.wrapped": ["compact"]}, "run.wrapped: 'compact' must be one of posteriors made of"),
    ({"run.posteriors": ["compact", "smoothed"]}, "run.posteriors: 'smoothed' must be one of"),
    ({"posteriors.smoothed.of": "nothing"}, "posteriors.smoothed.of: 'nothing' must be one of"),
    ({"posteriors.smoothed.of": "smoothed"}, "posteriors.smoothed.of = 'smoothed': is made of"),
    (
        {"posteriors.smoothed.of": "abstaining", "posteriors.abstaining.of": "smoothed"},
        "posteriors.abstaining.of = 'smoothed': is made of abstaining itself",
    ),
    ({"posteriors.smoothed.draws": 0}, "posteriors.smoothed.draws = 0: Input should be greater"),
    (
        {"posteriors.smoothed.over.rms.value": 0},
        "rms.value = 0: must be above 0",
    ),
    ({"posteriors.abstaining.false_alarms": 0}, "posteriors.abstaining.false_alarms = 0: Input"),
    ({"posteriors.abstaining.false_alarms": 0.5}, "posteriors.abstaining.false_alarms = 0.5: Inp"),
    ({"posteriors.abstaining.against": {}}, "posteriors.abstaining.against = {}: "),
    (
        {"defend.epsilon": {"value": 0, "unit": "std"}},
        "epsilon = 0.0 std: must be one of linf, 0.003, 0.01, 0.03, 0.1 std",
    ),
    (
        {"defend.l2": {"values": [0.0, 0.01], "unit": "std"}},
        "defend.l2.values = [0.0, 0.01]: 0.0 must be above 0: no budget does no damage",
    ),
    ({"defend.fraction": -0.1}, "defend.fraction = -0.1: Input should be greater"),
    ({"defend.families": ["beam"]}, "defend.families: 'beam' must be one of search.families"),
    (
        {"defend.epsilon": {"value": 0.5, "unit": "std"}},
        ": epsilon = 0.5 std: must be one of linf, 0.003, 0.01, 0.03, 0.1 std",
    ),
    (
        {"posteriors.marginalised.defence.left_out": []},
        "posteriors.marginalised.defence.left_out: saturation is tested, as "
        "search.families.saturation, but neither trained over nor left out",
    ),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES)
def test_bad_input_is_one_line_that_names_the_key(tmp_path, changes, message):
    raw = yaml.safe_load(PARAMS.read_text())
    for path, value in changes.items():
        *parents, last = path.split(".")
        section = raw
        for key in parents:
            section = section[key]
        section[last] = value
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(raw))
    with pytest.raises(UserError) as refused:
        params.load(file)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_defences_of_the_shipped_file_say_what_they_have_seen():
    config = params.load(PARAMS)
    assert config.seen("marginalised") == {"logistic", "calibration", "gain_drift", "beam"}
    assert config.seen("defended") == config.seen("marginalised")
    assert config.seen("abstaining") == {"bim", "pgd", "logistic"}
    assert config.seen("adversarial") == set()


def test_defences_are_measured_on_test_maps_that_nobody_has_seen(here, data):
    """Attacked are some; systematics are searched on one half and confirmed on the other."""
    found = defend.scene(here, ["resnet"])
    test = data.take(inputs.parts(here, data, "random").test)
    searched, confirming = halves(here, test)
    assert len(searched.simulations) == here.search.maps
    expected = {
        "test": test,
        "attacked": sample_maps(test, SMALL["maps"], here.seed),
        "searched": searched,
        "confirming": confirming,
    }
    for name, maps in expected.items():
        np.testing.assert_array_equal(getattr(found, name).maps, maps.maps, err_msg=name)
        np.testing.assert_array_equal(getattr(found, name).index, maps.index, err_msg=name)
    assert found.inside is None and list(found.families) == ["logistic"]
    assert (found.seed, found.settings, found.search) == (here.seed, here.defend, here.search)


def test_what_the_search_found_is_tried_again_of_the_tested_families(here, monkeypatch):
    families = {
        "logistic": {"parameters": {"a": 1.0, "b": 2.0, "beta": 3.0}, "kl": 4.0},
        "calibration": {"parameters": {"log_slope_1": 0.1}},
    }
    monkeypatch.setattr(defend, "read", lambda path, schema: {"families": families})
    assert KNOWN(here) == {"logistic": families["logistic"]["parameters"]}
    families["logistic"] = {"feasible": False}
    assert KNOWN(here) == {}


def test_maps_inside_the_trained_ranges_are_the_same_for_all(here, data):
    shipped = params.load(PARAMS)
    entries = {**here.posteriors, "marginalised": shipped.posteriors["marginalised"]}
    config = here.model_copy(update={"posteriors": entries})
    test = data.take(np.arange(20))
    one = defend.inside(config, ["marginalised"], test)
    np.testing.assert_array_equal(
        one.maps, defend.inside(config, ["resnet", "marginalised"], test).maps
    )
    assert np.abs(one.maps - test.maps).max() > 1
    assert defend.inside(config, ["resnet"], test) is None
