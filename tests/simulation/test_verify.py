from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spurious import config
from spurious.data.hdf5 import read_maps
from spurious.errors import UserError
from spurious.simulation.verify import REFERENCE_NODES, make_reference, verify

SAMPLE = Path(__file__).parents[2] / "data" / "reference" / "flowpm.h5"


@pytest.fixture(scope="module")
def small():
    settings = config.Simulation(
        n_cells=16,
        box_size=config.Length(value=32.0, unit="Mpc/h"),
        scale_factors=config.Stages(stages=3),
    )
    return make_reference(settings, config.Background(), root_seed=1, progress=False)


@pytest.mark.slow
def test_the_fast_engine_reproduces_flowpms_own_maps():
    reference = read_maps(SAMPLE)
    assert reference.provenance["simulation"]["engine"] == "flowpm"
    assert reference.maps.shape == (12, 64, 64)
    assert verify(reference, progress=False).max() < 1e-5  # 3e-6 on the machine of the pilot


def test_the_nodes_include_corners_and_centre():
    nodes = {tuple(node) for node in REFERENCE_NODES.tolist()}
    assert len(nodes) == 12
    assert {(0.05, 0.5), (0.05, 1.0), (0.55, 0.5), (0.55, 1.0), (0.3, 0.75)} <= nodes


def test_the_measure_is_rms_over_rms_fluctuation(small):
    assert verify(small, progress=False).tolist() == [0.0] * 12
    shifted = replace(small, maps=small.maps + np.float32(2))
    expected = 2 / small.maps.std(axis=(1, 2))
    np.testing.assert_allclose(verify(shifted, progress=False), expected, rtol=1e-4)


def test_another_cosmology_or_seed_is_noticed(small):
    swapped = replace(small, labels=small.labels[::-1])
    assert verify(swapped, progress=False).min() > 0.05
    reseeded = replace(small, seeds=small.seeds + np.uint64(1))
    assert verify(reseeded, progress=False).min() > 0.5


def test_a_reference_without_provenance_is_refused(small):
    with pytest.raises(UserError, match="does not say how it was made: 'simulation'"):
        verify(replace(small, provenance={}), progress=False)
