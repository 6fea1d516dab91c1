"""Perturbed maps that a killed stage had made, and what they depend on."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from spurious import params
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.pipeline import inputs, perturbing
from spurious.pipeline.kept_maps import KeptMaps, Made

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def kept(tmp_path):
    return KeptMaps(tmp_path / "attack", "a")


def maps(value):
    """Four maps with this mean, as a set of any origin."""
    rows = np.arange(4)
    pixels = np.random.default_rng(3).uniform(0, 2 * value, (4, 8, 8)).astype(np.float32)
    labels = np.full((4, 2), 0.3, np.float32)
    return MapSet(pixels, labels, rows, rows, np.full(4, 2, np.int8), 64.0)


def counted(made, one):
    def make():
        made.append(one)
        return one

    return make


def assert_equal(one, other):
    assert one.parameters == other.parameters
    assert set(one.extras) == set(other.extras)
    for name, values in one.extras.items():
        np.testing.assert_array_equal(values, other.extras[name])
        assert values.dtype == other.extras[name].dtype
    for name in ("maps", "labels", "index", "seeds", "names", "unit", "provenance"):
        np.testing.assert_equal(getattr(one.perturbed, name), getattr(other.perturbed, name))


def test_maps_are_made_once_and_again_when_they_would_be_others(kept):
    clean, made = maps(64), []
    one = Made(clean, maps(64.1), {"alpha": 0.1 / 3}, {"loss": np.arange(3, dtype=np.float32)})
    two = Made(clean, maps(65), {}, {})
    assert kept.get("bim.1", clean, counted(made, one)) is one
    assert_equal(kept.get("bim.1", clean, counted(made, two)), one)
    assert_equal(kept.get("bim.2", clean, counted(made, two)), two)
    assert_equal(kept.get("bim.2", clean, counted(made, one)), two)
    other = KeptMaps(kept.folder, "b")
    assert_equal(other.get("bim.1", clean, counted(made, two)), two)
    assert_equal(other.get("bim.1", clean, counted(made, one)), two)
    assert made == [one, two, two]


def test_what_a_kill_leaves_half_replaced_is_made_again(kept, monkeypatch):
    clean = maps(64)
    one, two = (Made(clean, maps(x), {"x": x}, {}) for x in (64.1, 65))
    kept.get("bim.1", clean, lambda: one)
    other = KeptMaps(kept.folder, "b")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("spurious.pipeline.kept_maps.np.savez", interrupted)
        other.get("bim.1", clean, lambda: two)
    assert_equal(kept.get("bim.1", clean, lambda: one), one)  # not the maps of the other


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_damaged_maps_are_named(kept):
    clean = maps(64)
    kept.get("bim.1", clean, lambda: Made(clean, maps(65), {}, {}))
    (kept.folder / "bim.1.h5").write_bytes(b"no maps")
    with pytest.raises(UserError, match=r"bim\.1\.h5"):
        kept.get("bim.1", clean, lambda: None)


def test_what_was_being_written_and_what_is_finished_goes_away(kept):
    clean = maps(64)
    kept.get("bim.1", clean, lambda: Made(clean, maps(65), {}, {}))
    (kept.folder / ".bim.2.99.part.h5").write_text("{")
    kept.sweep()
    names = sorted(path.name for path in kept.folder.iterdir())
    assert names == ["bim.1.h5", "bim.1.json", "bim.1.npz"]
    kept.clear()
    assert not kept.folder.exists()


def test_they_depend_on_parameters_networks_maps_and_code_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = params.load(PARAMS)
    paths = [Path("data/pilot/maps.h5"), Path("models/pilot/trades/1.keras")]
    paths += inputs.files(config, "compact")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as it was")
    entries = list(config.attacks["white_box"].values())
    first = perturbing.depends_on(config, entries)
    assert perturbing.depends_on(config, entries) == first
    other = config.model_copy(update={"seed": 1})
    assert perturbing.depends_on(other, entries) != first
    for path in paths:
        path.write_text("another")
        assert perturbing.depends_on(config, entries) != first
        path.write_text("as it was")
    assert perturbing.depends_on(config, entries) == first


def test_a_class_of_ones_own_is_part_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = params.load(PARAMS)
    for path in [Path("data/pilot/maps.h5"), *inputs.files(config, "compact")]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as it was")
    module = ModuleType("mine")
    module.__file__ = str(tmp_path / "mine.py")
    monkeypatch.setitem(sys.modules, "mine", module)
    own = type("Own", (), {"__module__": "mine"})
    entry = next(iter(config.attacks["white_box"].values()))
    monkeypatch.setattr(perturbing, "parts", lambda one: [one])
    monkeypatch.setattr(perturbing, "Entry", (SimpleNamespace, type(entry)))
    found = []
    for text in ("ALPHA = 1", "ALPHA = 1  # a comment", "ALPHA = 2"):
        Path("mine.py").write_text(text)
        found.append(perturbing.depends_on(config, [SimpleNamespace(CLASS=own)]))
    assert found[0] == found[1] != found[2]
