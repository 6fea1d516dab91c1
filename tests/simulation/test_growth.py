import numpy as np
import pytest
from flowpm import tfbackground
from scipy.special import hyp2f1

from spurious.simulation import flowpm_engine
from spurious.simulation.growth import growth, leapfrog

A = np.linspace(0.02, 1.0, 50)


@pytest.mark.parametrize("omega_m", [0.05, 0.1, 0.3, 0.55, 0.95])
def test_first_order_has_its_closed_form(omega_m):
    def exact(a):
        return a * hyp2f1(1 / 3, 1, 11 / 6, -(a**3) * (1 - omega_m) / omega_m)

    np.testing.assert_allclose(growth(omega_m, A).d1, exact(A) / exact(1.0), rtol=1e-8)


@pytest.mark.parametrize(
    ("omega_m", "d1"), [(0.05, 0.2046), (0.1, 0.1689), (0.25, 0.1339), (0.55, 0.1123)]
)
def test_growth_depends_on_omega_m(omega_m, d1):
    assert growth(omega_m, 0.1).d1 == pytest.approx(d1, abs=1e-4)


@pytest.mark.parametrize("omega_m", [0.05, 0.3])
def test_second_order_has_its_known_fit(omega_m):
    """D2 = -3/7 D1^2 Omega_m(a)^(-1/143) (Bouchet et al. 1995), both normalised to 1 today."""
    now = growth(omega_m, A)
    fit = now.d1**2 * (now.omega_m_a / omega_m) ** (-1 / 143)
    np.testing.assert_allclose(now.d2, fit, rtol=4e-3)


def test_derivatives_are_derivatives():
    omega_m, step = 0.2, 1e-4
    a = A[1:-1]
    low, now, high = (growth(omega_m, a + shift) for shift in (-step, 0, step))
    assert now.e == pytest.approx(np.sqrt(omega_m / a**3 + 1 - omega_m))
    np.testing.assert_allclose(now.d1_prime, (high.d1 - low.d1) / (2 * step), rtol=1e-5)
    np.testing.assert_allclose(now.f2 * now.d2 / a, (high.d2 - low.d2) / (2 * step), rtol=1e-5)
    np.testing.assert_allclose(now.g_prime, (high.g - low.g) / (2 * step), rtol=1e-5)


def test_growth_is_flowpms():
    """FlowPM solves the same equations in float32 to a relative 1e-4; it agrees better."""
    cosmology = flowpm_engine._background(0.1)
    ours, a = growth(0.1, A), A.astype(np.float32)
    for name, value in {
        "E": ours.e,
        "D1": ours.d1,
        "D2": ours.d2,
        "f1": ours.f1,
        "f2": ours.f2,
        "D1f": ours.d1_prime,
        "Gf": ours.g,
        "gf": ours.g_prime,
    }.items():
        theirs = getattr(tfbackground, name)(cosmology, a).numpy()
        np.testing.assert_allclose(value, theirs, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("stages", [2, 5, 30])
def test_leapfrog_is_exact_for_linear_growth(stages):
    """A particle whose force is that of linear theory ends at D1 = 1 for any number of steps."""
    omega_m = 0.15
    a = np.linspace(0.1, 1, stages)
    kick, drift = leapfrog(omega_m, a)
    position, momentum = growth(omega_m, a[0]).d1, growth(omega_m, a[0]).g
    for i in range(stages - 1):
        momentum += kick[i] * 1.5 * omega_m * position
        position += drift[i] * momentum
        assert position == pytest.approx(growth(omega_m, a[i + 1]).d1, rel=1e-9)


def test_scale_factors_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"between 0.0001 and 1"):
        growth(0.3, np.array([0.5, 1.5]))
