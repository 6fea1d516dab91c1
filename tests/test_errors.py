"""A name that does not exist is answered by the one that was perhaps meant."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import spurious
from spurious.cli import main
from spurious.errors import UserError, nearest, one_of
from spurious.search.fences import build_fences

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("given", "allowed", "meant"),
    [
        ("bmi", ["fgsm", "bim"], "bim"),
        ("Bim", ["fgsm", "bim"], "bim"),
        ("strongest_linff", ["strongest_l2", "strongest_linf"], "strongest_linf"),
        ("xyz", ["fgsm", "bim"], None),
        (3, ["fgsm", "bim"], None),
        (None, ["one"], "one"),
        ("x" * 10**6, ["x"], None),
        ("", ["fgsm"], None),
        ("bim", [], None),
    ],
)
def test_the_nearest_name_is_suggested(given, allowed, meant):
    assert nearest(given, allowed) == (f"; did you mean {meant!r}?" if meant else "")


def test_what_is_allowed_comes_first():
    assert one_of("bmi", ["fgsm", "bim"]) == "must be one of fgsm, bim; did you mean 'bim'?"
    assert one_of("x", ["a", "b"], "groups") == "must be one of groups: a, b"


def changed(path, value):
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    *above, last = path.split(".")
    section = raw
    for key in above:
        section = section[key]
    section[last] = value
    return yaml.safe_dump(raw)


@pytest.mark.parametrize(
    ("path", "value", "meant"),
    [
        ("sede", 1, "seed"),
        ("training.epcohs", 1, "epochs"),
        ("profiles.pilot.trainign", {}, "training"),
        ("run.scales", ["pilto"], "pilot"),
        ("run.posteriors", ["compct"], "compact"),
        ("run.target", "compct", "compact"),
        ("run.attacks", ["papre"], "paper"),
        ("attacks.paper.bim.kind", "bmi", "bim"),
        ("attacks.paper.bim.alhpa", 1, "alpha"),
        ("attacks.white_box.shift_s8.objective", {"kind": "shift_s9"}, "shift_s8"),
        ("attacks.more.kl.objective", "kl_perturbd_clean", "kl_perturbed_clean"),
        ("design.kind", "gird", "grid"),
        ("posteriors.compact.preset", "compct", "compact"),
        ("search.fences.powr", 0.1, "power"),
        ("search.families.logistic.kind", "logitsic", "logistic"),
        ("search.goal", "kl_symetrised", "kl_symmetrised"),
        ("posteriors.trades.defence.kind", "trade", "trades"),
    ],
)
def test_a_mistyped_name_of_params_yaml(tmp_path, path, value, meant):
    (tmp_path / "params.yaml").write_text(changed(path, value))
    done = CliRunner().invoke(main, ["check", "--params", str(tmp_path / "params.yaml")])
    assert done.exit_code == 2
    assert f"did you mean {meant!r}?" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["attack", "bmi"], "bim"),
        (["attack", "white_bx"], "white_box"),
        (["attack", "bim", "--scale", "pilto"], "pilot"),
        (["train", "compct"], "compact"),
        (["defend", "marginalized"], "marginalised"),
        (["list", "bmi"], "bim"),
        (["trian", "compact"], "train"),
        (["attack", "--modl", "x"], "--model"),
        (["--verson"], "--version"),
        (["check", "--params", "parms.yaml"], "params.yaml"),
    ],
)
def test_a_mistyped_name_on_the_command_line(arguments, meant, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert f"; did you mean {meant!r}?" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["chek"], "no such command 'chek'; did you mean 'check'? See `spurious --help`"),
        (["nothing"], "no such command 'nothing'; see `spurious --help`"),
        (
            ["simulate", "--scal"],
            "no such option '--scal'; did you mean '--scale'? See `spurious simulate --help`",
        ),
        (
            ["simulate", "--workers", "0"],
            "invalid value for '--workers': 0 is not in the range x>=1; see `spurious simulate "
            "--help`",
        ),
        (["use"], "missing argument 'MAPS'; see `spurious use --help`"),
        (
            ["list", "\x1b[2J", "b\nc"],
            "got unexpected extra argument (b c); see `spurious list --h",
        ),
    ],
)
def test_what_click_refuses_is_one_line(arguments, line):
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {line}") and done.stderr.count("\n") == 1


def test_without_a_command_there_is_the_help():
    done = CliRunner().invoke(main, [])
    assert done.exit_code == 2 and "Commands:" in done.output and "error:" not in done.output


def test_a_mistyped_name_in_python():
    with pytest.raises(UserError, match=r"did you mean 'bim'\?"):
        spurious.perturb([[[1.0]]], "bmi", None, [[0.3, 0.8]])
    with pytest.raises(ValueError, match=r"did you mean 'power'\?"):
        build_fences(["powr"])
