"""Rows of damage side by side: the right number under the right title, in the right unit."""

import csv

import numpy as np
import pytest

from spurious import damage, figures
from spurious.report import damage_table

BOX = 64.0


@pytest.fixture(scope="module")
def rows(breathing_posterior, make_maps):
    """Two perturbations of real maps; no two numbers of a row are alike."""
    maps = make_maps(6, 16, seed=3)
    pattern = np.random.default_rng(4).normal(size=maps.shape)
    changed = {"bim": maps * 1.1 + 2 * pattern, "a_longer_name_than_twenty": maps + 4}
    return {
        name: damage.measure(maps, one.astype(np.float32), breathing_posterior, BOX).row(1)
        for name, one in changed.items()
    }


def test_every_number_is_told_below_its_title_and_spectra_in_percent(rows):
    header, *lines = damage_table.format_table(rows).splitlines()
    assert header.split("  ")[-1].strip() == "contrast %"
    for line, (name, row) in zip(lines, rows.items(), strict=True):
        assert line.startswith(name)
        expected = [
            row["kl_perturbed_clean"]["mean"],
            row["kl_clean_perturbed"]["mean"],
            row["kl_symmetrised"]["mean"],
            row["abs_shift_omega_m"]["mean"],
            row["abs_shift_sigma_8"]["mean"],
            row["rms_counts"]["mean"],
            100 * row["mean_power_change_raw"]["mean"],
            100 * row["mean_power_change_contrast"]["mean"],
        ]
        assert line.split()[1:] == [f"{value:.3g}" for value in expected]
        assert len(set(line.split())) == 9
    for title in ("KL(p||c)", "KL(c||p)", "sym. KL", "|shift| Om", "|shift| s8", "RMS"):
        assert title in header
    titles = ["KL(p||c)", "KL(c||p)", "sym. KL", "|shift| Om", "|shift| s8", "RMS", "dP/P raw %"]
    places = [header.index(title) for title in titles]
    assert places == sorted(places)


def test_columns_end_where_their_titles_end(rows):
    header, *lines = damage_table.format_table(rows).splitlines()
    assert len({len(header), *map(len, lines)}) == 1
    end = header.index("KL(p||c)") + len("KL(p||c)")
    for line, row in zip(lines, rows.values(), strict=True):
        assert line[:end].endswith(f"{row['kl_perturbed_clean']['mean']:.3g}")


def test_the_csv_has_means_and_ends(rows, tmp_path):
    damage_table.write_table(tmp_path / "rows.csv", rows)
    with open(tmp_path / "rows.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [line["perturbation"] for line in written] == list(rows)
    for line, row in zip(written, rows.values(), strict=True):
        cell = row["kl_perturbed_clean"]
        names = {"kl_perturbed_clean": "mean", "kl_perturbed_clean.low": "low"}
        names["kl_perturbed_clean.high"] = "high"
        for column, key in names.items():
            assert float(line[column]) == pytest.approx(cell[key])
        assert int(line["n_maps"]) == 6


def test_the_figures_show_the_rows(rows):
    drawn = damage_table.draw_damage(rows, {"bim": 1.05}, lines=["bim"])
    raw, contrast = drawn["spectra"].axes
    for axes, kind in ((raw, "raw"), (contrast, "contrast")):
        expected = 100 * np.array(rows["bim"]["spectrum"][kind]["mean_change"])
        (*_, line) = axes.lines
        np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_allclose(line.get_xdata(), rows["bim"]["spectrum"]["k"])
        assert len(axes.lines) == 2  # zero and one perturbation
    assert "raw" in raw.get_title() and "contrast" in contrast.get_title()
    bars = [bar.get_width() for bar in drawn["damage"].axes[0].patches]
    assert bars == [row["kl_perturbed_clean"]["mean"] for row in rows.values()]
    assert len(damage_table.draw_damage(rows, {})["spectra"].axes[0].lines) == 3


def test_damage_against_power_marks_what_escapes(rows):
    """Every row at its change of the contrast's P(k) and its KL, in the colour of its verdict."""
    names = list(rows)
    figure = figures.damage_against_power(rows, {names[0]: "escapes", names[1]: "noticed"})
    (axes,) = figure.axes
    marks = [one.lines[0] for one in axes.containers]
    expected = {
        (100 * row["mean_power_change_contrast"]["mean"], row["kl_perturbed_clean"]["mean"])
        for row in rows.values()
    }
    assert {tuple(mark.get_xydata()[0]) for mark in marks} == expected
    filled = [mark for mark in marks if mark.get_fillstyle() == "full"]
    (escaping,) = filled
    assert escaping.get_ydata()[0] == rows[names[0]]["kl_perturbed_clean"]["mean"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["escapes", "noticed"]
    assert "%" in axes.get_xlabel() and "nat" in axes.get_ylabel()
