"""MLflow and optuna-dashboard as a browser shows them."""

import sys
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
import dashboard_pictures as pictures
from spurious import tracking
from spurious.search import notes
from spurious.search.families import build_families
from spurious.studies import open_study

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.ui,
    pytest.mark.skipif(pictures.browser() is None, reason="no Chromium"),
]
DAMAGES = {"fgsm": 0.1, "bim": 4.0, "stripes": 0.5}
TRIALS = [(1.0, -0.1), (5.0, 0.2), (2.0, -0.01)]  # value and how far beyond the fence


def track(folder, damages):
    """An attack stage that a compare stage shows."""
    shown = {}
    store = folder / "mlruns"
    with tracking.start("attack", "pilot", tags={"group": "paper"}, store=store) as log:
        for name, damage in damages.items():
            with log.child(name, {"attack": name}) as one:
                one.params({"group": "paper", "kind": name, "budget": 0.1, "unit": "std"})
                one.metrics({"damage": damage, "power_change": damage / 10, "rms_counts": 1.0})
            shown[one.id] = {"auroc": 0.9, "verdict": "noticed"}
    tracking.show_attacks("pilot", shown, store=store)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, config):
    """What two runs of the pipeline left: only the last is to be seen."""
    path = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.delenv("SPURIOUS_STORAGE", raising=False)
        track(path, {"dropped": 1.0, "bim": 3.0})
        track(path, DAMAGES)
    study = open_study(path / "mlruns/optuna.db", "pilot-logistic-12345678")
    for value, excess in TRIALS:
        study.add_trial(
            optuna.trial.create_trial(
                params={"x": value / 10},
                distributions={"x": FloatDistribution(0, 1)},
                value=value,
                constraints={"power": excess},
                system_attrs={"constraints": [excess]},
            )
        )
    family = build_families(config.search, 128.0, 1)["logistic"]
    notes.name_objective(study, "kl", "nat")
    notes.write_note(study, family, "kl", "nat", {"power": 0.05}, None)
    return path


def test_mlflow_opens_on_the_attacks_of_the_last_run_with_their_charts(folder):
    with pictures.served(pictures.UI, folder) as printed, pictures.opened() as (page, elsewhere):
        pictures.open_attacks(page, pictures.address_in(printed))
        text = page.inner_text("body")
        assert "3 matching runs" in text and "dropped" not in text
        assert "No data" not in text
        names = sorted(DAMAGES, key=lambda name: text.index(f"\n{name}\n"))
        assert names == ["bim", "stripes", "fgsm"]  # by damage
        assert page.locator(".js-plotly-plot").count() >= 3
        assert "power_change vs. damage" in text
        pictures.open_table(page, pictures.address_in(printed))
        heads = page.locator("[role=columnheader]").all_inner_texts()
        assert {"damage", "power_change", "auroc", "budget", "kind"} <= {*map(str.strip, heads)}
    assert elsewhere == []


def test_the_dashboard_shows_the_best_feasible_trial_with_names_and_a_note(folder):
    with (
        pictures.served(pictures.DASHBOARD, folder) as printed,
        pictures.opened() as (page, elsewhere),
    ):
        pictures.open_study(page, pictures.address_in(printed), "pilot-logistic-12345678")
        text = page.inner_text("body")
        assert "Best Trial (number=2)" in text
        assert "kl / nat" in text
        pictures.open_note(page)
        assert "power at most 0.05" in page.inner_text("body")
    assert elsewhere == []
