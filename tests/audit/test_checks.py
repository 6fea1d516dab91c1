"""The whole audit: an honest posterior passes it, broken ones and broken attacks do not."""

import re
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from spurious.audit import checks
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.preset import STANDARDISE
from spurious.posteriors.trained import NetworkPosterior

BOX = 64.0
PAGES = Path(__file__).parents[2] / "docs" / "checks"


def run(posterior, maps, truth, settings, **more):
    found = checks.run(posterior, maps, truth, box_size=BOX, settings=settings, seed=3, **more)
    return {check.name: check for check in found.checks}


@pytest.fixture(scope="module")
def honest(linear_posterior, maps, truth, settings):
    other = replace(linear_posterior, weights=linear_posterior.weights[:, ::-1])
    return run(linear_posterior, maps, truth, settings, others={"other": other})


@pytest.fixture(scope="module")
def masked(linear_posterior, rounded, maps, truth, settings):
    """The gradient is hidden, the weakness is still there: the original's attack shows it."""
    others = {"original": linear_posterior}
    return run(rounded(linear_posterior), maps, truth, settings, others=others)


@pytest.fixture(scope="module")
def blind(linear_posterior, blind_attacks, maps, truth, settings):
    return run(
        linear_posterior, maps, truth, settings, attacks=blind_attacks(linear_posterior, seed=3)
    )


@pytest.fixture(scope="module")
def excessive(linear_posterior, blind_attacks, maps, truth, settings):
    attacks = blind_attacks(
        linear_posterior,
        settings.steps,
        settings.constrained_steps,
        settings.restarts,
        seed=3,
        excess=1.5,
    )
    return run(linear_posterior, maps, truth, settings, attacks=attacks)


def test_an_honest_posterior_passes_every_check(honest):
    assert [name for name, check in honest.items() if check.passed is not True] == []


def test_finite_differences_confirm_it_to_float32(honest):
    assert honest["gradient_agrees"].values["largest error"] < 0.01


@pytest.mark.parametrize(
    "name",
    ["beats_noise", "beats_transfer", "gradient_agrees", "gradient_not_zero"],
)
def test_a_hidden_gradient_fails(masked, name):
    assert masked[name].passed is False


@pytest.mark.parametrize("name", ["beats_noise", "restarts_agree", "planted_found"])
def test_an_attack_that_is_noise_fails(blind, name):
    assert blind[name].passed is False


def test_an_attack_that_goes_too_far_is_seen_and_by_how_much(blind, excessive):
    assert blind["budget_respected"].values["strongest_linf"] <= 1
    assert excessive["budget_respected"].passed is False
    assert excessive["budget_respected"].values["strongest_linf"] == pytest.approx(1.5, rel=0.01)


def test_without_others_transfer_is_left_out(blind):
    assert blind["beats_transfer"].passed is None


def test_failures_are_named_and_no_exception(
    linear_posterior, blind_attacks, maps, truth, settings
):
    broken = replace(linear_posterior, offset=np.array([np.nan, 0.8]))
    attacks = blind_attacks(broken, settings.steps, settings.constrained_steps, settings.restarts)
    found = checks.run(broken, maps, truth, box_size=BOX, settings=settings, attacks=attacks)
    assert {"monotone", "full_damage", "planted_found"} <= set(found.failed)


def test_every_check_has_a_page_and_the_index_names_it(honest):
    names = set(honest)
    assert {page.stem for page in PAGES.glob("*.md")} - {"README"} == names
    index = (PAGES / "README.md").read_text()
    assert set(re.findall(r"\((\w+)\.md\)", index)) == names
    for name, check in honest.items():
        text = (PAGES / f"{name}.md").read_text()
        assert check.page == f"docs/checks/{name}.md"
        for heading in ("## What it means", "## How it is computed", "## When it fails"):
            assert heading in text, f"{name}: {heading}"


@pytest.mark.slow
def test_the_example_of_the_index_runs(maps, truth, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    n = np.arange(len(maps))
    labels = np.random.default_rng(0).uniform((0.1, 0.6), (0.5, 0.9), truth.shape)
    data = MapSet(maps, labels, n, n, np.full(len(n), 2, np.int8), BOX)
    write_maps(Path("data/pilot/maps.h5"), data)
    head = HeadLayer({"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}, name=HEAD)
    inputs = keras.Input((16, 16))
    units = keras.layers.Normalization(None, mean=64.0, variance=39.0**2, name=STANDARDISE)
    flat = keras.layers.Flatten()(units(inputs))
    network = keras.Model(inputs, head(keras.layers.Dense(head.n_features)(flat)))
    NetworkPosterior(network).save(Path("models/pilot/compact/1.keras"))
    (code,) = re.findall(r"```python\n(.*?)```", (PAGES / "README.md").read_text(), re.DOTALL)
    exec(code, {})
    assert "beats_transfer None left out" in capsys.readouterr().out
