"""A data set whose every axis, split and number can be told apart, and its configuration."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml

from spurious import params
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.networks.preset import STANDARDISE
from spurious.pipeline import identity
from spurious.pipeline.layout import Layout
from spurious.posteriors.trained import NetworkPosterior

ROOT = Path(__file__).parents[1]
SIDE = 16
BOX = 64.0
OMEGA_M = (0.1, 0.3, 0.5)
SIGMA_8 = (0.6, 0.7, 0.8, 0.9)
SIMULATIONS = 120
SMALL = {
    "design": {
        "kind": "grid",
        "omega_m": {"start": 0.1, "stop": 0.5, "step": 0.2},
        "sigma_8": {"start": 0.6, "stop": 0.9, "step": 0.1},
    },
    "execution": {"processes": 1},
    "simulation": {"n_cells": SIDE, "box_size": {"value": BOX, "unit": "Mpc/h"}},
    "profiles": {
        "pilot": {
            "simulation": {"simulations": SIMULATIONS},
            "training": {"epochs": 2},
            "search": {"maps": 10},
        }
    },
}


def labelled(make_maps):
    """Maps (2 SIMULATIONS, SIDE, SIDE), two lines of sight each, at the nodes of the grid in turn.

    Omega_m sets how rough a map is and sigma_8 how strongly it varies, so that P(k) knows both.
    """
    nodes = np.stack(np.meshgrid(OMEGA_M, SIGMA_8, indexing="ij"), -1).reshape(-1, 2)
    labels = nodes[np.arange(SIMULATIONS) % len(nodes)].repeat(2, axis=0)
    smooth, rough = (make_maps(2 * SIMULATIONS, SIDE, seed=seed) / 64 for seed in (1, 2))
    white = np.random.default_rng(3).normal(size=smooth.shape)
    omega_m, sigma_8 = labels.T[..., None, None]
    field = np.log(smooth + 0.1) + omega_m * white + 0.2 * np.log(rough + 0.1)
    maps = np.exp(sigma_8 * field)
    maps *= 64 / maps.mean((1, 2), keepdims=True)
    return maps.astype(np.float32), labels


@pytest.fixture(scope="session")
def data(make_maps):
    """Numbers of simulations do not equal rows."""
    maps, labels = labelled(make_maps)
    index = (1000 + np.arange(SIMULATIONS)).repeat(2)
    axis = np.tile(np.array([0, 2], np.int8), SIMULATIONS)
    return MapSet(maps, labels, index.astype(np.uint64), index, axis, BOX)


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """params.yaml as it is, but for a small suite."""
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in SMALL.items():
        raw[section] = values if section == "profiles" else raw.get(section, {}) | values
    raw["run"]["posteriors"].append("held_out")
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return params.load(path)


@pytest.fixture(scope="session")
def folder(data, config, tmp_path_factory):
    """A project's folder that holds the maps."""
    path = tmp_path_factory.mktemp("project")
    write_maps(path / Layout(config.scale).maps, data)
    return path


@pytest.fixture
def project(folder, config, monkeypatch):
    """That folder as the current one, without tracking."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    return config


def small(seed):
    """A network that has learned nothing, but with other weights for each seed."""
    head = HeadLayer({"omega_m": (0.1, 0.5), "sigma_8": (0.6, 0.9)}, name=HEAD)
    maps = keras.Input((16, 16))
    units = keras.layers.Normalization(None, mean=64.0, variance=900.0, name=STANDARDISE)
    flat = keras.layers.Flatten()(units(maps))
    weights = keras.initializers.RandomNormal(stddev=0.05, seed=seed)
    return NetworkPosterior(
        keras.Model(
            maps, head(keras.layers.Dense(head.n_features, kernel_initializer=weights)(flat))
        )
    )


@pytest.fixture(scope="session")
def stored(folder, config):
    """The configuration with three trainings of the target, and small networks for them.

    Also `resnet`, with which they make an ensemble. Networks by (name, number of the training).
    """
    target = config.run.target
    posteriors = {(target, 1): small(1), (target, 2): small(2), (target, 3): small(3)}
    posteriors["resnet", 1] = small(4)
    settings = {
        **config.posteriors,
        target: config.posteriors[target].model_copy(update={"trainings": 3}),
    }
    ensembles = {"ensemble": [target, "resnet"]}
    config = config.model_copy(update={"posteriors": settings, "ensembles": ensembles})
    store(folder, config, posteriors)
    return config, posteriors


def store(folder, config, posteriors):
    """Write networks as the stage `train` leaves them; those of `posteriors` are (name, number)."""
    layout = Layout(config.scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for owner, posterior in posteriors.items():
            posterior.identity = identity.made(config, *owner)
            posterior.save(layout.posterior(*owner))


@pytest.fixture(scope="module")
def place(stored, folder, tmp_path_factory):
    """A copy of the project's maps and networks for one module, whose stages write into it."""
    path = tmp_path_factory.mktemp("place")
    for name in ("data", "models"):
        shutil.copytree(folder / name, path / name)
    return path
