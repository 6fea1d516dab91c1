"""Tuning: the same study however often it is interrupted, hopeless trials, and what it prints."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from click.testing import CliRunner

from spurious import config, figures, params
from spurious.cli import main
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet
from spurious.data.splits import split
from spurious.errors import UserError
from spurious.training import loop, tuning
from spurious.training.tuning_result import Outcome, Result, importances
from spurious.training.tuning_space import Space

ROOT = Path(__file__).parents[2]
SEED = 11
PARTS = split(np.arange(44), 0.25, 0.2, SEED)
BASE = config.Network(kind="network", preset={"kind": "compact", "width": 0.25})
SHARED = config.Training(epochs=50, batch_size=16, learning_rate=2e-3, weight_decay=0.01)
SETTINGS = config.Tune(
    trials=3,
    epochs=2,
    presets=["compact"],
    width={"low": 0.2, "high": 0.4},
    heads=["diagonal", "full"],
    components=2,
    batch_sizes=[8, 16],
    startup_trials=3,
    warmup_epochs=0,
)
SLOW = config.Range(low=1e-8, high=2e-8)  # rates at which nothing is learned
FAST = config.Range(low=0.99, high=1.0)  # and at which half precision overflows


def make_data(poisoned=True):
    """White noise whose amplitude is label 0, skewness label 1; test maps must not be read."""
    draw = np.random.default_rng(8)
    labels = draw.uniform(0.2, 0.8, (44, 2))
    noise = draw.standard_normal((44, 16, 16))
    shape = noise + labels[:, 1, None, None] * (noise**2 - 1)
    counts = (64 + 30 * labels[:, 0, None, None] * shape).astype(np.float32)
    if poisoned:
        counts[PARTS.test], labels[PARTS.test] = np.nan, np.nan
    return MapSet(
        maps=counts,
        labels=labels,
        seeds=np.arange(44, dtype=np.uint64),
        index=np.arange(44),
        axis=np.full(44, 2, np.int8),
        box_size=128.0,
    )


def tune(folder, trials=3, base=BASE, data=None, **changes):
    settings = SETTINGS.model_copy(update={"trials": trials, **changes})
    data = make_data() if data is None else data
    storage = folder / "deep" / "tune.db"
    return tuning.run(
        settings, data, PARTS, base, SHARED, SEED, storage, folder / "all", progress=False
    )


def states(folder):
    url = f"sqlite:///{folder / 'deep' / 'tune.db'}"
    (name,) = optuna.get_all_study_names(url)
    return [trial.state.name for trial in optuna.load_study(study_name=name, storage=url).trials]


def trained(entry, folder):
    network = config.Network.model_validate(entry)
    settings = network.trained(SHARED).model_copy(update={"epochs": 2})
    return loop.train(make_data(), PARTS, network, settings, SEED, folder, progress=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted study, and its folder."""
    folder = tmp_path_factory.mktemp("whole")
    return tune(folder), folder


@pytest.mark.slow
def test_the_first_trial_is_the_network_as_it_is(whole):
    first = whole[0].default
    assert first.entry == {"kind": "network", "preset": {"kind": "compact", "width": 0.25}}
    assert config.Network.model_validate(first.entry) == BASE


@pytest.mark.slow
def test_the_entry_can_be_pasted_and_trains_to_the_value_of_its_trial(whole, tmp_path):
    last = whole[0].trials[2]
    pasted = yaml.safe_load(yaml.safe_dump({"tuned": last.entry}))["tuned"]
    assert config.Network.model_validate(pasted).seed == 2
    network, history = trained(pasted, tmp_path)
    assert min(history["val_loss"]) == last.value == history["val_loss"][last.epoch - 1]
    assert network.name == pasted["preset"]["kind"]


@pytest.mark.slow
def test_trials_differ_and_stay_within_the_bounds(whole):
    entries = [one.entry for one in whole[0].trials]
    assert len({json.dumps(entry) for entry in entries}) == 3
    for entry in entries[1:]:
        assert 0.2 <= entry["preset"]["width"] <= 0.4
        assert 5e-4 <= entry["training"]["learning_rate"] <= 1e-2
        assert 1e-3 <= entry["training"]["weight_decay"] <= 0.5
        assert entry["training"]["batch_size"] in (8, 16)


@pytest.mark.slow
def test_nothing_but_the_study_is_left(whole):
    assert [path.name for path in whole[1].iterdir()] == ["deep"]
    assert [path.name for path in (whole[1] / "deep").iterdir()] == ["tune.db"]


def interrupted(monkeypatch, at, written):
    """Ctrl-C in the `at`-th epoch of all, before or after its checkpoint is written."""
    write, count = loop.Checkpoint._write, [0]

    def interrupting(self):
        count[0] += 1
        if count[0] < at or written:
            write(self)
        if count[0] == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.Checkpoint, "_write", interrupting)


@pytest.mark.slow
def test_two_trials_and_then_three_are_three_at_once_whatever_interrupts_them(whole, tmp_path):
    """Stopped in the first and after the last epoch of trial 1, before and after a checkpoint."""
    for at, written in ((3, False), (2, True)):
        with pytest.MonkeyPatch.context() as patch:
            interrupted(patch, at, written)
            with pytest.raises(KeyboardInterrupt):
                tune(tmp_path, 2)
    assert tune(tmp_path, 2).trials == whole[0].trials[:2]
    assert tune(tmp_path) == whole[0]
    assert states(tmp_path) == ["COMPLETE", "FAIL", "FAIL", "COMPLETE", "COMPLETE"]
    assert tune(tmp_path) == whole[0]
    assert tune(tmp_path, 2).trials == whole[0].trials[:2]
    assert len(states(tmp_path)) == 5


@pytest.mark.slow
def test_a_hopeless_trial_is_pruned_and_leaves_no_checkpoint(tmp_path):
    found = tune(tmp_path, 2, learning_rate=SLOW, startup_trials=1, epochs=3)
    assert [one.ended for one in found.trials] == ["complete", "pruned"]
    assert found.trials[1].value is None
    assert found.trials[1].epochs < 3
    assert found.best == found.default
    assert found.to_json()["n_pruned"] == 1
    assert states(tmp_path) == ["COMPLETE", "PRUNED"]
    assert not (tmp_path / "all").exists()


@pytest.mark.slow
def test_a_diverged_trial_is_counted_and_does_not_end_the_study(tmp_path):
    own = {"clip_norm": 1e9, "precision": "mixed_float16"}
    base = BASE.model_copy(update={"training": config.Training(**own)})
    found = tune(tmp_path, 2, base, learning_rate=FAST, components=1, heads=["diagonal"])
    assert [one.ended for one in found.trials] == ["complete", "diverged"]
    assert found.trials[1].entry["training"].items() >= own.items()
    assert found.to_json()["n_diverged"] == 1
    assert not (tmp_path / "all").exists()


def test_a_mistake_that_is_no_trials_fault_ends_it(tmp_path):
    data = make_data()
    data.maps[PARTS.train[0], 3, 3] = np.inf
    with pytest.raises(UserError, match="not finite"):
        tune(tmp_path, data=data)
    assert states(tmp_path) == ["FAIL"]


def test_what_the_network_to_beat_has_is_tried_too():
    base = config.Network(
        kind="network",
        preset="horowitz2022",
        head={"kind": "mixture", "components": 6},
        training={"batch_size": 48, "weight_decay": 0, "patience": 7},
    )
    space = Space(config.Tune(), base, SHARED)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(space.coordinates())
    entries = [space.entry(study.ask(), index) for index in range(60)]
    assert config.Network.model_validate(entries[0]) == base
    first = study.trials[0].params
    assert first["preset"] == "horowitz2022" and "width" not in first
    assert (first["batch_size"], first["components"]) == (48, 6)
    assert first["weight_decay"] == 1e-3  # nearest to zero in logarithm
    found = [config.Network.model_validate(entry) for entry in entries]
    kinds = {getattr(network.preset, "kind", network.preset) for network in found}
    assert kinds == {"compact", "resnet", "horowitz2022"}
    assert {network.head.kind for network in found} == {"mixture", "flow"}
    assert {network.training.batch_size for network in found} == {16, 32, 48, 64}
    assert {network.training.patience for network in found} == {7}
    assert [network.seed for network in found] == list(range(60))


def test_the_flow_of_the_network_to_beat_keeps_its_depth():
    base = config.Network(kind="network", head={"kind": "flow", "blocks": 3, "bins": 5})
    space = Space(config.Tune(heads=["flow"]), base, SHARED)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(space.coordinates())
    for index in range(3):
        network = config.Network.model_validate(space.entry(study.ask(), index))
        assert network.head == base.head


def test_the_parameter_that_decides_is_the_important_one():
    """A loss that depends on the learning rate alone."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = Space(config.Tune(), BASE, SHARED)
    for index in range(40):
        trial = study.ask()
        space.entry(trial, index + 1)
        study.tell(trial, math.log(trial.params["learning_rate"] / 2e-3) ** 2)
    found = importances(study.trials)
    assert max(found, key=found.get) == "learning_rate"
    assert found["learning_rate"] > 0.5
    assert importances(study.trials[:7]) == {}


def test_the_best_is_complete_and_figures_can_be_drawn_without_any():
    def outcome(index, value):
        return Outcome(index, "pruned" if value is None else "complete", value, None, 1, {})

    found = Result("name", (outcome(0, 1.0), outcome(1, None), outcome(2, 0.5)), {})
    assert found.best.index == 2
    assert found.best_so_far == [1.0, 1.0, 0.5]
    nothing = Result("name", (outcome(0, None),), {})
    assert nothing.best is None and nothing.best_so_far == [None]
    exported = json.loads(json.dumps(nothing.to_json(), allow_nan=False))
    assert exported["entry"] is None
    for result in (found, nothing):
        values = [one.value for one in result.trials]
        figure = figures.tuning_history(values, result.best_so_far)
        assert figure.axes[0].get_xlabel() == "trial"
        figure.canvas.draw()
    figures.tuning_importances({}, 3).canvas.draw()


def test_bounds_that_cannot_be_searched_in_logarithm_are_refused():
    with pytest.raises(ValueError, match=r"width: 0.0 to 1.0 must lie above 0 and at most at 8"):
        config.Tune(width={"low": 0, "high": 1})


@pytest.mark.slow
def test_the_command_writes_its_results_and_an_entry_to_paste(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["tune"] = SETTINGS.model_dump() | {"epochs": 1, "base": "full_covariance"}
    raw["posteriors"]["full_covariance"]["preset"] = {"kind": "compact", "width": 0.25}
    raw["posteriors"]["full_covariance"]["training"] = {"learning_rate": 1e-9}  # easy to beat
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    write_maps(Path("data/pilot/maps.h5"), make_data(poisoned=False))
    done = CliRunner().invoke(main, ["tune", "--trials", "2"])
    assert done.exit_code == 0, done.output
    results = json.loads(Path("results/pilot/tune.json").read_text())
    assert results["default"] > results["best"]
    assert (results["trial"], results["n_complete"], len(results["trials"])) == (1, 2, 2)
    assert {path.name for path in Path("results/pilot").iterdir()} == {
        "tune.json", "tuning_history.png", "tuning_importances.png",
        "tuning_history.pdf", "tuning_importances.pdf",
    }  # fmt: skip
    entry = done.stdout[done.stdout.index("  tuned:") :]
    text = yaml.safe_dump(raw).replace("\nposteriors:\n", f"\nposteriors:\n{entry}")
    Path("params.yaml").write_text(text)
    tuned = params.load(Path("params.yaml")).posteriors["tuned"]
    assert tuned == config.Network.model_validate(results["entry"])
    assert tuned.head.covariance in ("diagonal", "full")


def test_what_is_no_network_cannot_be_tuned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    text = Path("params.yaml").read_text().replace("tune: {", "tune: {base: likelihood, ")
    Path("params.yaml").write_text(text)
    done = CliRunner().invoke(main, ["tune"])
    assert done.exit_code == 2
    assert "tune.base = 'likelihood': must be a network, one of compact, " in done.stderr
