import camb
import numpy as np
import pytest
from scipy.integrate import simpson
from scipy.interpolate import PchipInterpolator
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
    # scale is needed. CAMB's transfer function itself jumps by up to 1 % at a few k.
    scale = expected[0][used] + 2e-4 * expected[0].max()
    off = np.abs(power - expected[0][used]) / scale
    assert np.mean(off > 5e-3) < 0.02 and off.max() < 0.02
    envelope = k[used] ** 2 * expected[0][used]
    assert np.mean(k[used] ** 2 * power) == pytest.approx(np.mean(envelope), rel=1e-3)


def band_means(k, power):
    """Mean of k^3 P over each of 21 bands of ln k between 0.01 and 1.4 h/Mpc."""
    edges = np.geomspace(0.01, 1.4, 22)
    fine = np.geomspace(0.01, 1.4, 21 * 400 + 1)
    values = fine**3 * power(fine)
    number = np.digitize(fine, edges[1:-1])
    assert k[0] < 0.01 and k[-1] > 1.4
    return np.array([values[number == band].mean() for band in range(21)])


@pytest.mark.parametrize(("omega_m", "tolerance"), [(0.05, 3e-3), (0.3, 1e-3)])
def test_power_in_bands_is_that_of_a_dense_table(omega_m, tolerance):
    """CAMB's signed transfer function at 120 k an e-fold. Its default table is off by 8 % in bands
    at omega_m = 0.05, and its own interpolation of ln P fills the zeros."""
    h, n_s = 0.6774, 0.9667
    parameters = camb.set_params(
        H0=100 * h, ombh2=0.0486 * h**2, omch2=(omega_m - 0.0486) * h**2, mnu=0.0, ns=n_s,
        redshifts=[0.0], kmax=1.5 * h, k_per_logint=120, WantCls=False,
        NonLinear=camb.model.NonLinear_none,
    )  # fmt: skip
    table = camb.get_results(parameters).get_matter_transfer_data().transfer_data[:, :, 0]
    k, transfer = table[0].astype(float), table[camb.model.Transfer_tot - 1].astype(float)
    assert len(k) > 800
    signed = PchipInterpolator(np.log(k), transfer)
    expected = band_means(k, lambda one: one**n_s * signed(np.log(one)) ** 2)
    found = band_means(k, linear_power(Cosmology(omega_m, 0.8)))
    ratio = found / expected  # sigma_8 is set elsewhere: shapes alone are compared
    np.testing.assert_allclose(ratio / np.median(ratio), 1.0, rtol=tolerance)


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
