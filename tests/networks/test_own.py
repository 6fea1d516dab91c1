"""Presets and heads of the user's own: the example of docs/adding.md, from entry to file."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from spurious import config
from spurious.data.maps import MapSet
from spurious.errors import UserError
from spurious.listing import kind
from spurious.posteriors.trained import NetworkPosterior, load
from spurious.training.loop import build

PAGE = Path(__file__).parents[2] / "docs" / "adding.md"
WIDE = {"kind": "my_networks.Wide", "size": 6}
STUDENT = {"kind": "my_networks.StudentHead", "degrees": 4.0}


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    """The page's my_networks.py in the current folder, as a user has it."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "class StudentHead" in block)
    (tmp_path / "my_networks.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("my_networks", None)


def data(n=16):
    draw = np.random.default_rng(0)
    return MapSet(
        maps=draw.gamma(4.0, 16.0, (6, n, n)).astype(np.float32),
        labels=np.stack([np.linspace(0.1, 0.5, 6), np.linspace(0.9, 0.6, 6)], axis=1),
        seeds=np.arange(6, dtype=np.uint64),
        index=np.arange(6),
        axis=np.zeros(6, np.int8),
        box_size=64.0,
    )


def test_an_entry_becomes_a_network_whose_file_is_read_again(tmp_path):
    network = config.Network(kind="network", preset=WIDE, head=STUDENT)
    posterior = NetworkPosterior(build(data(), network, seed=1))
    layer = posterior.model.get_layer("wide")
    assert layer.kernel.shape == (6, 6, 1, 32) and posterior.head.head.degrees == 4.0
    centre, scale = posterior.model(data().maps)
    assert centre.shape == scale.shape == (6, 2)
    found = posterior(data().maps).log_prob([0.3, 0.7]).numpy()
    wanted = stats.t.logpdf([0.3, 0.7], 4, centre.numpy(), scale.numpy()).sum(axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    posterior.save(tmp_path / "mine.keras")
    again = load(tmp_path / "mine.keras")
    np.testing.assert_array_equal(again(data().maps).log_prob([0.3, 0.7]), found)


def test_a_file_does_not_decide_what_is_imported(tmp_path):
    network = config.Network(kind="network", head=STUDENT)
    NetworkPosterior(build(data(), network, seed=1)).save(tmp_path / "mine.keras")
    del sys.modules["my_networks"]
    with pytest.raises(UserError, match=r"'my_networks.StudentHead' is not known: import its mod"):
        load(tmp_path / "mine.keras")
    assert "my_networks" not in sys.modules


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"preset": {**WIDE, "size": 99}}, "must be between 1 and 16, not 99"),
        ({"preset": {**WIDE, "depth": 2}}, "depth = 2: unknown key, must be one of kind, size"),
        ({"preset": {"kind": "my_networks.Deep"}}, "module my_networks has no Deep"),
        ({"preset": {"kind": "my_networks.StudentHead"}}, "must be a dataclass that extends"),
        ({"head": {**STUDENT, "degrees": 1}}, "must be between 3 and 100, not 1"),
        ({"head": {"kind": "my_networks.Wide"}}, "must be a dataclass that extends spurious.Head"),
        ({"head": {"kind": "mixtur"}}, "did you mean"),
        ({"preset": "compat"}, "did you mean"),
        ({"preset": {"kind": "compact", "width": 0}}, "must be between 0.01 and 8, not 0"),
        ({"preset": "power_spectrum", "input": "log"}, "input = 'log' must be counts"),
    ],
)
def test_what_is_wrong_is_named(entry, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        config.Network(kind="network", **entry)


def test_the_list_describes_it():
    text = kind("my_networks.Wide")
    assert "One layer of large kernels" in text and "pixels a side of a kernel" in text
