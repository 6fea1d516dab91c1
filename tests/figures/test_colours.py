"""Colours are told apart also by who lacks one kind of cone."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from spurious.figures.style import CLEAN, PALETTE, SHADES

# On linear RGB, for severity 1: Machado, Oliveira & Fernandes (2009), table 1.
SEEN = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
LEAST = 16  # Okabe and Ito's own palette has 16.1; 2 is just noticeable


def lab(colour, seen):
    """CIE L*a*b* of a colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(np.asarray(seen) @ linear, 0, 1) / np.array([0.9505, 1, 1.089])
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def nearest(colours, seen):
    return min(
        (float(np.linalg.norm(lab(one, seen) - lab(other, seen))), one, other)
        for one, other in combinations(colours, 2)
    )


@pytest.mark.parametrize("kind", SEEN)
def test_no_two_colours_are_alike(kind):
    assert nearest((*SHADES, CLEAN), SEEN[kind])[0] >= LEAST


def test_a_pair_that_is_alike_is_seen():
    assert nearest(["#D55E00", "#6B8E23"], SEEN["protanopia"])[0] < LEAST
    assert set(PALETTE) <= set(SHADES)
