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


@pytest.mark.slow
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
        (["use", "no.h5"], "no.h5 is missing\n"),
        (
            ["use", "mops.npy", "--parameters", "table.txt"],
            "mops.npy is missing; did you mean 'map",
        ),
        (["use", "no.h5", "--column", "h", "2"], "--column: only goes with a NumPy file; no.h5"),
        (["use", "no.h5", "--unit", "K"], "--unit: only goes with a NumPy file; no.h5 says that"),
        ([*NUMPY[:4], "--column", "A(AGN)", "2"], "parameter 'A(AGN)': a name has 1 to 64 letters"),
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


def test_one_factor_brings_maps_to_a_mean_and_is_told():
    """Each map's own mean says something of its cosmology: the ratios stay."""
    maps, _ = arrays()
    assert spurious(*NUMPY, "--unit", "Msun", "--mean", "64").exit_code == 0
    data = read_maps(Path("data/default/maps.h5"))
    factor = 64 / maps.mean(dtype=float)
    np.testing.assert_allclose(data.maps, factor * maps, rtol=1e-6)
    assert data.unit == f"Msun, times {factor:.6g}"
    assert data.provenance["factor"] == pytest.approx(factor)


S8 = {
    "kind": "pgd",
    "epsilon": {"value": 0.1, "unit": "std"},
    "objective": {"kind": "shift_s8", "sigmas": 1.0},
}
UNIVERSE = {"kind": "initial_conditions", "epsilon": {"value": 0.1, "unit": "noise_norm"}}


def test_what_asks_for_other_parameters_is_refused_before_work_begins(here):
    """In one line that names the key; nothing is written."""
    arrays()
    changes = {"attacks": {"few": {**SHORT["attacks"]["few"], "s8": S8, "universe": UNIVERSE}}}
    changes["search"] = {"goal": {"kind": "shift_s8"}, "families": {"saturation": {
        "kind": "saturation"}}, "starts": 2, "maps": 8}  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(SHORT | changes))
    for arguments in (NUMPY, ["train", "mine"]):
        assert spurious(*arguments).exit_code == 0
    before = sorted(here.rglob("*"))
    for arguments, message in (
        (["attack", "few"], "attacks.few.s8: objective shift_s8 needs omega_m and sigma_8, not"),
        (["attack", "universe"], "attacks.few.universe: kind initial_conditions acts on simul"),
        (["search"], "search.goal: objective shift_s8 needs omega_m and sigma_8, not ('s8',)"),
    ):
        done = spurious(*arguments)
        assert done.exit_code == 2
        assert done.stderr.count("error: ") == 1 and f"error: {message}" in done.stderr
        assert sorted(here.rglob("*")) == before


CHAIN = {
    "posteriors": {
        "mine": {"kind": "network", "preset": {"kind": "compact", "width": 0.1}},
        "spectrum": {"kind": "network", "preset": "power_spectrum"},
    },
    "training": {"epochs": 2, "test_fraction": 0.4},
    "attacks": {
        "few": {
            "bim": {"kind": "bim", "alpha": {"value": 0.05, "unit": "std"}, "steps": 2},
            "stripes": {"kind": "stripes", "amplitude": {"value": 0.1, "unit": "std"}},
        }
    },
    "audit": {
        "maps": 4, "steps": 2, "constrained_steps": 2, "starts": 2, "reference_maps": 2,
        "reference_steps": 4, "linf": {"values": [0.01, 0.1], "unit": "std"},
        "l2": {"values": [0.01, 0.1], "unit": "std"},
        "cosmic": {"values": [0.0, 0.1], "unit": "cosmic_variance"},
    },
    "search": {
        "maps": 12, "starts": 2, "refine_steps": 2, "front": {},
        "families": {"saturation": {"kind": "saturation"}},
    },
    "report": {"examples": 2},
    "execution": {"processes": 1},
}  # fmt: skip


@pytest.mark.slow
def test_the_whole_chain_on_maps_of_three_parameters_of_which_none_is_ours(here):
    """As CAMELS has them, two maps a simulation: from arrays to a report, by command."""
    arrays(n=90, size=32)
    Path("params.yaml").write_text(yaml.safe_dump(CHAIN))
    columns = ["--column", "h", "2", "--column", "a_sn", "0", "--column", "a_agn", "1"]
    for command in (
        [*NUMPY[:4], *columns, "--mean", "64"], ["train", "mine"], ["train", "spectrum"],
        ["assess"], ["attack", "few"], ["audit"], ["search"], ["compare"], ["report"],
    ):  # fmt: skip
        done = spurious(*command)
        assert done.exit_code == 0, (command, done.output, done.exception)
    text = Path("results/default/report.md").read_text()
    assert "180 maps of one’s own" in text and "reproduced" not in text
    page = Path("results/default/report.html").read_text()
    for expected in (
        "180 maps of 32 × 32 pixels, 25 Mpc/h wide, with the parameters h, a_sn, a_agn",
        "|shift| of a_agn", "No defence was compared",
    ):  # fmt: skip
        assert expected in page
    for foreign in ("Ω<sub>m</sub>", "σ<sub>8</sub>", "baryons are", "The engine reproduced"):
        assert foreign not in page
    kept = json.loads(Path("results/default/metrics.json").read_text())
    assert {"rmse_h", "rmse_a_sn", "rmse_a_agn", "z_rms_a_agn"} <= kept.keys()
    row = json.loads(Path("results/default/attacks/few/bim.json").read_text())
    assert {"shift_h", "abs_shift_a_sn"} <= row.keys() and row["n_maps"] == 72


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
