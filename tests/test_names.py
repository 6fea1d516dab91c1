"""Names in params.yaml: one rule for all that becomes a file name or a word of a command."""

import copy
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from spurious.cli import main
from spurious.description.names import RULE, is_name
from spurious.errors import UserError
from spurious.params import load

PARAMS = Path(__file__).parents[1] / "params.yaml"
BAD = [
    "$(touch EVIL)",
    "`touch EVIL`",
    "a'$(touch EVIL)'",
    "'; touch EVIL; '",
    'a"b',
    "a;b",
    "a&b",
    "a|b",
    "a>b",
    "a<b",
    "<script>alert(1)</script>",
    "a b",
    " a",
    "a ",
    "a\tb",
    "a\nb",
    "a\n",
    "a\x00b",
    "\x1b[31ma",
    "../../x",
    "/tmp/x",
    "a/b",
    "a\\b",
    ".",
    "..",
    ".hidden",
    "a.b",
    "-x",
    "--help",
    "_x",
    "~",
    "*",
    "a?b",
    "${run}",
    "a{b}",
    "a=b",
    "a,b",
    "a:b",
    "a%b",
    "a@b",
    "#a",
    "!a",
    "",
    "é",
    "Ω_m",
    "ａ",
    "١",
    "a\u202eb",
    "a" * 65,
    "a" * 300,
    1,
    1.5,
    True,
    None,
]


@pytest.fixture(scope="module")
def raw():
    """The shipped file without what no test here looks at: a tenth of it, read as much faster."""
    whole = yaml.safe_load(PARAMS.read_text())
    run, kept = whole["run"], ("compact", "contrast", "resnet", "power_spectrum")
    whole["attacks"] = {"paper": whole["attacks"]["paper"]}
    whole["posteriors"] = {name: whole["posteriors"][name] for name in kept}
    whole["ensembles"] = {"ensemble": ["compact"]}
    run["attacks"], run["posteriors"], run["defences"] = ["paper"], list(kept), []
    for profile in whole["profiles"].values():
        del profile["posteriors"]
    return whole


def changed(raw, change, name):
    made = copy.deepcopy(raw)
    change(made, name)
    return made


def group(raw, name):
    raw["attacks"][name] = {"new": raw["attacks"]["paper"]["bim"]}
    raw["run"]["attacks"].append(name)


def attack(raw, name):
    raw["attacks"]["paper"][name] = raw["attacks"]["paper"]["bim"]


def posterior(raw, name):
    raw["posteriors"][name] = {"kind": "network"}
    raw["run"]["posteriors"].append(name)


def posterior_of_a_scale(raw, name):
    raw["profiles"]["paper"]["posteriors"] = {name: {"kind": "network"}}


def ensemble(raw, name):
    raw["ensembles"][name] = ["compact"]
    raw["run"]["ensembles"].append(name)


def member(raw, name):
    raw["ensembles"]["ensemble"].append(name)


def scale(raw, name):
    raw["profiles"][name] = raw["profiles"]["pilot"]
    raw["run"]["scales"].append(name)


def family(raw, name):
    raw["search"]["families"][name] = {"kind": "logistic"}


def direction(raw, name):
    raw["search"]["goal"] = {"kind": "shift", "direction": {name: 1.0}}


def base(raw, name):
    raw["tune"]["base"] = name


def on(raw, name):
    raw["attacks"]["paper"]["bim"]["on"] = name


def target(raw, name):
    raw["run"]["target"] = name


def listed(key):
    def change(raw, name):
        raw["run"][key].append(name)

    change.__name__ = f"run_{key}"
    return change


LISTS = ["scales", "posteriors", "ensembles", "tune"]
run_groups = listed("attacks")
KEYS = [group, attack, posterior, posterior_of_a_scale, ensemble, scale, family, direction]
VALUES = [member, base, on, target, *map(listed, LISTS)]


def refusal(tmp_path, raw, change, name):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed(raw, change, name), sort_keys=False))
    with pytest.raises(UserError) as caught:
        load(path)
    return str(caught.value).removeprefix(str(tmp_path))


@pytest.mark.parametrize("name", BAD, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("change", [group, run_groups], ids=lambda change: change.__name__)
def test_no_bad_name_is_accepted(tmp_path, raw, change, name):
    message = refusal(tmp_path, raw, change, name)
    assert RULE in message and repr(name)[:20] in message
    assert message.isprintable() and len(message) < 500


@pytest.mark.parametrize("name", BAD[::5], ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("change", [*KEYS, *VALUES], ids=lambda change: change.__name__)
def test_the_rule_is_the_same_everywhere(tmp_path, raw, change, name):
    message = refusal(tmp_path, raw, change, name)
    assert RULE in message and repr(name)[:20] in message
    assert message.isprintable() and len(message) < 500


@pytest.mark.parametrize("name", ["a", "9", "A-b_c", "0-_", "a" * 64, "con", "x--y"])
@pytest.mark.parametrize("change", KEYS, ids=lambda change: change.__name__)
def test_names_by_the_rule_are_accepted(tmp_path, raw, change, name):
    assert is_name(name)
    made = changed(raw, change, name)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(made, sort_keys=False))
    load(path)


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (scale, "code", "is reserved: data/code has the lists"),
        (scale, "reference", "is reserved"),
        (scale, "shards", "is reserved"),
        (scale, "checkpoints", "is reserved"),
        (scale, "own", "is reserved"),
        (posterior, "tune", "'tune': is reserved"),
        (posterior, "defend", "'defend': is reserved"),
        (posterior, "target", "'target': is reserved"),
        (ensemble, "target", "'target': is reserved"),
        (posterior, "compact_2", "run.posteriors: compact_2 would name two results"),
        (attack, "run_id", "attacks.paper: 'run_id': is reserved"),
        (attack, "search", "attacks.paper.search: is a name in the worst systematics"),
        (group, "search", "attacks.search.search: is a name in the worst systematics"),
        (attack, "searched_logistic", "is a name in search.families.logistic too"),
        (listed("tune"), "huge", "run.tune: 'huge' must be one of profiles: pilot, paper"),
    ],
)
def test_reserved_names_are_refused_with_the_reason(tmp_path, raw, change, name, message):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(changed(raw, change, name), sort_keys=False))
    with pytest.raises(UserError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", ["memory", "walltime", "queue", "account"])
@pytest.mark.parametrize("word", ["a\nscancel -u me", "a b", "$(touch EVIL)", "`x`", "-x", "a;b"])
def test_words_of_a_job_script_end_no_line_of_it(tmp_path, raw, key, word):
    workers = {"kind": "slurm", "jobs": 1, key: word}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({**raw, "execution": {"workers": workers}}))
    with pytest.raises(UserError, match=rf"execution\.workers\.{key} = "):
        load(path)


def test_usual_words_of_a_job_script_are_accepted(tmp_path, raw):
    words = {"memory": "4.5GB", "walltime": "1-00:00:00", "queue": "debug,long", "account": "a_b.c"}
    workers = {"kind": "slurm", "jobs": 1, **words}
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({**raw, "execution": {"workers": workers}}))
    assert load(path).execution.workers.queue == "debug,long"


STAGES = [
    ["check"],
    ["code"],
    ["verify"],
    ["simulate"],
    ["train", "compact"],
    ["assess"],
    ["attack", "paper"],
    ["audit"],
    ["compare"],
    ["search"],
    ["report"],
    ["tune"],
]


@pytest.mark.parametrize("arguments", STAGES, ids=lambda words: words[0])
def test_every_stage_refuses_a_bad_name_before_it_writes(tmp_path, monkeypatch, raw, arguments):
    monkeypatch.chdir(tmp_path)
    text = yaml.safe_dump(changed(raw, group, "$(touch EVIL)"), sort_keys=False)
    (tmp_path / "params.yaml").write_text(text)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: params.yaml at scale pilot: ")
    assert "$(touch EVIL)" in line and RULE in line
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


WORDS = [name for name in BAD[:40:3] if name and "\x00" not in name]


@pytest.mark.parametrize("name", WORDS, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "--scale=pilot", "--"],
        ["attack", "--"],
        ["simulate", "--scale"],
        ["train", "--posterior"],
        ["attack", "--group"],
    ],
    ids=" ".join,
)
def test_words_of_the_command_line_are_names_before_they_are_paths(
    tmp_path, monkeypatch, command, name
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    done = CliRunner().invoke(main, [*command, name])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert "must be " in line and line.isprintable() and len(line) < 2000
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
