"""The data set in TensorFlow and in xarray: the same numbers under the right names."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import xarray

from spurious.data.hdf5 import read_maps, write_maps
from spurious.data.maps import MapSet
from spurious.simulation import project

N, BOX = 4, 20.0


@pytest.fixture
def data():
    """Two simulations, 7 and 5, each seen along all three axes."""
    draw = np.random.default_rng(0)
    fields = draw.gamma(2.0, 0.5, (2, N, N, N)).astype(np.float32)
    return MapSet(
        maps=np.stack([project(field, axis) for field in fields for axis in (0, 1, 2)]),
        labels=np.repeat([[0.3, 0.8], [0.2, 0.9]], 3, axis=0),
        seeds=np.repeat(np.array([11, 12], np.uint64), 3),
        index=np.repeat([7, 5], 3),
        axis=np.tile(np.arange(3, dtype=np.int8), 2),
        box_size=BOX,
        provenance={"root_seed": 1},
        fields=fields,
    )


def test_tensorflow_batches_hold_maps_with_their_labels_in_order(data):
    dataset = data.to_dataset(batch_size=4)
    batches = list(dataset)
    assert [maps.shape.as_list() for maps, _ in batches] == [[4, N, N], [2, N, N]]
    np.testing.assert_array_equal(np.concatenate([maps for maps, _ in batches]), data.maps)
    labels = np.concatenate([labels for _, labels in batches])
    np.testing.assert_array_equal(labels, data.labels.astype(np.float32))
    assert dataset.cardinality() == 2
    assert [spec.dtype for spec in dataset.element_spec] == [tf.float32, tf.float32]


def test_tensorflow_takes_single_maps_to_shuffle(data):
    shuffled = data.to_dataset(None).shuffle(6, seed=1).batch(6)
    maps, labels = next(iter(shuffled))
    for one, label in zip(maps.numpy(), labels.numpy(), strict=True):
        row = np.flatnonzero((data.maps == one).all(axis=(1, 2)))
        np.testing.assert_allclose(data.labels[row], [label], rtol=1e-6)


def test_xarray_names_the_axes_as_the_projection_leaves_them(data):
    """Every map is its own field summed along its line of sight, found by names alone."""
    found = data.to_xarray()
    assert found.maps.dims == ("map", "row", "column")
    assert found.fields.dims == ("simulation", "x", "y", "z")
    beside = {0: ("y", "z"), 1: ("x", "z"), 2: ("x", "y")}
    for one in found.maps:
        row, column = beside[int(one.axis)]
        field = found.fields.sel(simulation=one.index)
        expected = field.sum("xyz"[int(one.axis)]).rename({row: "row", column: "column"})
        xarray.testing.assert_allclose(
            one.drop_vars(list(one.coords)),
            expected.transpose("row", "column").drop_vars(list(expected.coords)),
        )
    own = found.fields.sel(simulation=found["index"])
    np.testing.assert_array_equal(own[4], data.fields[1])


def test_xarray_has_coordinates_labels_and_units(data):
    found = data.to_xarray()
    for name in ("row", "column", "x", "y", "z"):
        np.testing.assert_allclose(found[name], [2.5, 7.5, 12.5, 17.5])
        assert found[name].attrs["units"] == "Mpc/h"
    for name, expected in (
        ("omega_m", data.labels[:, 0]),
        ("sigma_8", data.labels[:, 1]),
        ("seed", data.seeds),
        ("index", data.index),
        ("axis", data.axis),
    ):
        assert found[name].dims == ("map",)
        np.testing.assert_array_equal(found[name], expected)
    np.testing.assert_array_equal(found.simulation, [7, 5])
    assert found.maps.attrs["units"] == "projected particle count per pixel"
    assert found.fields.attrs["units"] == "mean density"
    assert (found.attrs["box_size"], found.attrs["box_size_units"]) == (BOX, "Mpc/h")
    assert found.attrs["provenance"] == '{"root_seed": 1}'
    assert found.maps.where(found.axis == 1, drop=True).shape == (2, N, N)


def test_xarray_copies_nothing_and_goes_without_fields(data, tmp_path):
    found = data.to_xarray()
    assert np.shares_memory(found.maps.values, data.maps)
    assert np.shares_memory(found.fields.values, data.fields)
    write_maps(tmp_path / "maps.h5", data)
    bare = read_maps(tmp_path / "maps.h5").to_xarray()
    assert "fields" not in bare and set(bare.sizes) == {"map", "row", "column"}


def test_reading_imports_neither_tensorflow_nor_xarray(data, tmp_path):
    write_maps(tmp_path / "maps.h5", data)
    code = (
        "import sys, spurious\n"
        f"data = spurious.read_maps({str(tmp_path / 'maps.h5')!r})\n"
        "assert not {'tensorflow', 'xarray', 'camb'} & set(sys.modules)\n"
        "data.to_xarray()\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
