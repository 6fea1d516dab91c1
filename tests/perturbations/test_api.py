"""`spurious.perturb` as a notebook uses it."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import spurious
from spurious.data.maps import MapSet, Standardiser
from spurious.errors import UserError
from spurious.perturbations.gradient import BIM, PGD
from spurious.perturbations.noise import RandomSign
from spurious.perturbations.systematics import Beam

TRUTH = np.tile([0.3, 0.8], (4, 1))


@pytest.fixture(scope="module")
def maps(make_maps):
    return make_maps(4, 16)


def data_set(maps):
    n = len(maps)
    labels = np.tile([0.7, 0.8, 0.3], (n, 1))
    seeds, index, axis = np.zeros(n, np.uint64), np.arange(n), np.full(n, 2, np.int8)
    return MapSet(maps, labels, seeds, index, axis, 64.0, names=("h", "sigma_8", "omega_m"))


def test_it_is_what_the_class_does(maps, linear_posterior):
    fooled = spurious.perturb(maps, "bim", linear_posterior, TRUTH, alpha="0.01 std")
    assert (type(fooled), fooled.dtype, fooled.shape) == (np.ndarray, np.float32, maps.shape)
    np.testing.assert_array_equal(fooled, BIM(linear_posterior, 0.3)(maps, TRUTH))
    damage = spurious.measure(maps, fooled, linear_posterior, box_size=64.0)
    assert damage.kl_perturbed_clean.mean() > 0


@pytest.mark.parametrize(
    "alpha", ["2 count", " 2.0  count", "2e0 count", {"value": 2, "unit": "count"}]
)
def test_quantities_short_and_long(maps, linear_posterior, alpha):
    found = spurious.perturb(maps, "bim", linear_posterior, TRUTH, alpha=alpha, steps=1)
    np.testing.assert_array_equal(found, BIM(linear_posterior, 2.0, 1)(maps, TRUTH))


def test_a_whole_entry_and_fields_that_differ(maps, linear_posterior):
    entry = {"kind": "pgd", "epsilon": {"value": 0.1, "unit": "std"}, "objective": "kl"}
    found = spurious.perturb(maps, entry, linear_posterior, steps=3, seed=7)
    expected = PGD(linear_posterior, 3.0, steps=3, objective="kl", seed=7)(maps)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("form", [list, np.float64, tf.constant])
def test_lists_doubles_and_tensors_are_taken(maps, linear_posterior, form):
    given = maps.tolist() if form is list else form(maps)
    found = spurious.perturb(given, "random_sign", linear_posterior, epsilon="1 count", seed=3)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, RandomSign(1.0, 3)(maps))


def test_a_single_map_stays_single(maps, linear_posterior):
    found = spurious.perturb(maps[1], "bim", linear_posterior, TRUTH[1], alpha="1 count")
    assert found.shape == (16, 16)
    np.testing.assert_array_equal(found, BIM(linear_posterior, 1.0)(maps[1:2], TRUTH[1:2])[0])


def test_a_map_set_brings_its_truth_and_box(maps, linear_posterior):
    found = spurious.perturb(data_set(maps), "bim", linear_posterior, alpha="1 count")
    np.testing.assert_array_equal(found, BIM(linear_posterior, 1.0)(maps, TRUTH))
    beam = spurious.perturb(data_set(maps), "beam", linear_posterior, mismatch=0.1, fwhm="8 Mpc/h")
    np.testing.assert_array_equal(beam, Beam(0.1, 8.0, 64.0)(maps))


def test_a_function_as_posterior_and_others(maps, linear_posterior):
    def model(x):
        mean = tf.stack([tf.reduce_mean(x, (1, 2)), tf.math.reduce_std(x, (1, 2))], 1) / 200
        return tfp.distributions.MultivariateNormalDiag(mean, 0.1 * tf.ones_like(mean))

    posterior = spurious.Posterior.from_callable(
        model, names=["omega_m", "sigma_8"], standardiser=Standardiser(64.0, 40.0)
    )
    fooled = spurious.perturb(maps, "fgsm", posterior, objective="kl", epsilon="0.1 std")
    assert np.abs(fooled - maps).max() == pytest.approx(4.0, rel=1e-4)
    on = spurious.perturb(
        maps, "fgsm", posterior, TRUTH, epsilon="0.1 std", on="b", others={"b": linear_posterior}
    )
    np.testing.assert_array_equal(
        on, spurious.perturb(maps, "fgsm", linear_posterior, TRUTH, epsilon="4 count")
    )


def test_training_maps_of_a_universal_pattern(maps, linear_posterior, make_maps):
    others = data_set(make_maps(4, 16, seed=9))
    others = spurious.MapSet(
        others.maps, TRUTH, others.seeds, others.index, others.axis, others.box_size
    )
    found = spurious.perturb(
        maps, "universal", linear_posterior, epsilon="2 count", steps=4, training=others
    )
    change = (found - maps)[:, 5:]
    assert np.abs(change).max() == pytest.approx(2.0, rel=1e-4)


BIM_FIELDS = {"kind": "bim", "alpha": "1 count", "objective": "kl"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "bin"}, "bin: .*'bim', 'pgd'"),
        ({"alpha": 0.01}, "bim: alpha = 0.01: needs its unit, as in '0.01 std'"),
        ({"alpha": "0.01 sigma"}, "bim: alpha.unit = 'sigma': .*'std' or 'count'"),
        ({"step": 3}, "bim: step = 3: unknown key, must be one of .*steps"),
        ({"steps": 0}, "bim: steps = 0: must be between 1 and 10000, not 0"),
        ({"objective": "nll"}, "objective = nll needs the truth: give truth, or .* kl, .*toward"),
        ({"kind": "beam", "mismatch": 0.1, "fwhm": "4 Mpc/h"}, "beam: .*unknown key"),
        (
            {"kind": {"kind": "beam", "mismatch": 0.1, "fwhm": "4 Mpc/h"}},
            "kind beam: needs box_size",
        ),
        (
            {"kind": {"kind": "universal", "epsilon": "1 std"}},
            "kind universal: there are no training",
        ),
        (
            {"kind": {"kind": "initial_conditions", "epsilon": "0.1 noise_norm"}},
            "kind initial_conditions acts on simulations",
        ),
        ({"on": "b"}, "on = b: there are no other posteriors"),
        ({"on": "b", "others": {"c": None}}, "on = b: must be one of others: c"),
        ({"truth": [[0.3, 0.8]]}, r"truth has shape \(1, 2\): must be \(4, 2\)"),
        ({"maps": np.ones((4, 16, 8))}, r"maps have shape \(4, 16, 8\): must be \(batch, N, N\)"),
        ({"maps": -np.ones((4, 16, 16))}, "maps: must be densities, finite and not below 0"),
        ({"maps": np.ones((4, 8, 8))}, "posterior: cannot take maps of 8 x 8 pixels"),
        ({"posterior": np.sum}, "posterior = .*: must be called with maps and have names"),
        ({"upper": "5 count"}, "upper = 5.0 count: must be at least"),
    ],
)
def test_mistakes_are_one_line(maps, linear_posterior, changes, message):
    given = {"maps": maps, "posterior": linear_posterior} | BIM_FIELDS | changes
    if isinstance(given["kind"], dict):
        given = {name: given[name] for name in ("maps", "posterior", "kind")}
    with pytest.raises(UserError, match=message) as raised:
        spurious.perturb(given.pop("maps"), given.pop("kind"), given.pop("posterior"), **given)
    assert "\n" not in str(raised.value)


def test_a_map_set_has_its_own_truth_and_names(maps, linear_posterior):
    with pytest.raises(UserError, match="truth and box_size are those of the MapSet"):
        spurious.perturb(data_set(maps), "bim", linear_posterior, TRUTH, alpha="1 count")
    strange = MapSet(**vars(data_set(maps)) | {"names": ("h", "a_s", "omega_m")})
    with pytest.raises(UserError, match="the maps have no sigma_8, only h, a_s, omega_m"):
        spurious.perturb(strange, "bim", linear_posterior, alpha="1 count")


@pytest.mark.parametrize("key", ["rms", "of"])
def test_an_entry_that_holds_itself_is_refused_in_one_line(linear_posterior, make_maps, key):
    kind = "gaussian_noise" if key == "rms" else "shuffled_pixels"
    entry = {"kind": kind}
    entry[key] = {"match": entry} if key == "rms" else entry
    with pytest.raises(
        UserError, match=rf"kind {kind}: {key}: holds itself, or is nested"
    ) as caught:
        spurious.perturb(make_maps(1, 16), entry, linear_posterior)
    assert "\n" not in str(caught.value)
