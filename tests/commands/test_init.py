"""`spurious init`, and what a params.yaml may leave out."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from spurious import shipped
from spurious.cli import main
from spurious.errors import UserError
from spurious.params import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder as the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text):
    Path("params.yaml").write_text(text)
    return load(Path("params.yaml"))


def test_it_writes_the_file_that_ships_and_keeps_one_that_exists(here):
    done = CliRunner().invoke(main, ["init"])
    assert done.exit_code == 0, done.output
    assert (here / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    (here / "params.yaml").write_text("seed: 1\n")
    done = CliRunner().invoke(main, ["init"])
    assert done.exit_code == 2
    assert done.stderr == "error: params.yaml exists and is kept: name another with --params\n"
    assert (here / "params.yaml").read_text() == "seed: 1\n"
    assert CliRunner().invoke(main, ["init", "--params", "new/mine.yaml"]).exit_code == 0
    assert sorted(p.name for p in here.rglob("*") if p.is_file()) == ["mine.yaml", "params.yaml"]


def test_a_link_that_leads_nowhere_is_kept(here):
    (here / "params.yaml").symlink_to("gone.yaml")
    assert CliRunner().invoke(main, ["init"]).exit_code == 2
    assert not (here / "gone.yaml").exists()


def test_a_missing_file_says_how_to_write_one():
    done = CliRunner().invoke(main, ["check"])
    assert done.exit_code == 2 and "write one with `spurious init`" in done.stderr


def test_one_section_is_enough():
    config, ships = read("seed: 5\n"), load(shipped.params())
    assert (config.scale, config.seed) == ("default", 5)
    assert config.run.scales == ["default"]
    assert config.design == ships.design and config.attacks == ships.attacks
    assert config.posteriors.keys() == ships.posteriors.keys()
    assert config.training.epochs == 60 and config.training.recalibrate
    assert config.run.posteriors == ships.run.posteriors
    assert config.run.attacks == ships.run.attacks
    assert config.search.families == ships.search.families


def test_run_follows_from_the_posteriors_and_attacks_of_the_file():
    config = read(
        "posteriors:\n  mine: {kind: network}\n  other: {kind: network}\n"
        "  smooth: {kind: smoothed, of: mine, over: {kind: noise, rms: {value: 1, unit: std}}}\n"
        "ensembles: {both: [mine, other]}\n"
        "attacks: {weak: {noise: {kind: gaussian_noise, rms: {value: 1, unit: std}}}}\n"
    )
    assert config.run.posteriors == ["mine", "other"]
    assert (config.run.target, config.run.ensembles) == ("mine", ["both"])
    assert (config.run.attacks, config.run.defences) == (["weak"], [])


def test_attacks_that_ship_are_run_unless_they_need_another_posterior():
    config = read("posteriors: {mine: {kind: network}}\n")
    assert "controls" not in config.run.attacks and "paper" in config.run.attacks
    assert "controls" in config.attacks


def test_what_the_file_says_of_run_comes_first():
    config = read("run: {target: resnet, posteriors: [compact, resnet]}\n")
    assert (config.run.target, config.run.posteriors) == ("resnet", ["compact", "resnet"])
    assert config.run.ensembles == ["ensemble"] and config.run.defences == []


def test_profiles_alone_are_scales_of_all_that_ships():
    Path("params.yaml").write_text("profiles: {tiny: {training: {epochs: 3}}, big: {}}\n")
    assert load(Path("params.yaml")).scale == "tiny"
    assert load(Path("params.yaml")).training.epochs == 3
    assert load(Path("params.yaml"), "big").training.epochs == 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("attacks: 3\n", "attacks = 3: "),
        ("run: 3\n", "run = 3: "),
        ("run:\n", "run = None: "),
        ("search: []\n", "search = "),
        ("posteriors: {mine: 4}\n", "posteriors.mine = 4: "),
        (
            "attacks: {mine: {x: {kind: bim, on: nobody, alpha: {value: 1, unit: std}}}}\n",
            "on: 'no",
        ),
        ("profiles: []\n", "profiles: must be a mapping"),
    ],
)
def test_a_wrong_value_in_a_short_file_is_one_line(text, message):
    with pytest.raises(UserError) as caught:
        read(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_whole_file_is_left_as_it_is():
    from spurious.defaults import completed

    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw.pop("profiles")
    assert completed(raw, ["pilot", "paper"]) == raw


def test_the_short_file_of_the_docs_is_whole():
    page = (ROOT / "docs" / "command_line.md").read_text()
    config = read(page.split("```yaml\n")[1].split("```")[0])
    assert (config.run.target, config.simulation.simulations) == ("mine", 400)
    assert config.training.epochs == 20 and "bim" in config.entries
