"""The data set on disk and in memory, its split, its units and its augmentation."""

import h5py
import numpy as np
import pytest

from spurious import maps
from spurious.files import UserError


def make(n=6, size=8, seed=3):
    draw = np.random.default_rng(seed)
    return maps.MapSet(
        maps=draw.gamma(2.0, size / 2, (n, size, size)).astype(np.float32),
        labels=draw.uniform(0.1, 0.9, (n, 2)),
        seeds=draw.integers(2**63, size=n, dtype=np.uint64),
        index=np.arange(n) + 100,
        box_size=128.0,
        provenance={"engine": "none", "stages": 10},
    )


def test_what_is_written_is_read_back(tmp_path):
    data = make()
    maps.write_maps(tmp_path / "maps.h5", data)
    read = maps.read_maps(tmp_path / "maps.h5")
    for name in ("maps", "labels", "seeds", "index"):
        expected, found = getattr(data, name), getattr(read, name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    assert (read.box_size, read.names) == (128.0, ("omega_m", "sigma_8"))
    assert read.provenance == data.provenance


def test_same_data_give_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        maps.write_maps(tmp_path / name, make())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"none\.h5 is missing: make it with `spurious simulate`"):
        maps.read_maps(tmp_path / "none.h5")


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
    maps.write_maps(path, make())
    damage(path)
    with pytest.raises(UserError, match=r"maps\.h5 is damaged or is no map data set: ") as error:
        maps.read_maps(path)
    assert "\n" not in str(error.value)


def test_other_schema_is_refused(tmp_path):
    path = tmp_path / "maps.h5"
    maps.write_maps(path, make())
    with h5py.File(path, "a") as file:
        file.attrs["schema"] = 2
    with pytest.raises(UserError, match="has schema 2, expected 1"):
        maps.read_maps(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"maps": np.zeros((6, 8, 9), np.float32)},
        {"maps": np.zeros((6, 64), np.float32)},
        {"labels": np.zeros((6, 3))},
        {"seeds": np.zeros(5, np.uint64)},
        {"index": np.zeros((6, 1), np.int64)},
    ],
)
def test_disagreeing_shapes_are_refused(wrong):
    data = make()
    fields = {name: getattr(data, name) for name in ("maps", "labels", "seeds", "index")}
    with pytest.raises(ValueError, match="shape"):
        maps.MapSet(**{**fields, **wrong}, box_size=128.0)


def test_take_and_concatenate_keep_rows_together():
    data = make()
    joined = maps.concatenate([data.take(np.array([4, 1])), data.take(np.array([0]))])
    np.testing.assert_array_equal(joined.index, [104, 101, 100])
    np.testing.assert_array_equal(joined.maps, data.maps[[4, 1, 0]])
    np.testing.assert_array_equal(joined.labels, data.labels[[4, 1, 0]])
    np.testing.assert_array_equal(joined.seeds, data.seeds[[4, 1, 0]])
    assert (joined.box_size, joined.provenance) == (data.box_size, data.provenance)


def test_split_is_disjoint_complete_and_of_the_asked_sizes():
    parts = maps.split(1210, test_fraction=0.3, validation_fraction=0.1, root_seed=5)
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [762, 85, 363]
    joined = np.concatenate([parts.train, parts.validation, parts.test])
    np.testing.assert_array_equal(np.sort(joined), np.arange(1210))
    again = maps.split(1210, 0.3, 0.1, root_seed=5)
    other = maps.split(1210, 0.3, 0.1, root_seed=6)
    np.testing.assert_array_equal(again.test, parts.test)
    assert not np.array_equal(other.test, parts.test)


def test_split_is_random_not_a_stride():
    """Simulations are dealt to nodes in turn: a regular split would leave nodes out."""
    parts = maps.split(1210, 0.3, 0.1, root_seed=5)
    assert len(np.unique(np.diff(parts.test))) > 5


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


def test_augmented_maps_have_the_same_pixels_and_the_same_power_spectrum():
    size = 16
    original = make(n=40, size=size).maps
    moved = maps.augment(original, np.random.default_rng(1))
    assert moved.shape == original.shape and moved.dtype == original.dtype
    np.testing.assert_array_equal(
        np.sort(moved.reshape(40, -1), axis=1), np.sort(original.reshape(40, -1), axis=1)
    )
    frequency = np.fft.fftfreq(size, 1 / size).astype(int)
    shell = np.abs(frequency)[:, None] ** 2 + np.abs(frequency)[None] ** 2
    for before, after in zip(original, moved, strict=True):
        for k in np.unique(shell):
            powers = [np.abs(np.fft.fft2(m.astype(float)))[shell == k] for m in (before, after)]
            # As multisets: rotations and reflections permute the modes of one |k|.
            np.testing.assert_allclose(np.sort(powers[0]), np.sort(powers[1]), rtol=1e-9, atol=1e-7)


def test_augmentation_is_a_symmetry_of_the_square_torus_and_reaches_all_of_them():
    """Brute force over all 8 N^2 symmetries: each draw is one of them, and all occur."""
    size = 3
    image = np.arange(size**2, dtype=np.float32).reshape(size, size)
    symmetries = {
        np.roll(np.rot90(flipped, turns), roll, (0, 1)).tobytes()
        for flipped in (image, image[::-1])
        for turns in range(4)
        for roll in np.ndindex(size, size)
    }
    assert len(symmetries) == 8 * size**2
    copies = np.repeat(image[None], 3000, axis=0)
    found = {m.tobytes() for m in maps.augment(copies, np.random.default_rng(2))}
    assert found == symmetries


def test_augmentation_differs_between_maps_and_is_reproducible():
    same = np.repeat(make(n=1, size=16).maps, 20, axis=0)
    first = maps.augment(same, np.random.default_rng(7))
    np.testing.assert_array_equal(first, maps.augment(same, np.random.default_rng(7)))
    assert len({m.tobytes() for m in first}) == 20
