"""The pictures of the stage `report`: which maps, which network."""

from dataclasses import replace

import numpy as np
import pytest
from noted import Noted

from spurious import seeds
from spurious.data.hdf5 import write_maps
from spurious.figures import map_posteriors
from spurious.pipeline import inputs
from spurious.pipeline.layout import Layout
from spurious.pipeline.outputs import replaced_together
from spurious.stages import report

SIGNS = {"kind": "random_sign", "epsilon": {"value": 0.1, "unit": "std"}}
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
        for name in ("workflow", "examples"):
            real = getattr(map_posteriors, name)

            def kept(*given, real=real, name=name):
                asked[name] = given
                return real(*given)

            patch.setattr(map_posteriors, name, kept)
        with replaced_together("report", report.outputs(layout)) as out:
            report.draw(settings, layout, out, log)
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
    assert list(log.figures) == ["figure_1.png", "figure_2.png"]
    panels = [axes.images[0] for axes in log.figures["figure_2.png"].axes if axes.images]
    for panel, row in zip(panels, rows, strict=True):
        np.testing.assert_array_equal(panel.get_array(), test.maps[row].T)


def test_without_the_papers_attacks_the_first_two_are_shown(settings, place, drawn, monkeypatch):
    names = {"first": {"other": 1}, "second": {"more": 1}, "third": {"last": 1}}
    monkeypatch.setattr(report, "read_maps", lambda path: path)
    shown = {}
    keep = lambda row, test, maps, posterior: shown.update(maps)  # noqa: E731
    monkeypatch.setattr(report.map_posteriors, "workflow", keep)
    monkeypatch.setattr(report.map_posteriors, "examples", lambda *_: None)
    monkeypatch.setattr(report, "save_figures", lambda *_: None)
    monkeypatch.chdir(place)
    run = settings.run.model_copy(update={"attacks": [*names]})
    other = settings.model_copy(update={"attacks": names, "run": run})
    report.draw(other, Layout("pilot"), None, None)
    layout = Layout("pilot")
    assert shown == {
        "other": layout.attacked("first", "other"),
        "more": layout.attacked("second", "more"),
    }


def test_what_the_stage_writes(place, drawn):
    layout = Layout("pilot")
    pictures = [layout.result(f"figure_{number}.png") for number in (1, 2)]
    assert report.outputs(layout) == [layout.result("report.html"), *pictures]
    for picture in pictures:
        assert (place / picture).read_bytes().startswith(b"\x89PNG")
