import numpy as np
import pytest
import tensorflow as tf
from flowpm import tfbackground
from scipy.special import hyp2f1
from slow import slow_but

from spurious.simulation.flowpm_engine import GROWTH
from spurious.simulation.growth import growth, leapfrog

A = np.linspace(0.02, 1.0, 50)
GRID = np.linspace(0.05, 0.55, 11).round(2).tolist()  # the paper's


def closed_d1(omega_m, a):
    """D1 up to a factor (Silveira & Waga 1994, in the form of a hypergeometric function)."""
    return a * hyp2f1(1 / 3, 1, 11 / 6, -(a**3) * (1 - omega_m) / omega_m)


def closed_d1_prime(omega_m, a):
    x = -(a**3) * (1 - omega_m) / omega_m
    slope = hyp2f1(4 / 3, 2, 17 / 6, x) * (1 / 3) / (11 / 6)
    return hyp2f1(1 / 3, 1, 11 / 6, x) + 3 * x * slope


@pytest.mark.parametrize("omega_m", [*GRID, 0.95])
def test_first_order_has_its_closed_form(omega_m):
    expected = closed_d1(omega_m, A) / closed_d1(omega_m, 1.0)
    np.testing.assert_allclose(growth(omega_m, A).d1, expected, rtol=1e-8)


@pytest.mark.parametrize("omega_m", GRID)
def test_kick_and_drift_have_their_closed_form(omega_m):
    """FastPM's Eqs. 5 and 6 with the closed D1, at the paper's ten stages."""
    a = np.linspace(0.1, 1, 10)
    middle = np.sqrt(a[1:] * a[:-1])

    def e(a):
        return np.sqrt(omega_m / a**3 + 1 - omega_m)

    def momentum(a):
        return a**3 * e(a) * closed_d1_prime(omega_m, a)

    kick, drift = leapfrog(omega_m, a)
    d_momentum = np.diff(np.concatenate([momentum(a[:1]), momentum(middle)]))
    g_prime = 1.5 * omega_m / (a**2 * e(a)) * closed_d1(omega_m, a)
    np.testing.assert_allclose(kick, d_momentum / (a**2 * e(a) * g_prime)[:-1], rtol=1e-7)
    expected = np.diff(closed_d1(omega_m, a)) / momentum(middle)
    np.testing.assert_allclose(drift, expected, rtol=1e-7)


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


def flowpms(omega_m):
    """FlowPM's own background of a flat universe; its growth is a float32 table."""
    flat = {"w0": -1.0, "wa": 0.0, "Omega0_k": 0.0, "Omega0_m": omega_m, "Omega0_de": 1 - omega_m}
    return {key: tf.constant(value, tf.float32) for key, value in flat.items()}


@pytest.mark.parametrize("omega_m", slow_but((0.05, 0.3), GRID))
def test_growth_is_flowpms(omega_m):
    cosmology, a = flowpms(omega_m), A.astype(np.float32)
    ours = growth(omega_m, A)
    for name, attribute in GROWTH.items():
        if name == "gf2":
            continue  # asked for, but not used, by FlowPM
        theirs = getattr(tfbackground, name)(cosmology, a).numpy()
        np.testing.assert_allclose(getattr(ours, attribute), theirs, rtol=1e-4, err_msg=name)
    stages = np.linspace(0.1, 1, 10, dtype=np.float32)
    kick, drift = leapfrog(omega_m, stages)
    # Differences of FlowPM's table, which is right to 2e-5, are right to 2e-4 only; the closed
    # form above holds to 1e-7.
    np.testing.assert_allclose(kick, flowpm_kicks(cosmology, stages), rtol=2e-4)
    np.testing.assert_allclose(drift, flowpm_drifts(cosmology, stages), rtol=1e-4)


def flowpm_kicks(cosmology, a):
    """What `flowpm.tfpm.kick` multiplies forces by, both half kicks at a scale factor together."""
    middle = np.sqrt(a[1:] * a[:-1])
    g = tfbackground.Gf(cosmology, np.concatenate([a[:1], middle])).numpy()
    e, slope = tfbackground.E(cosmology, a).numpy(), tfbackground.gf(cosmology, a).numpy()
    return np.diff(g.astype(np.float64)) / (a**2 * e * slope)[:-1]


def flowpm_drifts(cosmology, a):
    middle = np.sqrt(a[1:] * a[:-1])
    d1 = tfbackground.D1(cosmology, a).numpy().astype(np.float64)
    e, slope = tfbackground.E(cosmology, middle).numpy(), tfbackground.D1f(cosmology, middle)
    return np.diff(d1) / (middle**3 * e * slope.numpy())


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
