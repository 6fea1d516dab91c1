"""Designs: grid, list, Latin hypercube, Sobol; and what is wrong with a list, in one line."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from spurious import config
from spurious.errors import UserError
from spurious.simulation.design import nodes, spread

EXAMPLE = Path(__file__).parents[2] / "designs" / "corners_and_centre.csv"
RANGES = {
    "omega_m": config.Range(low=0.1, high=0.5),
    "sigma_8": config.Range(low=0.6, high=1.0),
}
GRID = config.Grid(
    kind="grid",
    omega_m=config.Axis(start=0.05, stop=0.55, step=0.05),
    sigma_8=config.Axis(start=0.5, stop=1.0, step=0.05),
)


def hypercube(simulations, seed=3):
    return nodes(config.LatinHypercube(kind="latin_hypercube", **RANGES), simulations, seed)


def sobol(simulations, seed=3):
    return nodes(config.Sobol(kind="sobol", **RANGES), simulations, seed)


def listed(path, **background):
    design = config.Listed(kind="list", path=path)
    return nodes(design, 10, 0, config.Background(**background))


def test_a_grid_has_omega_m_slowest():
    table = nodes(GRID, 10, 0)
    assert table.shape == (121, 2)
    assert table[0].tolist() == [0.05, 0.5]
    assert table[1].tolist() == [0.05, 0.55]
    assert table[11].tolist() == [0.1, 0.5]
    assert table[-1].tolist() == [0.55, 1.0]


def test_a_latin_hypercube_has_one_point_in_each_row_and_column():
    table = hypercube(20)
    assert table.shape == (20, 2)
    for column, (low, high) in zip(table.T, [(0.1, 0.5), (0.6, 1.0)], strict=True):
        cells = np.floor((column - low) / (high - low) * 20).astype(int)
        assert sorted(cells) == list(range(20))


def test_a_sobol_sequence_is_even_and_can_be_made_longer():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = sobol(50)
    assert table.shape == (50, 2)
    np.testing.assert_array_equal(table, sobol(200)[:50])
    unit = (sobol(64) - [0.1, 0.6]) / [0.4, 0.4]
    assert unit.min() >= 0
    assert unit.max() < 1
    quarters = np.histogram2d(*unit.T, bins=(8, 8), range=[(0, 1), (0, 1)])[0]
    assert quarters.tolist() == np.ones((8, 8)).tolist()  # a (0, 6, 2)-net
    assert sobol(1).shape == (1, 2)


@pytest.mark.parametrize("make", [hypercube, sobol])
def test_random_designs_follow_the_root_seed(make):
    np.testing.assert_array_equal(make(30), make(30))
    assert not np.isin(make(30), make(30, seed=4)).any()


def test_a_list_is_read_in_any_order_of_columns(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("\ufeffname, sigma_8 ,omega_m\r\nfirst,0.8,0.3\r\n\r\nsecond,0.9,0.2\r\n")
    assert listed(path).tolist() == [[0.3, 0.8], [0.2, 0.9]]


def test_the_example_is_the_corners_and_centre_of_the_grid():
    expected = {(0.05, 0.5), (0.05, 1.0), (0.55, 0.5), (0.55, 1.0), (0.3, 0.75)}
    assert set(map(tuple, listed(EXAMPLE).tolist())) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("omega_m,sigma8\n0.3,0.8\n", "line 1: omega_m, sigma8: must name the column sigma_8 once"),
        ("omega_m,omega_m,sigma_8\n", "must name the column omega_m once"),
        ("", "line 1: no header: must name the column omega_m once"),
        ("omega_m,sigma_8\n", "must have at least one line below its header"),
        ("omega_m,sigma_8\n0.3,0.8\n0.3,high\n", "line 3: sigma_8 = 'high': must be a number"),
        ("omega_m,sigma_8\n0.3\n", "line 2: sigma_8 = '': must be a number"),
        ("omega_m,sigma_8\n0.04,0.8\n", "line 2: omega_m = 0.04: must be greater than omega_b"),
        ("omega_m,sigma_8\n0.3,-0.8\n", r"line 2: sigma_8 = -0.8: must be greater than 0"),
        ("omega_m,sigma_8\n0.3,nan\n", "line 2: sigma_8 = nan"),
    ],
)
def test_what_is_wrong_with_a_list_is_one_line(tmp_path, text, message):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        listed(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_list_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"design.path = .*none.csv: there is no such file"):
        listed(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"design.path = .*: cannot be read as CSV"):
        listed(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"omega_m,sigma_8\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"binary.csv: cannot be read as CSV"):
        listed(tmp_path / "binary.csv")


def test_a_list_is_judged_by_the_background():
    with pytest.raises(UserError, match=r"line 2: omega_m = 0.05: .* omega_b = 0.06"):
        listed(EXAMPLE, omega_b=0.06)


def test_spread_takes_centre_and_corners_first():
    table = nodes(GRID, 10, 0)
    chosen = table[spread(table, 9)].tolist()
    assert chosen[0] == [0.3, 0.75]
    assert sorted(chosen[1:5]) == [[0.05, 0.5], [0.05, 1.0], [0.55, 0.5], [0.55, 1.0]]
    assert len(set(map(tuple, chosen))) == 9


def test_spread_names_no_node_twice():
    table = np.array([[0.3, 0.8], [0.3, 0.8], [0.3, 0.9]])
    assert len(spread(table, 6)) == 2
    assert spread(table[:1], 6).tolist() == [0]
