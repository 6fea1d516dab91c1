import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.special import spherical_jn

from spurious.cosmology import Cosmology, linear_power


@pytest.mark.parametrize(("omega_m", "sigma_8"), [(0.05, 1.0), (0.1, 0.5), (0.3, 0.8), (0.55, 0.5)])
def test_sigma_8_is_the_label(omega_m, sigma_8):
    power = linear_power(Cosmology(omega_m, sigma_8))
    k = np.linspace(1e-4, 20, 400_001)  # linear in k and Simpson: not how the package does it
    window = 3 * spherical_jn(1, 8 * k) / (8 * k)
    variance = simpson(k**2 * power(k) * window**2 / (2 * np.pi**2), x=k)
    assert np.sqrt(variance) == pytest.approx(sigma_8, rel=1e-5)


@pytest.mark.parametrize("omega_m", [0.05, 0.3])
def test_power_is_cambs(run_camb, omega_m):
    """Against CAMB's own sigma_8 and its own P(k) at its own wavenumbers."""
    results = run_camb(omega_m, k_max=15.0)
    k, _, expected = results.get_linear_matter_power_spectrum(hubble_units=True, k_hunit=True)
    used = (k > 2e-3) & (k < 10)
    power = linear_power(Cosmology(omega_m, float(results.get_sigma8_0())))(k[used])
    # The two runs sample k differently; where baryons alone make P nearly zero, an absolute
    # scale is needed.
    np.testing.assert_allclose(power, expected[0][used], rtol=5e-3, atol=1e-6 * expected[0].max())
    envelope = k[used] ** 2 * expected[0][used]
    assert np.mean(k[used] ** 2 * power) == pytest.approx(np.mean(envelope), rel=1e-3)


def test_zeros_of_a_baryonic_universe_are_kept():
    """The transfer function changes sign at omega_m = 0.05; ln P would not show it."""
    k = np.geomspace(0.2, 2, 20_000)
    contrast = k**3 * linear_power(Cosmology(0.05, 1.0))(k)
    inner = contrast[1:-1]
    minima = inner[(inner < contrast[2:]) & (inner < contrast[:-2])]
    assert np.sum(minima < 1e-5 * contrast.max()) >= 4


def test_box_has_the_mean_density_and_no_extrapolation():
    power = linear_power(Cosmology(0.3, 0.8))
    assert power(np.array([0.0, 0.1]))[0] == 0
    assert power(np.array([[0.1], [0.2]])).shape == (2, 1)
    with pytest.raises(ValueError, match="h/Mpc, not 50 to 50"):
        power(np.array([0.1, 50.0]))
    assert linear_power(Cosmology(0.3, 0.8), k_max=60.0)(np.array([50.0])) > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"omega_m": 0.0486}, "omega_m = 0.0486: must be greater than omega_b = 0.0486"),
        ({"omega_m": 1.2}, "omega_m = 1.2: must be"),
        ({"omega_m": float("nan")}, "omega_m = nan"),
        ({"sigma_8": 0.0}, "sigma_8 = 0.0: must be greater than 0"),
        ({"omega_b": -0.01}, "omega_b = -0.01: must be greater than 0"),
        ({"h": 0.0}, "h = 0.0"),
    ],
)
def test_impossible_cosmologies_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Cosmology(**{"omega_m": 0.3, "sigma_8": 0.8, **values})
