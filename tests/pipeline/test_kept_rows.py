"""Rows that a killed stage had finished, and what they depend on."""

from pathlib import Path

import pytest

from spurious import params
from spurious.pipeline import inputs
from spurious.pipeline.kept_rows import KeptRows
from spurious.stages import defend

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def kept(tmp_path):
    return KeptRows(tmp_path / "rows")


def counted(made, row):
    def make():
        made.append(row)
        return row

    return make


def test_a_row_is_made_once_and_again_when_it_would_be_another(kept):
    made = []
    one = {"x": 0.1, "parts": [1, None]}
    assert kept.get("trades", "a", counted(made, one)) == one
    assert kept.get("trades", "a", counted(made, {"x": 2})) == one
    assert kept.get("other", "a", counted(made, {"x": 3})) == {"x": 3}
    assert kept.get("trades", "b", counted(made, {"x": 4})) == {"x": 4}
    assert kept.get("trades", "b", counted(made, {"x": 5})) == {"x": 4}
    assert made == [one, {"x": 3}, {"x": 4}]


def test_a_row_that_fails_is_not_kept(kept):
    def fail():
        raise ValueError("no row")

    with pytest.raises(ValueError, match="no row"):
        kept.get("trades", "a", fail)
    assert kept.get("trades", "a", lambda: {"x": 1}) == {"x": 1}


def test_what_was_being_written_and_what_is_finished_goes_away(kept):
    kept.get("trades", "a", lambda: {"x": 1})
    left = kept.folder / ".other.99.part.json"
    left.write_text("{")
    kept.sweep()
    assert [path.name for path in kept.folder.iterdir()] == ["trades.json"]
    kept.clear()
    assert not kept.folder.exists()


def test_a_row_depends_on_parameters_networks_maps_and_what_is_compared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = params.load(PARAMS)
    paths = [Path("data/pilot/maps.h5")]
    paths += [Path(f"models/pilot/{name}/1.keras") for name in ("trades", "ranks", "marginalised")]
    paths += inputs.files(config, "compact")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("as it was")
    first = defend.depends_on(config, ["trades", "ranks"], "trades")
    assert defend.depends_on(config, ["trades"], "trades") == first
    assert defend.depends_on(config, ["trades", "marginalised"], "trades") != first
    other = config.model_copy(update={"seed": 1})
    assert defend.depends_on(other, ["trades"], "trades") != first
    Path("models/pilot/trades/1.keras").write_text("another")
    assert defend.depends_on(config, ["trades"], "trades") != first
