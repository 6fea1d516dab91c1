"""Arrays of the CAMELS Multifield Dataset become a data set, or one line that says why not."""

import io
import pickle

import numpy as np
import pytest

import spurious
from spurious.data.splits import split
from spurious.errors import UserError

SIMULATIONS, EACH, N = 4, 15, 8


@pytest.fixture
def files(tmp_path):
    """Maps that hold the number of their simulation, and parameters as CMD writes them."""
    draw = np.random.default_rng(2)
    maps = draw.gamma(2.0, 1e10, (SIMULATIONS * EACH, N, N)).astype(np.float32)
    maps[:, 0, 0] = np.arange(SIMULATIONS * EACH) // EACH
    parameters = np.column_stack(
        [0.1 + 0.1 * np.arange(SIMULATIONS), 0.6 + 0.1 * np.arange(SIMULATIONS)]
        + [draw.uniform(0.25, 4.0, SIMULATIONS) for _ in range(4)]
    )
    np.save(tmp_path / "maps.npy", maps)
    np.savetxt(tmp_path / "params.txt", parameters, fmt="%.5f")
    return tmp_path / "maps.npy", tmp_path / "params.txt"


def test_each_map_has_the_parameters_of_its_simulation(files):
    data = spurious.read_camels(*files)
    np.testing.assert_array_equal(data.maps, np.load(files[0]))
    assert data.maps.dtype == np.float32
    for row, label in zip(data.maps[:, 0, 0], data.labels, strict=True):
        np.testing.assert_allclose(label, [0.1 + 0.1 * row, 0.6 + 0.1 * row], atol=1e-5)
    np.testing.assert_array_equal(data.index, data.maps[:, 0, 0])
    assert (data.box_size, data.names) == (25.0, ("omega_m", "sigma_8"))
    assert set(data.axis) == {-1} and set(data.seeds) == {0}
    assert data.provenance["maps"] == "maps.npy"


def test_other_columns_units_and_boxes(files):
    data = spurious.read_camels(
        *files, columns=(5, 1), names=("a_agn2", "sigma_8"), unit="K", box_size=50.0
    )
    table = np.loadtxt(files[1])
    np.testing.assert_array_equal(data.labels[::EACH], table[:, [5, 1]])
    assert (data.names, data.unit, data.box_size) == (("a_agn2", "sigma_8"), "K", 50.0)


def test_it_is_written_read_and_split_as_any_data_set(files, tmp_path):
    data = spurious.read_camels(*files, unit="(Msun/h) / (Mpc/h)^2")
    spurious.write_maps(tmp_path / "maps.h5", data)
    read = spurious.read_maps(tmp_path / "maps.h5")
    np.testing.assert_array_equal(read.maps, data.maps)
    np.testing.assert_array_equal(read.axis, data.axis)
    assert (read.unit, read.box_size) == (data.unit, 25.0)
    parts = split(read.index, 0.25, 0.34, root_seed=1)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [30, 15, 15]
    assert len(np.unique(read.index[parts.test])) == 1


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<i4"])
def test_other_number_types_become_single_precision(files, dtype):
    maps = np.round(np.load(files[0]) / 1e3).astype(dtype)
    np.save(files[0], maps)
    found = spurious.read_camels(*files).maps
    assert found.dtype == np.float32 and found.dtype.isnative
    np.testing.assert_array_equal(found, maps.astype(np.float32))


def test_single_precision_maps_are_mapped_not_copied(files):
    maps = spurious.read_camels(*files).maps
    assert isinstance(maps.base, np.memmap) and not maps.flags.writeable


def _pickled(path):
    path.write_bytes(pickle.dumps(np.zeros((60, N, N))))


def _archive(path):
    buffer = io.BytesIO()
    np.savez(buffer, maps=np.zeros((60, N, N)))
    path.write_bytes(buffer.getvalue())


def _with_nan(path):
    maps = np.load(path)
    maps[[3, 59], 1, 2] = np.nan, np.inf
    np.save(path, maps)


def _negative(path):
    maps = np.load(path)
    maps[17, 4, 0] = -1
    np.save(path, maps)


def _constant(path):
    maps = np.load(path)
    maps[20] = 7
    np.save(path, maps)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "maps.npy is missing"),
        (lambda path: path.write_bytes(b""), "maps.npy is no NumPy array of numbers"),
        (lambda path: path.write_text("0.3 0.8"), "maps.npy is no NumPy array of numbers"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "is no NumPy array of numbers"),
        (_pickled, "maps.npy is no NumPy array of numbers"),
        (lambda path: np.save(path, np.array([{}] * 60)), "is no NumPy array of numbers"),
        (_archive, "maps.npy is no NumPy array of real numbers"),
        (lambda path: np.save(path, np.zeros((60, N, N), complex)), "array of real numbers"),
        (lambda path: np.save(path, np.zeros((60, N))), "shape (60, 8): must be (n, N, N)"),
        (lambda path: np.save(path, np.zeros((60, N, N, N))), "must be (n, N, N)"),
        (lambda path: np.save(path, np.zeros((60, N, N + 1))), "shape (60, 8, 9): must be"),
        (
            lambda path: np.save(path, np.zeros((58, N, N))),
            "maps.npy has 58 maps: must be a multiple of the 4 simulations in",
        ),
        (lambda path: np.save(path, np.zeros((0, N, N))), "has 0 maps: must be a multiple"),
        (_with_nan, "maps.npy: row 3 of maps has nan at pixel (1, 2): must be a density"),
        (_negative, "maps.npy: row 17 of maps has -1 at pixel (4, 0): must be a density"),
        (_constant, "maps.npy: row 20 of maps has 7 in all its pixels"),
    ],
)
def test_maps_that_cannot_be_used_are_one_line(files, spoil, says):
    spoil(files[0])
    with pytest.raises(UserError) as error:
        spurious.read_camels(*files)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_pickled_object_is_never_loaded(files, tmp_path):
    class Harm:
        def __reduce__(self):
            return (tmp_path.joinpath("harm").touch, ())

    for spoil in (
        lambda: files[0].write_bytes(pickle.dumps(Harm())),
        lambda: np.save(files[0], np.array([Harm()], object), allow_pickle=True),
    ):
        spoil()
        with pytest.raises(UserError):
            spurious.read_camels(*files)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "params.txt is missing"),
        ("", "params.txt has no rows"),
        ("0.3 0.8\n0.2\n", "params.txt is no table of numbers"),
        ("omega_m sigma_8\n0.3 0.8\n", "params.txt is no table of numbers"),
        ("0.1\n0.2\n0.3\n0.4\n", "columns = [0, 1]: "),
        ("0.1 0.8\n0.2 0.8\n0.3 -0.8\n0.4 0.8\n", "params.txt: row 2 has sigma_8 = -0.8: must be"),
        ("0.1 0.8\nnan 0.8\n0.3 0.8\n0.4 0.8\n", "params.txt: row 1 has omega_m = nan: must be"),
    ],
)
def test_parameters_that_cannot_be_used_are_one_line(files, text, says):
    files[1].unlink() if text is None else files[1].write_text(text)
    with pytest.raises(UserError) as error:
        spurious.read_camels(*files)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_column_that_is_not_chosen_may_hold_anything(files):
    """The N-body files carry columns of no meaning."""
    files[1].write_text("0.1 0.8 nan\n0.2 0.8 nan\n0.3 0.8 nan\n0.4 0.8 nan\n")
    np.testing.assert_array_equal(
        np.unique(spurious.read_camels(*files).labels), [0.1, 0.2, 0.3, 0.4, 0.8]
    )


@pytest.mark.parametrize(
    "options",
    [
        {"names": ("omega_m",)},
        {"names": ("omega_m", "omega_m")},
        {"columns": (0, 6)},
        {"columns": (-1, 0)},
        {"box_size": 0.0},
        {"box_size": float("nan")},
    ],
)
def test_wrong_options_are_one_line_that_names_them(files, options):
    with pytest.raises(UserError, match=f"{next(iter(options))} = ") as error:
        spurious.read_camels(*files, **options)
    assert "\n" not in str(error.value)
