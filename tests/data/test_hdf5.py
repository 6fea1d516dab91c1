"""The data set on disk and in memory, and its units."""

import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from spurious.data import hdf5, maps
from spurious.errors import UserError
from spurious.simulation import project


def make(n=6, size=8, seed=3, first=100, views=1, fields=False):
    """n maps of n / views simulations, of which each is seen along `views` axes."""
    draw = np.random.default_rng(seed)
    each = np.arange(n) // views
    density = draw.gamma(2.0, 0.5, (n // views, size, size, size)).astype(np.float32)
    axis = (np.arange(n) % views if views > 1 else np.full(n, 2)).astype(np.int8)
    return maps.MapSet(
        maps=np.stack([project(density[s], a) for s, a in zip(each, axis, strict=True)]),
        labels=draw.uniform(0.1, 0.9, (n // views, 2))[each],
        seeds=draw.integers(2**63, size=n // views, dtype=np.uint64)[each],
        index=first + each,
        axis=axis,
        box_size=128.0,
        provenance={"engine": "none", "stages": 10},
        fields=density if fields else None,
    )


def same(found, expected):
    for name in (*maps.ROWS, "fields"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    for name in ("box_size", "names", "unit", "provenance"):
        assert getattr(found, name) == getattr(expected, name)


def test_what_is_written_is_read_back(tmp_path):
    data = replace(make(views=3, fields=True), unit="counts", names=("a", "b"))
    hdf5.write_maps(tmp_path / "maps.h5", data)
    read = hdf5.read_maps(tmp_path / "maps.h5", fields=True)
    same(read, data)
    assert {name: getattr(read, name).dtype for name in maps.ROWS} == maps.ROWS
    assert read.fields.dtype == np.float32


def test_fields_are_read_only_when_asked_for(tmp_path):
    data = make(views=3, fields=True)
    hdf5.write_maps(tmp_path / "maps.h5", data)
    same(hdf5.read_maps(tmp_path / "maps.h5"), replace(data, fields=None))


def test_fields_that_are_not_there_are_refused_in_one_line(tmp_path):
    hdf5.write_maps(tmp_path / "maps.h5", make())
    with pytest.raises(UserError, match=r"maps\.h5 has no fields: .* simulation\.fields = true"):
        hdf5.read_maps(tmp_path / "maps.h5", fields=True)


def test_same_data_give_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        hdf5.write_maps(tmp_path / name, make(views=2, fields=True))
        time.sleep(1.1)  # HDF5 would store times in whole seconds
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none\.h5 is missing$"):
        hdf5.read_maps(tmp_path / "none.h5")
    with pytest.raises(UserError, match=r"is missing: make it with `spurious simulate`$"):
        hdf5.read_maps(Path("data/nowhere/maps.h5"))


def _truncate(path):
    path.write_bytes(path.read_bytes()[:3000])


def _drop_labels(path):
    with h5py.File(path, "a") as file:
        del file["labels"]


def _shorten_labels(path):
    _drop_labels(path)
    with h5py.File(path, "a") as file:
        file["labels"] = np.zeros((5, 2))


def _drop_schema(path):
    with h5py.File(path, "a") as file:
        del file.attrs["schema"]


def _spoil_names(path):
    with h5py.File(path, "a") as file:
        file.attrs["names"] = "omega_m"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("omega_m,sigma_8\n0.3,0.8\n"),
        _truncate,
        _drop_labels,
        _shorten_labels,
        _drop_schema,
        _spoil_names,
    ],
)
def test_damaged_file_is_one_line_that_names_it(tmp_path, damage):
    path = tmp_path / "maps.h5"
    hdf5.write_maps(path, make())
    damage(path)
    with pytest.raises(UserError, match=r"maps\.h5 is damaged or is no map data set: ") as error:
        hdf5.read_maps(path)
    assert "\n" not in str(error.value)


def test_other_schema_is_refused(tmp_path):
    path = tmp_path / "maps.h5"
    hdf5.write_maps(path, make())
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = 1
    with pytest.raises(UserError, match="has schema 1, expected 2: make it again"):
        hdf5.read_maps(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"maps": np.zeros((6, 8, 9), np.float32)},
        {"maps": np.zeros((6, 64), np.float32)},
        {"labels": np.zeros((6, 3))},
        {"seeds": np.zeros(5, np.uint64)},
        {"index": np.zeros((6, 1), np.int64)},
        {"axis": np.zeros(5, np.int8)},
        {"fields": np.zeros((5, 8, 8, 8), np.float32)},
        {"fields": np.zeros((6, 8, 8), np.float32)},
    ],
)
def test_disagreeing_shapes_are_refused(wrong):
    data = make()
    with pytest.raises(ValueError, match="shape"):
        replace(data, **wrong)


def test_a_line_of_sight_that_is_no_axis_is_refused():
    with pytest.raises(ValueError, match="axis must be 0, 1 or 2, or -1"):
        replace(make(), axis=np.full(6, 3, np.int8))


def test_take_and_concatenate_keep_rows_together():
    data = make(views=2)
    joined = maps.concatenate([data.take(np.array([4, 1])), data.take(np.array([0]))])
    same(joined, data.take(np.array([4, 1, 0])))
    np.testing.assert_array_equal(joined.index, [102, 100, 100])
    np.testing.assert_array_equal(joined.axis, [0, 1, 0])
    for name in maps.ROWS:
        np.testing.assert_array_equal(getattr(joined, name), getattr(data, name)[[4, 1, 0]])


@pytest.mark.parametrize("rows", [[7, 1, 0, 8], [3], [], [2, 2, 5]])
def test_fields_stay_with_their_simulations(rows):
    """Each map of the subset is the projection of its own simulation's field."""
    data = make(n=9, views=3, fields=True)
    taken = data.take(np.array(rows, int))
    assert len(taken.fields) == len(set(data.index[rows]))
    for i, row in enumerate(rows):
        own = taken.fields[list(taken.simulations).index(data.index[row])]
        np.testing.assert_array_equal(project(own, data.axis[row]), taken.maps[i])


def test_distinct_values_keep_their_order():
    values = np.array([30, 10, 10, 20, 30, 40])
    found, place = maps.distinct(values)
    np.testing.assert_array_equal(found, [30, 10, 20, 40])
    np.testing.assert_array_equal(place, [0, 1, 1, 2, 0, 3])


@pytest.mark.parametrize("fields", [False, True])
@pytest.mark.parametrize("block", [1, 3000, 2**30])
def test_joining_files_gives_the_bytes_of_the_whole(tmp_path, monkeypatch, fields, block):
    """Blocks of one row, of some rows (a map has 256 bytes, a field 2048) and of all."""
    monkeypatch.setattr(hdf5, "BLOCK", block)
    parts = [make(n, seed=n, first=10 * n, views=2, fields=fields) for n in (6, 2, 14)]
    for number, part in enumerate(parts):
        hdf5.write_maps(tmp_path / f"{number}.h5", part)
    whole = replace(maps.concatenate(parts), provenance={"of": "the whole"})
    hdf5.write_maps(tmp_path / "whole.h5", whole)
    files = (tmp_path / f"{number}.h5" for number in range(3))
    hdf5.join_maps(tmp_path / "joined.h5", files, {"of": "the whole"})
    same(hdf5.read_maps(tmp_path / "joined.h5", fields), whole)
    assert (tmp_path / "joined.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_joining_does_not_hold_the_whole_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "BLOCK", 2**18)
    files = [tmp_path / f"{number}.h5" for number in range(8)]
    for number, file in enumerate(files):
        hdf5.write_maps(file, make(4, size=32, first=4 * number, fields=True))
    tracemalloc.start()
    hdf5.join_maps(tmp_path / "joined.h5", files, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20 < sum(file.stat().st_size for file in files) / 4


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (make(size=16, first=200), "16 pixels, 128.0 Mpc/h"),
        (replace(make(first=200), box_size=64.0), "8 pixels, 64.0 Mpc/h"),
        (replace(make(first=200), names=("omega_m", "h")), "omega_m, h"),
        (replace(make(first=200), unit="K"), "K, without fields"),
        (make(first=200, fields=True), "with fields"),
    ],
)
def test_files_that_do_not_fit_are_not_joined(tmp_path, other, says):
    for name, data in (("a.h5", make()), ("b.h5", other)):
        hdf5.write_maps(tmp_path / name, data)
    with pytest.raises(UserError, match=r"b\.h5 does not fit to .*a\.h5") as error:
        hdf5.join_maps(tmp_path / "c.h5", [tmp_path / "a.h5", tmp_path / "b.h5"], {})
    assert says in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match="does not fit to"):
        maps.concatenate([make(), other])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_a_simulation_with_a_field_in_two_parts_is_refused(tmp_path):
    data = make(views=3, fields=True)
    for name, rows in (("a.h5", [0, 1, 2, 3]), ("b.h5", [4, 5])):
        hdf5.write_maps(tmp_path / name, data.take(np.array(rows)))
    with pytest.raises(UserError, match="3 fields for 2 simulations; all maps of a simulation"):
        hdf5.join_maps(tmp_path / "c.h5", [tmp_path / "a.h5", tmp_path / "b.h5"], {})


def test_joining_nothing_or_damaged_files_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match=r"c\.h5: there are no parts to join"):
        hdf5.join_maps(tmp_path / "c.h5", [], {})
    hdf5.write_maps(tmp_path / "a.h5", make())
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:3000])
    with pytest.raises(UserError, match=r"b\.h5 is damaged"):
        hdf5.join_maps(tmp_path / "c.h5", [tmp_path / "a.h5", tmp_path / "b.h5"], {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_a_full_disk_is_not_blamed_on_the_parts(tmp_path):
    for number in range(2):
        hdf5.write_maps(tmp_path / f"{number}.h5", make(first=6 * number))
    code = f"""
import resource, signal
from pathlib import Path
from spurious.data.hdf5 import join_maps
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
folder = Path({str(tmp_path)!r})
join_maps(folder / "joined.h5", [folder / "0.h5", folder / "1.h5"], {{}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "OSError" in done.stderr or "RuntimeError" in done.stderr
    assert "damaged" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.h5", "1.h5"]


def test_standardiser():
    data = make(n=50)
    standardiser = maps.Standardiser.fit(data.maps)
    standard = standardiser(data.maps)
    assert abs(standard.mean(dtype=np.float64)) < 1e-6
    assert abs(standard.std(dtype=np.float64) - 1) < 1e-6
    np.testing.assert_allclose(standardiser.inverse(standard), data.maps, rtol=1e-5, atol=1e-5)


def test_standardiser_is_exact_for_many_single_precision_pixels():
    """A single-precision sum over this many pixels would lose the third decimal."""
    many = np.full((1200, 64, 64), 64.1, np.float32)
    assert abs(maps.Standardiser.fit(many).mean - np.float64(np.float32(64.1))) < 1e-9
