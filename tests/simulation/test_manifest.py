"""The manifest of a suite: what it says of a map, and which files it is not."""

import hashlib
import json
import struct

import numpy as np
import pytest

from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.simulation import manifest

PROVENANCE = {"root_seed": 1, "simulation": {"n_cells": 4}, "versions": {"tensorflow": "2.21.0"}}


@pytest.fixture(scope="module")
def data():
    """Two simulations, two lines of sight each."""
    draw = np.random.default_rng(1)
    return MapSet(
        maps=draw.gamma(3.0, 1.0, (4, 4, 4)).astype(np.float32),
        labels=np.repeat([[0.1, 0.6], [0.3, 0.8]], 2, axis=0),
        seeds=np.repeat(np.array([7, 8], np.uint64), 2),
        index=np.repeat([0, 1], 2),
        axis=np.tile(np.array([2, 0], np.int8), 2),
        box_size=8.0,
    )


@pytest.fixture
def path(data, tmp_path):
    manifest.write(tmp_path / "maps.md5", data, PROVENANCE)
    return tmp_path / "maps.md5"


def labels(data):
    return manifest.labels_digest(data.labels, data.seeds)


def test_each_map_has_the_md5_of_its_little_endian_pixels_and_nothing_else(path, data):
    lines = manifest.read(path).lines
    assert sorted(lines) == [0, 1]
    for row, (index, place) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        pixels = data.maps[row].ravel().tolist()
        line = lines[index][place]
        assert line.md5 == hashlib.md5(struct.pack("<16f", *pixels)).hexdigest()
        assert line.axis == data.axis[row]
        assert line.std == pytest.approx(np.std(pixels), rel=1e-6)
        assert line.largest == pytest.approx(max(pixels), rel=1e-6)


def test_neither_byte_order_nor_layout_in_memory_changes_an_md5(data):
    one = data.maps[0]
    swapped = one.astype(">f4")
    assert manifest.digest(np.asfortranarray(one)) == manifest.digest(swapped)
    assert manifest.digest(swapped) == manifest.digest(one) != manifest.digest(one.T)


def test_equal_maps_give_equal_bytes(path, data, tmp_path):
    manifest.write(tmp_path / "again.md5", data, dict(reversed(PROVENANCE.items())))
    assert (tmp_path / "again.md5").read_bytes() == path.read_bytes()


def test_the_manifest_of_the_same_maps_is_accepted(path, data):
    manifest.read(path).check(PROVENANCE, labels(data))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("versions", "tensorflow", "2.22.0"), ("simulation", "n_cells", 8), (None, "root_seed", 2)],
)
def test_the_setting_or_version_that_differs_is_named(path, data, section, key, value):
    other = json.loads(json.dumps(PROVENANCE))
    (other[section] if section else other)[key] = value
    name = f"{section}.{key}" if section else key
    with pytest.raises(UserError, match=rf"of other maps: {name} = .* there, {value!r} here"):
        manifest.read(path).check(other, labels(data))


def test_other_cosmologies_are_other_maps(path, data):
    moved = manifest.labels_digest(data.labels + 0.01, data.seeds)
    with pytest.raises(UserError, match="its design has other cosmologies"):
        manifest.read(path).check(PROVENANCE, moved)


def test_a_simulation_that_the_suite_does_not_have_is_refused(path):
    with pytest.raises(UserError, match=r"simulation 2 is not in .*maps\.md5: it has 0 to 1"):
        manifest.read(path).of(2)


def a_digit(text):
    place = text.rindex(" 2 ") + 3
    return text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        a_digit,
        lambda text: text[: len(text) // 2],
        lambda text: text.rsplit("\n", 2)[0] + "\n",
        lambda text: text.replace("MD5", "SHA"),
        lambda text: text.replace("{", "["),
        lambda text: "",
        lambda text: "\0" * 100,
        lambda text: text.replace('"lines"', '"other"'),
    ],
)
def test_a_damaged_manifest_is_named_in_one_line(path, damage):
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError, match=r"maps\.md5 is damaged or is no manifest") as error:
        manifest.read(path)
    assert "\n" not in str(error.value)


def test_a_manifest_of_another_version_or_none_is_named(path, tmp_path):
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(UserError, match="has schema 99, expected 1"):
        manifest.read(path)
    with pytest.raises(UserError, match=r"none\.md5 is missing: `spurious simulate` writes it"):
        manifest.read(tmp_path / "none.md5")


def test_maps_of_other_bits_are_told_from_other_maps(data):
    one = manifest.Line.of(data.maps[0], 2)
    rounded = manifest.Line.of(data.maps[0] * np.float32(1 + 1e-6), 2)
    assert one.md5 != rounded.md5
    assert (
        one.difference(rounded)
        < manifest.TOLERANCE
        < one.difference(manifest.Line.of(data.maps[1], 2))
    )
