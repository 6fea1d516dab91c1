"""`spurious use`: maps of one's own, trained on and attacked."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from spurious.cli import main
from spurious.data.hdf5 import read_maps, write_maps
from spurious.data.maps import MapSet

SHORT = {
    "posteriors": {"mine": {"kind": "network", "preset": {"kind": "compact", "width": 0.1}}},
    "training": {"epochs": 2},
    "attacks": {
        "few": {"bim": {"kind": "bim", "alpha": {"value": 0.01, "unit": "std"}, "steps": 2}}
    },
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A short params.yaml in the current folder, without tracking."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    Path("params.yaml").write_text(yaml.safe_dump(SHORT))
    return tmp_path


def arrays(n=40, size=16):
    """Maps of n simulations, two each, and a table of four parameters; written as CAMELS does."""
    draw = np.random.default_rng(0)
    table = draw.uniform(0.5, 1.0, (n, 4))
    maps = 25 * table.repeat(2, 0)[:, 2, None, None] * draw.gamma(5.0, 0.2, (2 * n, size, size))
    np.save("maps.npy", maps.astype(np.float32))
    np.savetxt("table.txt", table)
    return maps.astype(np.float32), table


def spurious(*arguments):
    return CliRunner().invoke(main, arguments)


NUMPY = ["use", "maps.npy", "--parameters", "table.txt", "--column", "s8", "2"]


def test_arrays_with_other_parameters_are_trained_on_and_attacked():
    maps, table = arrays()
    done = spurious(*NUMPY, "--column", "a_agn", "0", "--box-size", "50", "--unit", "Msun")
    assert done.exit_code == 0, done.output
    assert done.output == (
        "data/default/maps.h5: 80 maps of 16 x 16 pixels, parameters s8, a_agn\n"
    )
    data = read_maps(Path("data/default/maps.h5"))
    np.testing.assert_array_equal(data.maps, maps)
    np.testing.assert_array_equal(data.labels, table[:, [2, 0]].repeat(2, 0))
    assert (data.names, data.box_size, data.unit) == (("s8", "a_agn"), 50.0, "Msun")
    for arguments in (["train", "mine"], ["attack", "few"]):
        done = spurious(*arguments)
        assert done.exit_code == 0, done.output
    row = json.loads(Path("results/default/attacks/few/bim.json").read_text())
    assert row["kl_perturbed_clean"]["mean"] > 0


def test_a_data_set_is_taken_as_it_is():
    maps, table = arrays()
    n = len(maps)
    given = MapSet(maps, table.repeat(2, 0)[:, :1], np.zeros(n, np.uint64), np.arange(n) // 2,
                   np.full(n, -1, np.int8), 50.0, names=("s8",))  # fmt: skip
    write_maps(Path("mine.h5"), given)
    assert spurious("use", "mine.h5").exit_code == 0
    np.testing.assert_array_equal(read_maps(Path("data/default/maps.h5")).maps, maps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["use", "maps.npy"], "--parameters is missing: a table with a row for each map of maps"),
        (["use", "no.npy", "--parameters", "table.txt"], "no.npy is missing"),
        (["use", "no.h5"], "no.h5 is missing"),
        (["use", "no.h5", "--unit", "K"], "--unit: only goes with a NumPy file; no.h5 says that"),
        ([*NUMPY[:-1], "9"], "columns = [9]: table.txt has 4 columns, counted from 0"),
    ],
)
def test_what_does_not_fit_is_one_line_and_writes_nothing(here, arguments, message):
    arrays()
    before = sorted(here.rglob("*"))
    done = spurious(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_maps_that_are_there_are_kept():
    arrays()
    assert spurious(*NUMPY).exit_code == 0
    before = Path("data/default/maps.h5").read_bytes()
    done = spurious(*NUMPY)
    assert done.exit_code == 2
    assert done.stderr == (
        "error: data/default/maps.h5 exists and is kept: move it away to use maps.npy\n"
    )
    assert Path("data/default/maps.h5").read_bytes() == before
