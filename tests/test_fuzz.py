"""The fuzzer itself: it notices what must not happen, and draws the same for the same seed."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from spurious.errors import UserError

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

from fuzzing import broken_params  # noqa: E402
from fuzzing.guarded import OUTSIDE, SECRET, SECRET_H5, Worker, watched, written  # noqa: E402
from fuzzing.outcomes import ACCEPTED, FAILED, LONGEST, REFUSED, Case, Table, judged  # noqa: E402

TEXT = (ROOT / "params.yaml").read_text()
COUNTS = {kind: 3 for kind in broken_params.MAKERS}


def case(**changes):
    settings = {"reader": "params", "files": {"x.json": b"[]"}, "named": ("x.json",)}
    return Case("planted", 0, **{**settings, **changes})


class Raw(UserError):
    """An error that keeps what would break a line or steer a terminal."""

    def __init__(self, message):
        Exception.__init__(self, message)


def saying(message):
    def reader(case):
        raise Raw(message)

    return reader


def breaking(case):
    raise KeyError("kl")


@pytest.mark.parametrize(
    ("reader", "must_refuse", "verdict"),
    [
        (saying("x.json is damaged"), True, REFUSED),
        (lambda case: "", False, ACCEPTED),
        (lambda case: "", True, FAILED),  # it swallows errors
        (lambda case: "the value is NaN", False, FAILED),
        (breaking, True, FAILED),
        (saying("x.json is damaged:\nline 2"), True, FAILED),
        (saying("x.json is \x1b[1mdamaged"), True, FAILED),
        (saying("something is damaged"), True, FAILED),
        (saying("ax.json is damaged"), True, FAILED),
        (saying("x.json " + "x" * LONGEST), True, FAILED),
    ],
)
def test_a_planted_reader_gets_its_verdict(reader, must_refuse, verdict):
    one = case(must_refuse=must_refuse)
    result = judged(one, watched(reader, one))
    assert result.verdict == verdict
    table = Table()
    table.add(result)
    assert table.rows == {"planted": Counter({verdict: 1})}
    assert bool(table.failures) == (verdict == FAILED)
    assert str(table).splitlines()[-1].split()[:2] == ["all", "1"]


def test_the_same_seed_breaks_the_file_in_the_same_ways():
    one, same, other = (list(broken_params.cases(seed, TEXT, COUNTS)) for seed in (3, 3, 4))
    assert one == same
    assert len(one) == 3 * len(COUNTS)
    assert [case.files for case in one] != [case.files for case in other]


def test_there_are_enough_broken_files():
    assert set(broken_params.COUNTS) == set(broken_params.MAKERS)
    assert sum(broken_params.COUNTS.values()) >= 2000


def test_a_cases_files_are_put_back(tmp_path):
    (tmp_path / "old").write_text("old")
    with written(tmp_path, {"old": b"new", "folder/new": b"new"}):
        assert (tmp_path / "old").read_text() == (tmp_path / "folder/new").read_text() == "new"
    assert (tmp_path / "old").read_text() == "old"
    assert not (tmp_path / "folder/new").exists()


@pytest.fixture
def folder(tmp_path):
    for name in (SECRET, SECRET_H5):
        (tmp_path / name).write_text("secret")
    for name in (OUTSIDE, "project"):
        (tmp_path / name).mkdir()
    return tmp_path / "project"


# A class of one's own is trusted, and imported: so params.yaml can plant what it does.
PLANTED = {
    "to write": "open('EVIL', 'w').close()",
    "subprocess.Popen": "import subprocess; subprocess.run(['true'])",
    "read the secret": f"open('../{SECRET}').read()",
    "more than 1 s": "while True: pass",
}


def test_what_reading_does_beside_reading_is_noticed(folder):
    sound = Case("sound", 0, "params", {"params.yaml": TEXT.encode()}, (), must_refuse=False)
    with Worker(folder, seconds=1, megabytes=300, first=sound) as worker:
        for number, (deed, code) in enumerate(PLANTED.items()):
            (folder / f"planted_{number}.py").write_text(code)
            text = TEXT.replace("kind: stripes", f"kind: planted_{number}.Class").encode()
            one = case(files={"params.yaml": text}, named=("attacks",))
            result = judged(one, worker.read(one))
            assert result.verdict == FAILED
            assert deed in result.why
        assert judged(sound, worker.read(sound)).verdict == ACCEPTED  # in a new process
