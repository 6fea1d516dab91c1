"""Lines, bars and bands are the numbers that were given, in the unit of their label."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from spurious import figures
from spurious.figures.spectra import power_changes, power_spectra

K = np.array([0.1, 0.2, 0.4])
COSMIC = np.array([0.5, 0.2, 0.1])
CLEAN = np.array([100.0, 50.0, 10.0])


def edges(axes):
    """(lowest, highest) of the grey band at each wavenumber."""
    vertices = axes.collections[0].get_paths()[0].vertices
    found = [vertices[np.isclose(vertices[:, 0], k), 1] for k in K]
    return np.array([[one.min(), one.max()] for one in found])


def test_spectra_and_their_cosmic_variance():
    axes = Figure().subplots()
    shade = {"bim": "#D55E00"}
    power_spectra(axes, {"clean": CLEAN, "bim": 1.1 * CLEAN}, K, COSMIC, shade)
    clean, bim = axes.lines
    np.testing.assert_allclose(clean.get_xydata(), np.stack([K, CLEAN], 1))
    np.testing.assert_allclose(bim.get_ydata(), 1.1 * CLEAN)
    assert (clean.get_color(), bim.get_color()) == ("#000000", "#D55E00")
    expected = CLEAN[:, None] * np.stack([1 - COSMIC, 1 + COSMIC], 1)
    np.testing.assert_allclose(edges(axes), expected)
    assert axes.get_xscale() == axes.get_yscale() == "log"


def test_changes_are_in_percent_beside_one_maps_cosmic_variance():
    axes = Figure().subplots()
    power_changes(axes, {"bim": [0.03, -0.01, 0.0]}, K, COSMIC, {"bim": "#D55E00"})
    zero, line = axes.lines
    assert set(zero.get_ydata()) == {0}
    np.testing.assert_allclose(line.get_xydata(), np.stack([K, [3, -1, 0]], 1))
    np.testing.assert_allclose(edges(axes), 100 * np.stack([-COSMIC, COSMIC], 1))
    assert "%" in axes.get_ylabel()


def test_changes_of_raw_counts_and_of_the_contrast_have_their_panels():
    changes = {
        "bim": {"raw": np.array([0.1, 0.2, 0.3]), "contrast": np.array([0.01, 0.02, 0.03])},
        "beam": {"raw": np.array([-0.1, 0, 0]), "contrast": np.array([-0.02, 0, 0])},
    }
    figure = figures.spectrum_changes(changes, K, COSMIC)
    raw, contrast = figure.axes
    assert raw.get_title() == "raw counts" and contrast.get_title().startswith("density contrast")
    for axes, kind in ((raw, "raw"), (contrast, "contrast")):
        _, bim, beam = axes.lines
        np.testing.assert_allclose(bim.get_ydata(), 100 * changes["bim"][kind])
        np.testing.assert_allclose(beam.get_ydata(), 100 * changes["beam"][kind])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["BIM", "beam"]
    colours = [line.get_color() for line in figure.legends[0].get_lines()]
    assert colours == [line.get_color() for line in raw.lines[1:]]


def test_bars_of_damage_end_at_the_mean_and_show_the_interval():
    rows = {
        "bim": {"kl_perturbed_clean": {"mean": 2.0, "low": 1.5, "high": 4.0}},
        "beam": {"kl_perturbed_clean": {"mean": 0.5, "low": 0.4, "high": 0.8}},
    }
    axes = figures.damage_bars(rows, {"beam": 0.98}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 0.5]
    ends = [lines.get_segments()[0] for lines in axes.collections]
    np.testing.assert_allclose([end[:, 0] for end in ends], [[1.5, 4.0], [0.4, 0.8]])
    np.testing.assert_allclose([end[:, 1] for end in ends], [[0, 0], [1, 1]])
    (diamond,) = [line for line in axes.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(diamond.get_xydata(), [[0.98, 1]])
    assert [text.get_text() for text in axes.get_yticklabels()] == ["BIM", "beam"]
    top, bottom = axes.get_ylim()
    assert top > bottom  # the first row is above


def test_bars_of_nothing_can_be_drawn_on_a_logarithmic_axis():
    none = {"kl_perturbed_clean": {"mean": 0.0, "low": 0.0, "high": 0.0}}
    axes = figures.damage_bars({"bim": none}, {}).axes[0]
    assert axes.patches[0].get_width() == pytest.approx(1e-4)
    assert axes.get_legend() is None


def test_the_learning_curve_of_a_defended_network_has_the_loss_on_clean_maps_too():
    history = {"loss": [3.0, 2.0], "val_loss": [3.5, 2.5], "val_nll": [1.0, 0.5]}
    axes = figures.learning_curve(history).axes[0]
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn["validation"] == [3.5, 2.5] and drawn["validation, clean maps"] == [1.0, 0.5]
    assert axes.get_ylabel() == "loss of the defence [nat per map]"
    assert axes.get_ylim()[0] < 0.5


def test_the_learning_curve_marks_the_epoch_whose_weights_were_kept():
    history = {"loss": [1.0, 0.5, 0.2, 0.1], "val_loss": [1.2, 0.4, 0.3, 0.6]}
    axes = figures.learning_curve(history).axes[0]
    training, validation, kept = axes.lines
    np.testing.assert_allclose(training.get_xydata(), np.stack([[1, 2, 3, 4], history["loss"]], 1))
    np.testing.assert_allclose(validation.get_ydata(), history["val_loss"])
    assert set(kept.get_xdata()) == {3}
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["training", "validation", "weights kept"]
    assert axes.get_ylim()[0] == pytest.approx(-0.1)


def test_predictions_stand_over_the_truth_with_one_sigma():
    truths = np.array([[0.1, 0.6], [0.3, 0.7], [0.5, 0.9]])
    means = truths + np.array([0.02, -0.03])
    stds = np.array([[0.05, 0.01], [0.04, 0.02], [0.03, 0.03]])
    figure = figures.predicted_versus_true(means, stds, truths, ["omega_m", "sigma_8"])
    for i, axes in enumerate(figure.axes):
        points, diagonal = axes.lines
        np.testing.assert_allclose(points.get_xdata(), truths[:, i], atol=0.0061)
        np.testing.assert_allclose(points.get_ydata(), means[:, i])
        segments = np.array(axes.collections[0].get_segments())
        expected = np.stack([means[:, i] - stds[:, i], means[:, i] + stds[:, i]], 1)
        np.testing.assert_allclose(segments[:, :, 1], expected)
        ends = [truths[:, i].min(), truths[:, i].max()]
        np.testing.assert_allclose(diagonal.get_xydata(), np.stack([ends, ends], 1))
        assert axes.get_xlabel() == f"true {figures.pretty(['omega_m', 'sigma_8'][i])}"


def test_narrow_posteriors_lie_inside_more_rarely():
    """PITs near 0 and 1 are outside of the central intervals, near 0.5 inside of all."""
    pit = np.array([[0.5], [0.5], [0.02], [0.98]])
    level, share = figures.coverage(pit, ["omega_m"]).axes[0].lines[1].get_data()
    inside = share[np.isclose(level, 0.5)]
    assert inside == 0.5 and share[-1] == 1


def test_the_search_says_what_is_feasible_and_keeps_the_best():
    values, changes = np.array([0.5, 0.2, 0.9, 0.3]), np.array([0.2, 0.05, 0.3, 0.01])
    axes = figures.search_history(values, changes, 0.05).axes[0]
    breaking, feasible, best = axes.lines
    np.testing.assert_array_equal(breaking.get_xydata(), [[0, 0.5], [2, 0.9]])
    np.testing.assert_array_equal(feasible.get_xydata(), [[1, 0.2], [3, 0.3]])
    np.testing.assert_array_equal(best.get_ydata(), [np.nan, 0.2, 0.2, 0.3])
    assert breaking.get_label() == "breaks the fence" and feasible.get_label() == "feasible"


def test_fronts_stand_over_their_fence_in_its_unit():
    curves = {
        "power": {"logistic": [(0.1, 0.5), (0.01, 0.2)]},
        "cosmic": {"logistic": [(0.2, 0.3), (0.4, 0.6)]},
    }
    points = {"power": {"paper": (0.07, 0.24)}, "cosmic": {"paper": (0.3, 0.24)}}
    references = {"power": {"BIM": (0.02, 1.0), "phase only": (1e-6, 0.3)}, "cosmic": {}}
    figure = figures.fronts(curves, points, references, {"power": 0.05})
    power, cosmic = figure.axes
    lines = {line.get_label(): line for line in power.lines}
    np.testing.assert_allclose(lines["logistic"].get_xydata(), [[1, 0.2], [10, 0.5]])
    np.testing.assert_allclose(lines["BIM"].get_xydata(), [[2, 1.0]])
    assert set(lines["phase only"].get_ydata()) == {0.3}  # level: below all heights
    np.testing.assert_allclose(lines["paper"].get_xydata(), [[7, 0.24]])
    assert set(lines["fence of the search"].get_xdata()) == {5}
    assert "%" in power.get_xlabel() and "%" not in cosmic.get_xlabel()
    lines = {line.get_label(): line for line in cosmic.lines}
    np.testing.assert_allclose(lines["logistic"].get_xydata(), [[0.2, 0.3], [0.4, 0.6]])
    np.testing.assert_allclose(lines["paper"].get_xydata(), [[0.3, 0.24]])
    assert "fence of the search" not in lines


def test_importances_have_the_largest_on_top():
    axes = figures.tuning_importances({"width": 0.2, "depth": 0.7, "rate": 0.1}, 20).axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["rate", "width", "depth"]
    assert [bar.get_width() for bar in axes.patches] == [0.1, 0.2, 0.7]


def test_the_tuning_shows_every_trial_and_what_is_to_be_beaten():
    values, best = [1.0, None, 0.6, 9.0], [1.0, 1.0, 0.6, 0.6]
    axes = figures.tuning_history(values, best).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["ended early"].get_xdata(), [1])
    np.testing.assert_array_equal(lines["above"].get_xdata(), [3])
    np.testing.assert_array_equal(lines["best so far"].get_ydata(), best)
    assert set(lines["to beat"].get_ydata()) == {1.0}
    np.testing.assert_array_equal(lines["complete"].get_ydata(), [1.0, np.nan, 0.6, 9.0])


def test_names_have_colours_of_the_palette_in_order():
    names = [f"name_{i}" for i in range(12)]
    shade = figures.colours(names)
    assert list(shade) == names and len({shade[name] for name in names[:11]}) == 11
    assert shade["name_11"] == shade["name_0"]
    assert all(to_hex(colour).upper() == colour for colour in shade.values())
    assert figures.pretty("bim_weak") == "BIM weak" and figures.pretty("fgsm") == "FGSM"
