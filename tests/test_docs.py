"""The examples of the documentation run, and its links lead somewhere."""

import re
import runpy
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from spurious import config
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet, Standardiser
from spurious.simulation import project

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# They compile five simulations and an attack of each kind, and ask CAMB eight times.
SLOW = ("command_line.md", "perturbations.md", "simulation.md", "suites.md")
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "docs_pictures.py"))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder as the current one, and no display."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    return tmp_path


def data_set(n=8, size=16):
    """n simulations, each seen along all three axes."""
    draw = np.random.default_rng(0)
    fields = draw.gamma(2.0, 0.5, (n, size, size, size)).astype(np.float32)
    return MapSet(
        maps=np.stack([project(field, axis) for field in fields for axis in (0, 1, 2)]),
        labels=np.repeat(draw.uniform((0.1, 0.6), (0.5, 1.0), (n, 2)), 3, axis=0),
        seeds=np.repeat(np.arange(n, dtype=np.uint64), 3),
        index=np.repeat(np.arange(n), 3),
        axis=np.tile(np.arange(3, dtype=np.int8), n),
        box_size=128.0,
        fields=fields,
    )


def what_the_pages_read(folder):
    """Small files of the names that the examples use."""
    from spurious.networks.compact import Compact
    from spurious.networks.head_layer import HEAD, HeadLayer
    from spurious.posteriors.trained import NetworkPosterior

    write_maps(folder / "data" / "pilot" / "maps.h5", data_set())
    ranges = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}
    units = Standardiser(64.0, 39.0)
    network = Compact().model(n=64, head=HeadLayer(ranges, name=HEAD), standardiser=units, seed=1)
    NetworkPosterior(network).save(folder / "models" / "pilot" / "compact" / "1.keras")
    draw = np.random.default_rng(0)
    np.save("Maps_Mtot_Nbody_IllustrisTNG_LH_z=0.00.npy", draw.random((30, 8, 8), np.float32))
    np.savetxt("params_LH_Nbody_IllustrisTNG.txt", draw.random((2, 6)))


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p.name in SLOW else ()) for p in PAGES],
    ids=lambda page: page.name,
)
def test_examples_run(page, folder):
    if SCRIPT["blocks"](page):
        what_the_pages_read(folder)
        SCRIPT["run"](page)


def test_examples_are_found_and_marked_ones_left_out(folder):
    page = folder / "page.md"
    page.write_text(
        "```python\na = 1\n```\n```sh\nls\n```\n<!-- not run -->\n```python\nb\n```\n"
        "text\n\n```python\nc = a\n```\n"
    )
    assert SCRIPT["blocks"](page) == ["a = 1\n", "c = a\n"]
    SCRIPT["run"](page)
    page.write_text("```python\nnothing\n```\n")
    with pytest.raises(NameError):
        SCRIPT["run"](page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


def test_every_picture_that_is_made_is_shown():
    for page, pictures in SCRIPT["PICTURES"].items():
        text = (ROOT / "docs" / page).read_text()
        for picture in pictures:
            assert f'savefig("{picture}"' in text and f"(figures/{picture})" in text


def test_the_default_box_is_the_one_that_the_pages_describe():
    settings = config.Simulation()
    assert (settings.n_cells, settings.box_size.value, settings.axes) == (64, 128.0, (2,))
