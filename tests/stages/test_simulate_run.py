"""The stages `simulate` and `verify` as a whole, on boxes of 16^3 cells."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from noted import note

from spurious import seeds, shipped
from spurious.data.hdf5 import read_maps, write_maps
from spurious.errors import CheckFailed, UserError
from spurious.pipeline.layout import REFERENCE, Layout
from spurious.simulation import manifest, suite
from spurious.simulation.engine import cosmology_at, make_engine, one_map
from spurious.simulation.verify import make_reference
from spurious.stages import simulate, verify

SIMULATIONS = 14  # more than the 12 cosmologies


@pytest.fixture(scope="module")
def settings(config):
    made = config.model_dump(exclude_unset=True)
    made["simulation"] |= {
        "simulations": SIMULATIONS,
        "shard_size": 5,
        "n_cells": 16,
        "axes": [2, 0],
        "linear_power": "eisenstein_hu",
        "scale_factors": {"start": 0.1, "stop": 1.0, "stages": 3},
    }
    made["search"] |= {"maps": 2}
    return type(config).model_validate(made)


@pytest.fixture(scope="module")
def simulated(settings, tmp_path_factory):
    """The folder, the run and what was printed."""
    folder = tmp_path_factory.mktemp("simulated")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runs, printed = note(patch), []
        patch.setattr("builtins.print", lambda *text, **_: printed.append(" ".join(text)))
        simulate.run(settings, workers=1)
    (run,) = runs
    return folder, run, printed


def test_maps_are_dealt_to_the_cosmologies_in_turn_with_seeds_of_their_own(simulated, settings):
    folder, _, _ = simulated
    data = read_maps(folder / "data/pilot/maps.h5")
    nodes = [(m, s) for m in (0.1, 0.3, 0.5) for s in (0.6, 0.7, 0.8, 0.9)]
    expected = [nodes[i % 12] for i in range(SIMULATIONS)]
    np.testing.assert_allclose(data.labels, np.repeat(expected, 2, axis=0))
    assert data.axis.tolist() == [2, 0] * SIMULATIONS
    assert data.index.tolist() == np.repeat(np.arange(SIMULATIONS), 2).tolist()
    noise = [seeds.integer(settings.seed, "white noise", i) for i in range(SIMULATIONS)]
    assert data.seeds.tolist() == np.repeat(noise, 2).tolist()
    assert data.box_size == 64.0
    engine = make_engine(settings.simulation)
    alone = one_map(engine, cosmology_at(0.1, 0.9, settings.background), noise[3])
    np.testing.assert_allclose(data.maps[6], alone, rtol=1e-4, atol=1e-3)
    # The other line of sight shares one axis: the same columns when summed along the rest.
    np.testing.assert_allclose(data.maps[7].sum(1), data.maps[6].sum(0), rtol=1e-3)


def test_what_the_stage_says_of_its_maps(simulated, settings):
    folder, run, printed = simulated
    data = read_maps(folder / "data/pilot/maps.h5")
    expected = {
        "n_maps": 2 * SIMULATIONS,
        "shards_kept": 0,
        "shards_made_again": 0,
        "mean_count": pytest.approx(16, rel=1e-5),
        "std_count": pytest.approx(data.maps.std()),
        "max_count": pytest.approx(data.maps.max()),
    }
    assert {key: run.logged[key] for key in expected} == expected
    assert run.logged["maps_per_second"] * run.logged["seconds"] == pytest.approx(len(data))
    assert run.logged["seed"] == settings.seed and run.logged["n_cells"] == 16
    (logged, path) = run.datasets["output"]
    np.testing.assert_array_equal(logged.maps, data.maps)
    assert path == Layout("pilot").maps
    assert (run.id, run.about["scale"], run.about["inputs"]) == ("simulate", "pilot", [])
    assert printed[0].startswith("data/pilot/maps.h5: 28 maps of 14 simulations, 14 of them made")
    assert sorted(path.name for path in (folder / "data").iterdir()) == ["pilot", "shards"]
    assert not list((folder / "data/shards").iterdir())
    assert simulate.outputs(Layout("pilot")) == [Layout("pilot").maps, Layout("pilot").manifest]


@pytest.mark.slow
def test_any_one_simulation_is_made_again_bit_for_bit_in_a_process_of_its_own(
    simulated, settings, monkeypatch, capsys
):
    folder, _, _ = simulated
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    simulate.only(settings, 13)
    said = capsys.readouterr().out
    assert said.startswith("results/pilot/maps.md5, simulation 13 (omega_m = 0.1, sigma_8 = 0.7): ")
    maps = read_maps(folder / "data/pilot/maps.h5").maps[26:]
    for pixels, axis in zip(maps, (2, 0), strict=True):
        assert f"axis {axis}: MD5 {manifest.digest(pixels)}, bit for bit the same" in said
    assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
def test_a_simulation_that_comes_out_otherwise_is_named(
    simulated, settings, tmp_path, monkeypatch, capsys
):
    """Of a rounding error, the last bits are said to differ; of another map, it is an error."""
    data = read_maps(simulated[0] / "data/pilot/maps.h5")
    made = suite.provenance(settings.simulation, settings.background, settings.seed)
    monkeypatch.chdir(tmp_path)
    maps = data.maps.copy()
    maps[2] *= np.float32(1 + 1e-6)
    maps[4] *= np.float32(1 + 1e-3)
    manifest.write(Layout("pilot").manifest, replace(data, maps=maps), made)
    simulate.only(settings, 1)
    said = capsys.readouterr().out
    assert "differ by" in said and "allowed on another kind of processor: 1e-04" in said
    assert "axis 0: " in said and said.count("bit for bit the same") == 1
    with pytest.raises(CheckFailed, match=r"simulation 2 is not that of results/pilot/maps\.md5"):
        simulate.only(settings, 2)


def test_a_manifest_of_other_settings_is_refused_before_any_work(simulated, settings, monkeypatch):
    monkeypatch.chdir(simulated[0])
    with pytest.raises(UserError, match=r"root_seed = .* there, 1 here"):
        simulate.only(settings.model_copy(update={"seed": 1}), 0)
    with pytest.raises(UserError, match=r"simulation 14 is not in .*: it has 0 to 13"):
        simulate.only(settings, 14)


def test_asked_for_workers_take_the_place_of_those_of_the_file(settings):
    assert simulate._place(settings, None) == settings.execution.workers
    assert simulate._place(settings, 3).workers == 3


def test_durations_are_in_the_unit_that_reads_best():
    assert [simulate._duration(s) for s in (40, 119, 900, 7199, 11520)] == [
        "40 s",
        "119 s",
        "15 min",
        "120 min",
        "3.2 h",
    ]


@pytest.fixture(scope="module")
def reference(settings):
    """Maps of the engine itself, of which one is off by a tenth of its fluctuation."""
    simulation = settings.simulation.model_copy(update={"axes": (2,)})
    made = make_reference(simulation, settings.background, root_seed=1, progress=False)
    maps = made.maps.copy()
    maps[3] = 1.1 * (maps[3] - maps[3].mean()) + maps[3].mean()
    return replace(made, maps=maps)


def verified(reference, settings, tolerance, folder, patch):
    patch.chdir(folder)
    runs = note(patch)
    write_maps(folder / REFERENCE, reference)
    verify.run(settings.model_copy(update={"verify": type(settings.verify)(tolerance=tolerance)}))
    return runs


def test_the_largest_difference_is_written_and_each(
    reference, settings, tmp_path, monkeypatch, capsys
):
    (run,) = verified(reference, settings, 0.1, tmp_path, monkeypatch)
    found = json.loads(Path("results/verify.json").read_text())
    worst = 0.1 / 1.1  # of the fluctuation of the reference's map
    assert found["max_difference"] == pytest.approx(worst, rel=1e-3)
    assert found["mean_difference"] == pytest.approx(worst / 12, rel=1e-3)
    assert (found["n_maps"], found["tolerance"], found["run_id"]) == (12, 0.1, "verify")
    with open("data/verify.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["difference"]) > 0.05 for line in lines] == [i == 3 for i in range(12)]
    for line, label, seed in zip(lines, reference.labels, reference.seeds, strict=True):
        assert (float(line["omega_m"]), float(line["sigma_8"])) == tuple(label)
        assert int(line["seed"]) == seed
    assert run.logged["max_difference"] == found["max_difference"]
    assert run.logged["engine"] == "xla" and list(run.datasets) == ["reference"]
    assert run.about["inputs"] == [REFERENCE]
    assert f"{found['max_difference']:.2e}" in capsys.readouterr().out


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_beyond_the_tolerance_the_worst_map_is_named(
    reference, settings, tmp_path, monkeypatch, value
):
    maps = reference.maps.copy()
    maps[2, 0, 0] += value
    monkeypatch.setattr(verify, "read_maps", lambda path: replace(reference, maps=maps))
    tolerance = 0.08 if np.isfinite(value) else 0.5
    with pytest.raises(CheckFailed, match=r"omega_m = 0\.55, sigma_8 = ") as error:
        verified(reference, settings, tolerance, tmp_path, monkeypatch)
    assert ("sigma_8 = 1.0:" if np.isfinite(value) else "sigma_8 = 0.5:") in str(error.value)
    assert not Path("results").exists() and not Path("data/verify.csv").exists()


def test_a_reference_that_was_not_fetched_is_named(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shipped, "REPOSITORY", tmp_path)
    with pytest.raises(UserError, match=r"flowpm\.h5 is missing: fetch it with `dvc pull"):
        verify.run(settings)
