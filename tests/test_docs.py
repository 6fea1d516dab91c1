"""The examples of the documentation run, and its links lead somewhere."""

import importlib.util
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import yaml

import spurious
from spurious import config
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet, Standardiser
from spurious.simulation import project

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = sorted(DOCS.rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SITE]
# They compile simulations and an attack of each kind, ask CAMB, and train a network.
SLOW = ("checks/README", "perturbations", "simulation", "start", "suites", "walkthrough")
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "docs_pictures.py"))


def name_of(page):
    """Path of a page from the top of the repository."""
    return page.relative_to(ROOT).as_posix()


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


def what_the_pages_read(folder, size):
    """Small files of the names that the examples use."""
    from spurious.networks.compact import Compact
    from spurious.networks.head_layer import HEAD, HeadLayer
    from spurious.posteriors.trained import NetworkPosterior

    write_maps(folder / "data" / "pilot" / "maps.h5", data_set(size=size))
    ranges = {"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}
    units = Standardiser(64.0, 39.0)
    network = Compact().model(n=64, head=HeadLayer(ranges, name=HEAD), standardiser=units, seed=1)
    NetworkPosterior(network).save(folder / "models" / "pilot" / "compact" / "1.keras")
    draw = np.random.default_rng(0)
    np.save("Maps_Mtot_Nbody_IllustrisTNG_LH_z=0.00.npy", draw.random((30, 8, 8), np.float32))
    np.savetxt("params_LH_Nbody_IllustrisTNG.txt", draw.random((2, 6)))


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if name_of(p)[5:-3] in SLOW else ()) for p in PAGES],
    ids=name_of,
)
def test_examples_run(page, folder):
    if SCRIPT["blocks"](page):
        what_the_pages_read(folder, size=64 if page.parent.name == "checks" else 16)
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


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_that_are_there(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


def address(page):
    """A page as toc.yml names it."""
    return page.relative_to(DOCS).with_suffix("").as_posix()


def in_navigation(entries):
    """Pages below these entries of toc.yml."""
    for one in entries:
        if "glob" in one:
            yield from map(address, DOCS.glob(one["glob"] + ".md"))
        else:
            yield one["file"]
            yield from in_navigation(one.get("entries", []))


def test_navigation_holds_every_page():
    navigation = yaml.safe_load((DOCS / "toc.yml").read_text())
    entries = [one for group in navigation["subtrees"] for one in group["entries"]]
    assert set(in_navigation(entries)) == {address(p) for p in SITE} - {navigation["root"]}


def test_the_first_page_links_every_other():
    targets = re.findall(r"\]\(([^)#\s]+\.md)", (DOCS / "index.md").read_text())
    checks = {p.name for p in (DOCS / "checks").glob("*.md")} - {"README.md"}
    assert {p.name for p in SITE} - {Path(t).name for t in targets} == {"index.md"} | checks


def test_the_reference_has_every_public_name():
    text = (DOCS / "api.md").read_text()
    named = set(re.findall(r"^\.\. auto(?:class|function):: (\w+)$", text, re.MULTILINE))
    assert named == set(spurious.__all__) - {"__version__"}


def build(target):
    """Build the site as `make docs` does."""
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, DOCS, target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("furo") is None, reason="needs `make docs` first")
def test_the_site_builds_without_a_warning_and_needs_no_network(tmp_path):
    done = build(tmp_path / "site")
    assert done.returncode == 0, done.stderr
    pages = {p.relative_to(tmp_path / "site").as_posix() for p in tmp_path.rglob("*.html")}
    assert {f"{address(p)}.html" for p in SITE} <= pages
    for page in pages:
        text = (tmp_path / "site" / page).read_text()
        fetched = re.findall(r"<(?:script|link|img)\b[^>]*(?:src|href)=\"(\w+://[^\"]+)", text)
        assert not fetched, page
    assert "<math" in (tmp_path / "site" / "definitions.html").read_text()


def test_every_picture_that_is_made_is_shown():
    for page, pictures in SCRIPT["PICTURES"].items():
        text = (ROOT / "docs" / page).read_text()
        for picture in pictures:
            assert f'savefig("{picture}"' in text and f"(figures/{picture})" in text


def test_the_default_box_is_the_one_that_the_pages_describe():
    settings = config.Simulation()
    assert (settings.n_cells, settings.box_size.value, settings.axes) == (64, 128.0, (2,))
