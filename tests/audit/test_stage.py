"""What the stage writes, prints, tracks and draws."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from noted import Noted, note

from spurious import figures
from spurious.audit.attacks import Attacks
from spurious.audit.criteria import Check
from spurious.audit.curves import audience, security
from spurious.data.maps import MapSet
from spurious.pipeline import inputs
from spurious.pipeline.layout import Layout
from spurious.stages import audit

BOX = 64.0
CHECKS = (
    Check("monotone", True, -0.5, 0.02, "it rises", {"pgd": -0.5}),
    Check("saturates", False, 0.4, 0.1, "it goes on"),
    Check("beats_noise", False, None, 0.02, "no number"),
    Check("beats_transfer", None, None, 0.02, "left out"),
)


@pytest.fixture(scope="module")
def curves(linear_posterior, settings, maps, truth):
    attacks = Attacks(
        linear_posterior, settings.steps, settings.constrained_steps, settings.restarts
    )
    heard = audience(attacks, maps, truth, BOX, {"second_network": linear_posterior})
    return {"target": "linear", **security(attacks, heard, settings).as_json()}


def test_every_perturbation_and_budget_is_a_run_below_the_stage(curves, settings):
    log = Noted()
    audit.track(log, curves, CHECKS)
    points = {curve["name"]: len(curve["points"]) for curve in curves["curves"]}
    assert len(log.children) == sum(points.values())
    one = log.children["strongest_bounded 0.1 cosmic_variance"].logged
    assert one["name"] == "strongest_bounded" and one["family"] == "cosmic"
    assert one["budget"] == 0.1 and one["kl_perturbed_clean"] > 0
    assert one["second_network.kl_perturbed_clean"] == one["kl_perturbed_clean"]
    assert len(log.curves["strongest_linf.kl_perturbed_clean"]) == len(settings.linf.values)
    assert len(log.curves["strongest_linf.on_second_network.moved"]) == len(settings.linf.values)
    assert log.logged["check.saturates"] == 0.4 and log.logged["checks_failed"] == 2
    assert "check.beats_noise" not in log.logged


def test_what_gave_no_number_is_neither_logged_nor_drawn(curves):
    broken = json.loads(json.dumps(curves))
    kl = broken["curves"][0]["points"][0]["responses"]["target"]["kl_perturbed_clean"]
    kl |= {"mean": None, "low": None, "high": None}
    log = Noted()
    audit.track(log, broken, CHECKS)
    assert "strongest_linf.kl_perturbed_clean" not in log.curves
    figures.security_curves(broken, {})


def test_checks_are_told_with_a_page_for_what_failed():
    lines = audit.format_checks(CHECKS).splitlines()
    assert [line.split()[0] for line in lines] == ["ok", "FAILED", "see", "FAILED", "see", "-"]
    assert "docs/checks/saturates.md" in lines[2] and "0.4" in lines[1]


def test_the_metrics_file_holds_each_check_by_name():
    written = json.loads(json.dumps(audit.verdicts(CHECKS), allow_nan=False))
    assert written["failed"] == 2
    # As many of the four have failed as have not.
    assert audit.verdicts([*CHECKS, CHECKS[0]])["failed"] == 2
    assert written["checks"]["monotone"] == {
        "passed": True,
        "value": -0.5,
        "threshold": 0.02,
        "sentence": "it rises",
        "values": {"pgd": -0.5},
        "page": "docs/checks/monotone.md",
    }
    assert written["checks"]["beats_transfer"]["passed"] is None


def test_maps_are_drawn_once_for_all(make_maps):
    n = np.arange(9)
    data = MapSet(make_maps(9, 16), np.zeros((9, 2)), n, n, np.full(9, 2, np.int8), BOX)
    first, again, other = (audit.sample_maps(data, 5, seed).index for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(set(first)) == 5 and not np.array_equal(first, other)
    assert len(audit.sample_maps(data, 100, 1)) == 9


def test_the_figure_shows_means_intervals_and_the_papers_values(curves):
    figure = figures.security_curves(curves, {"bim": 1.05})
    FigureCanvasAgg(figure)
    figure.savefig(io.BytesIO(), dpi=40)
    upper = figure.axes[0]
    pgd = curves["curves"][0]
    drawn = {tuple(np.round(line.get_xdata(), 6)): line.get_ydata() for line in upper.lines}
    x = tuple(np.round([point["std"] for point in pgd["points"]], 6))
    kl = [point["responses"]["target"]["kl_perturbed_clean"] for point in pgd["points"]]
    assert x in drawn
    assert any(np.allclose(line.get_ydata(), [one["mean"] for one in kl]) for line in upper.lines)
    assert any(np.allclose(line.get_ydata(), 1.05) for line in upper.lines)
    band = np.concatenate([path.vertices for path in upper.collections[0].get_paths()])[:, 1]
    assert band.min() == pytest.approx(min(one["low"] for one in kl))
    assert band.max() == pytest.approx(max(one["high"] for one in kl))


def test_more_posteriors_than_the_palette_have_colours_of_their_own(curves):
    many = json.loads(json.dumps(curves))
    for point in many["curves"][0]["points"]:
        one = point["responses"]["target"]
        point["responses"] = {"target": one, **{f"network_{i}": one for i in range(8)}}
    legend = figures.security_curves(many, {}).legends[0]
    colours = [line.get_color() for line in legend.get_lines()]
    assert len(set(colours)) == len(colours) == 10


class Stand:
    """In place of what takes a minute: keeps what it was asked, answers with known curves."""

    def __init__(self, curves):
        self.curves = curves

    def __call__(self, posterior, maps, truth, **how):
        self.asked = {"posterior": posterior, "maps": maps, "truth": truth, **how}
        curves = SimpleNamespace(as_json=lambda: self.curves, std=30.0, weights=None)
        return SimpleNamespace(curves=curves, checks=CHECKS, strongest={})


@pytest.fixture
def ran(stored, place, curves, monkeypatch, capsys):
    """The stage's run, what its checks were asked, the configuration and what was printed."""
    monkeypatch.chdir(place)
    runs, stand = note(monkeypatch), Stand({k: v for k, v in curves.items() if k != "target"})
    monkeypatch.setattr(audit.checks, "run", stand)
    config = stored[0]
    run = config.run.model_copy(update={"posteriors": ["resnet", "compact"], "ensembles": []})
    small = config.audit.model_copy(update={"maps": 11})
    config = config.model_copy(update={"run": run, "audit": small})
    audit.run(config)
    return runs, stand.asked, config, capsys.readouterr().out


def test_some_test_maps_of_the_target_are_audited_on_its_first_training(ran, stored, data):
    _, asked, config, _ = ran
    test = data.take(inputs.parts(config, data, "random").test)
    chosen = audit.sample_maps(test, 11, config.seed)
    np.testing.assert_array_equal(asked["maps"], chosen.maps)
    np.testing.assert_array_equal(asked["truth"], chosen.labels)
    np.testing.assert_array_equal(asked["groups"], chosen.index)
    assert (asked["box_size"], asked["seed"]) == (64.0, config.seed)
    assert asked["settings"] == config.audit
    networks = {"compact": asked["posterior"], **asked["others"]}
    assert list(networks) == ["compact", "resnet"]
    for name, one in networks.items():
        expected = stored[1][name, 1](chosen.maps).mean()
        np.testing.assert_allclose(one(chosen.maps).mean(), expected, rtol=1e-5)


def test_curves_checks_and_figure_are_written_and_logged(ran, curves, place):
    (run,), _, config, printed = ran
    folder = place / "results/pilot"
    written = json.loads((folder / "curves.json").read_text())
    about = {"run_id": "audit", "target": "compact", "n_maps": 11}
    assert {key: written[key] for key in about} == about
    assert written["curves"] == json.loads(json.dumps(curves["curves"]))
    found = json.loads((folder / "audit.json").read_text())
    assert set(found) == {"run_id", "failed", "checks", "strongest"}
    assert (found["run_id"], found["failed"], found["strongest"]) == ("audit", 2, {})
    names = ("curves.json", "audit.json", "security_curves.png", "security_curves.pdf")
    layout = Layout("pilot")
    assert audit.outputs(layout) == [layout.result(name) for name in names]
    assert (folder / "security_curves.png").read_bytes().startswith(b"\x89PNG")
    assert list(run.figures) == ["security_curves.png"]
    assert run.logged["checks_failed"] == 2 and run.logged["target"] == "compact"
    assert run.logged["seed"] == config.seed and run.logged["maps"] == 11
    assert run.datasets["test"][1] == layout.maps and len(run.datasets["test"][0]) == 11
    models = [f"models/pilot/compact/{number}.keras" for number in (1, 2, 3)]
    assert [str(path) for path in run.about["inputs"]] == ["data/pilot/maps.h5", *models]
    assert run.about["scale"] == "pilot"
    assert printed.strip() == audit.format_checks(CHECKS)
