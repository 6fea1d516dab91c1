"""Networks that show what limits the target: what differs, and what is trained once and kept."""

import os
import sys
from pathlib import Path

import pytest

from spurious.params import load
from spurious.posteriors.trained import load as load_posterior

sys.path.append(str(Path(__file__).parents[1] / "scripts"))

import reference
import trained_once
import what_limits
from spurious.files import write_json


@pytest.mark.parametrize("scale", ["pilot", "paper"])
def test_each_differs_in_one_thing_and_takes_as_many_steps(scale):
    config = load(Path("params.yaml"), scale)
    first, used, share = what_limits.described(config, "as the target")
    assert first == config.posteriors[config.run.target]
    assert (used.epochs, share) == (round(first.trained(config.training).epochs / 3), 1)
    for name in what_limits.CHANGES:
        entry, trained, part = what_limits.described(config, name)
        parts = ("preset", "head", "input", "split")
        differs = {one for one in parts if getattr(entry, one) != getattr(first, one)}
        differs |= {"share"} if part != 1 else set()
        differs |= {"augment"} if trained.augment != used.augment else set()
        assert len(differs) == (name != "as the target"), name
        assert trained.epochs * part == pytest.approx(used.epochs, abs=0.5), name
    half = what_limits.described(config, "half as many filters")[0].preset
    assert half.width == getattr(first.preset, "width", 1.0) / 2


def test_a_network_is_trained_once(place, stored, monkeypatch):
    monkeypatch.chdir(place)
    config = stored[0]
    entry = config.posteriors[config.run.target]
    used = entry.trained(config.training).model_copy(update={"epochs": 1, "batch_size": 8})
    whole = trained_once.train(config, "compared", entry, used)
    half = trained_once.train(config, "compared", entry, used, share=0.5)
    assert whole != half and whole.parent == half.parent
    assert not whole.is_relative_to("models")  # on which stages depend
    weights = [load_posterior(path).model.get_weights() for path in (whole, half)]
    assert any((one != other).any() for one, other in zip(*weights, strict=True))
    monkeypatch.setattr(trained_once.loop, "train", None)
    was = os.stat(whole).st_mtime_ns
    assert trained_once.train(config, "compared", entry, used) == whole
    assert os.stat(whole).st_mtime_ns == was
    with pytest.raises(TypeError):
        trained_once.train(config, "compared", entry, used, number=2)


def row(**more):
    value = {"mean": 0.5, "low": 0.4, "high": 0.7}
    kinds = ("rmse", "z_rms", "coverage_68")
    keys = [f"{name}_{kind}" for name in ("omega_m", "sigma_8") for kind in kinds]
    return {"nll": {**value, "mean": -3.0}, **dict.fromkeys(keys, value), **more}


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_a_table_shows_what_each_change_does(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    found = {"no augmentation": row(n_train=70, epochs=50)}
    write_json(tmp_path / "results" / "paper" / "what_limits.json", found)
    head, _, line = cells(reference.limits("paper"))
    assert len(head) == len(line) == 9
    assert line[:4] == ["no augmentation, 50 epochs", "70", "−3.00 ± 0.15", "0.5000 ± 0.1500"]
    assert line[-1] == "0.500 ± 0.150"


def test_a_table_shows_the_targets_trainings_and_what_the_spectrum_can(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    names = ("compact_1", "compact_2", "resnet", "power_spectrum")
    own = {name: row(n_train=90) for name in names} | {"ensemble": row()}
    forecast = {"omega_m": 0.0801, "sigma_8": 0.0702}
    found = {"target": "compact_1", "posteriors": own, "fisher": {"rmse_with_prior": forecast}}
    write_json(tmp_path / "results" / "paper" / "assess.json", found)
    lines = cells(reference.quality("paper"))
    assert {len(line) for line in lines} == {9}
    first = [line[0] for line in lines[2:-1]]
    assert first == ["`compact_1`", "`compact_2`", "`ensemble`", "`power_spectrum`"]
    assert [line[1] for line in lines[2:-1]] == ["90", "90", "", "90"]
    assert lines[-1][3:5] == ["0.0801", "0.0702"]
