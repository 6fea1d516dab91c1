"""Where a check's threshold lies, from both sides."""

import numpy as np
import pytest

from spurious.audit import criteria
from spurious.audit.curves import TARGET, Curve, Curves, Point
from spurious.audit.measurement import Response, Size
from spurious.config.audit import Thresholds

LIMITS = Thresholds()


def attacked(kl):
    """Curves of which only the last point of the main one counts: the KL of each map."""
    kl = np.asarray(kl, float)
    n = len(kl)
    nothing = np.zeros(n)
    response = Response(kl=kl, shift=nothing)
    size = Size(nothing, nothing, nothing, nothing, nothing)
    curve = Curve(criteria.MAIN, "linf", False, (Point(1.0, {TARGET: response}, size),), None)
    return Curves((curve,), np.full((10, n), 1 / n), 30.0, LIMITS.sigmas)


@pytest.mark.parametrize(
    ("sigmas", "kl", "passed"), [(2.0, 2.1, True), (2.0, 1.9, False), (3.0, 4.6, True),
                                 (3.0, 4.4, False)],
)  # fmt: skip
def test_a_map_is_fooled_beyond_half_the_square_of_the_shift(sigmas, kl, passed):
    """As the KL of two equal Gaussians at that distance: sigmas^2 / 2, for one parameter."""
    limits = Thresholds(sigmas=sigmas)
    assert criteria.full_damage(attacked([kl] * 10), limits).passed is passed
    assert kl == pytest.approx(sigmas**2 / 2, abs=0.11)


def test_the_share_of_fooled_maps_is_what_is_told():
    check = criteria.full_damage(attacked([9.0] * 3 + [0.1]), LIMITS)
    assert check.value == 0.75 and check.passed is False
