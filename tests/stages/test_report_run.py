"""The pictures of the stage `report`: which maps, which network."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from noted import Noted
from small_report import judgement, row

from spurious import seeds
from spurious.data.hdf5 import write_maps
from spurious.errors import UserError
from spurious.figures import map_posteriors
from spurious.pipeline import inputs
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import replaced_together
from spurious.stages import report

SIGNS = {"kind": "random_sign", "epsilon": {"value": 0.1, "unit": "std"}}
# Of the rows and verdicts, of which the page has its own tests.
ABOUT = {
    "verdict": SimpleNamespace(name="systematic"),
    "attacks": {name: row(0.1, "first") for name in ("other", "systematic", "bim")},
    "judged": {name: judgement("noticed", 0.9) for name in ("other", "systematic", "bim")},
}
GROUPS = {"first": {"other": SIGNS, "systematic": SIGNS}, "second": {"bim": SIGNS}}


@pytest.fixture(scope="module")
def settings(stored):
    config = stored[0].model_dump(exclude_unset=True)
    config["attacks"] = GROUPS
    config["run"] |= {"posteriors": ["compact", "resnet"], "defences": [], "attacks": [*GROUPS]}
    config["report"] = {"examples": 2}
    return type(stored[0]).model_validate(config)


@pytest.fixture(scope="module")
def test(settings, data):
    return data.take(inputs.parts(settings, data, "random").test)


@pytest.fixture(scope="module")
def drawn(settings, place, test):
    """The run, the perturbed maps by name, and what the figures were made of."""
    layout, log, asked = Layout("pilot"), Noted(), {}
    attacked = {
        name: replace(test, maps=test.maps + np.float32(size))
        for name, size in (("other", 1), ("systematic", 2), ("bim", 3))
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for name, group in settings.attacked.items():
            write_maps(layout.attacked(group, name), attacked[name])
        for name in ("workflow", "examples", "headline"):
            real = getattr(map_posteriors, name)

            def kept(*given, real=real, name=name):
                asked[name] = given
                return real(*given)

            patch.setattr(map_posteriors, name, kept)
        with replaced_together("report", report.outputs(layout)) as out:
            report.draw(settings, layout, out, log, ABOUT)
    return log, attacked, asked


def test_figures_show_random_test_maps_and_the_papers_attacks(drawn, settings, test, stored):
    log, attacked, asked = drawn
    rows = seeds.generator(settings.seed, "examples").choice(len(test), 2, replace=False)
    first, second = asked["workflow"], asked["examples"]
    assert first[0] == rows[0]
    np.testing.assert_array_equal(second[0], rows)
    for _, clean, perturbed, posterior in (first, second):
        np.testing.assert_array_equal(clean.maps, test.maps)
        assert list(perturbed) == ["bim", "systematic"]
        for name, one in perturbed.items():
            np.testing.assert_array_equal(one.maps, attacked[name].maps)
        mean = stored[1]["compact", 1](test.maps[:3]).mean()
        np.testing.assert_allclose(posterior(test.maps[:3]).mean(), mean, rtol=1e-5)
    shown, clean, name, worst, _ = asked["headline"]
    assert (shown, name) == (rows[0], "systematic")
    np.testing.assert_array_equal(clean.maps, test.maps)
    np.testing.assert_array_equal(worst.maps, attacked["systematic"].maps)
    assert list(log.figures) == ["headline.png", "overview.png", "figure_1.png", "figure_2.png"]
    panels = [axes.images[0] for axes in log.figures["figure_2.png"].axes if axes.images]
    for panel, one in zip(panels, rows, strict=True):
        np.testing.assert_array_equal(panel.get_array(), test.maps[one].T)


def test_without_the_papers_attacks_the_first_two_are_shown(settings, place, drawn, monkeypatch):
    names = {"first": {"other": 1}, "second": {"more": 1}, "third": {"last": 1}}
    monkeypatch.setattr(report, "read_maps", str)  # in place of the maps, where they are
    shown = {}
    keep = lambda row, test, maps, posterior: shown.update(maps)  # noqa: E731
    monkeypatch.setattr(report.map_posteriors, "workflow", keep)
    monkeypatch.setattr(report.map_posteriors, "examples", lambda *_: None)
    monkeypatch.setattr(report, "save_figures", lambda *_: None)
    monkeypatch.setattr(report, "dark_png", lambda *_: b"")
    monkeypatch.chdir(place)
    run = settings.run.model_copy(update={"attacks": [*names]})
    other = settings.model_copy(update={"attacks": names, "run": run})
    monkeypatch.setattr(report.map_posteriors, "headline", lambda *_: None)
    worst = {**ABOUT, "verdict": SimpleNamespace(name="other")}
    report.draw(other, Layout("pilot"), None, None, worst)
    layout = Layout("pilot")
    assert shown == {
        "other": str(layout.attacked("first", "other")),
        "more": str(layout.attacked("second", "more")),
    }


def test_trainings_are_printed_as_they_were_used(settings):
    """The shared settings, and what an entry has of its own laid over them."""
    own = settings.posteriors["compact"].model_copy(
        update={"training": type(settings.training)(epochs=7)}
    )
    entries = {**settings.posteriors, "compact": own}
    found = report.resolved(settings.model_copy(update={"posteriors": entries}))["posteriors"]
    shared = settings.training.model_dump(mode="json")
    assert found["compact"]["training"] == {**shared, "epochs": 7}
    assert found["resnet"]["training"] == shared


def test_maps_of_a_winner_are_those_of_the_search(settings):
    layout = Layout("pilot")
    for family in settings.search.families:
        found = report.attacked_maps(settings, layout, f"searched_{family}")
        assert found == layout.attacked("search", family)
    group, name = next((group, name) for group, names in GROUPS.items() for name in names)
    assert report.attacked_maps(settings, layout, name) == layout.attacked(group, name)


def test_what_the_stage_writes(place, drawn):
    layout = Layout("pilot")
    names = ("headline", "overview", "figure_1", "figure_2")
    drawn = [layout.result(f"{name}.{kind}") for name in names for kind in ("png", "pdf")]
    texts = [layout.result(name) for name in ("report.html", "report.md", "metrics.json")]
    assert report.outputs(layout) == [*texts, *drawn]
    for picture in drawn:
        begins = b"%PDF" if picture.suffix == ".pdf" else b"\x89PNG"
        assert (place / picture).read_bytes().startswith(begins)


def test_maps_that_were_simulated_here_need_no_words_others_do(test):
    assert report.own_maps(replace(test, provenance={"simulation": {}})) == ""
    said = report.own_maps(replace(test, provenance={"source": "CAMELS"}, unit="Msun"))
    n = test.maps.shape[-1]
    assert f"{len(test)} maps of {n} × {n} pixels" in said
    assert "unit: Msun" in said and "over omega_m and sigma_8" in said


def test_results_on_maps_with_other_parameters_are_refused_by_name():
    quality = {"h_rmse": 1, "a_agn_rmse": 1}
    assessed = {"target": "mine", "posteriors": {"mine": quality}}
    rows = {"bim": {"shift_h": 1, "shift_a_agn": 1, "abs_shift_h": 1}}
    defended = {"defences": {"smoothed": {"clean": quality}}}
    layout = Layout("pilot")
    report._check_parameters(("a_agn", "h"), rows, assessed, defended, layout)
    report._check_parameters(("a_agn", "h"), rows, assessed, None, layout)
    other = {"defences": {"smoothed": {"clean": {"h_rmse": 1}}}}
    for changed, where in (
        (({"bim": {"shift_h": 1}}, assessed, None), "results of bim: the parameters are h, those"),
        ((rows, {**assessed, "posteriors": {"mine": {"h_rmse": 1}}}, None), "assess.json: the"),
        ((rows, assessed, other), r"defences.json: defences.smoothed.clean: the parameters are h,"),
    ):
        with pytest.raises(UserError, match=where):
            report._check_parameters(("a_agn", "h"), *changed, layout)


def test_a_missing_picture_names_the_stage_that_makes_it(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"\.png is missing: make it with `spurious [a-z]+`$"):
        report.images(settings, Layout("pilot"))


def test_defences_are_left_out_only_where_none_is_to_be_compared(settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for names, missing in (([], None), (["smoothed"], "defences.json is missing")):
        run = settings.run.model_copy(update={"defences": names})
        asked = settings.model_copy(update={"run": run})
        if missing is None:
            assert report.defences(asked, Layout("pilot")) is None
        else:
            with pytest.raises(UserError, match=missing):
                report.defences(asked, Layout("pilot"))
