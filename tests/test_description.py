"""What classes say of their fields, and the tables and sections that follow from it."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import ValidationError

sys.path.append(str(Path(__file__).parents[1] / "scripts"))
import headline
import reference
from spurious.cli import main
from spurious.description import tables
from spurious.description.fields import described, filled
from spurious.description.lookup import class_of
from spurious.description.marks import Doc, Inside, Unless, Within
from spurious.description.quantities import Budget, Length
from spurious.description.schema import section_of
from spurious.kinds import GROUPS
from spurious.params import load

KINDS = [(group, kind) for group, kinds in GROUPS.items() for kind in kinds]


@dataclass(frozen=True)
class Example:
    """What every mark does."""

    FILLED: ClassVar[tuple[str, ...]] = ("other",)

    share: Annotated[Any, Within(0, 1), Doc("a share")]
    size: Annotated[float | None, Budget, Unless(None), Doc("how much")]
    place: Annotated[float, Length, Within(2, 5)] = 3.0
    open: Annotated[float | None, Inside(0)] = None
    side: Literal["left", "right"] = "left"
    posterior: Any = None
    other: "NothingThatIsImported" = None  # noqa: F821
    count: Annotated[int, Within(0, 9)] = 0

    @staticmethod
    def consistent(given):
        if given["share"] == 1 and given["size"] == 2:
            raise ValueError("share = 1 must not be with size = 2")


SECTION = section_of(Example, "example")


def test_fields_that_are_filled_in_are_not_those_of_an_entry():
    assert filled(Example) == ["posterior", "other"]
    names = ["share", "size", "place", "open", "side", "count"]
    assert [one.name for one in described(Example)] == names
    assert list(SECTION.model_fields) == ["kind", *names]
    assert SECTION.CLASS is Example


def test_a_section_has_the_defaults_of_its_class():
    entry = SECTION.model_validate({"kind": "example", "share": 0.5})
    assert (entry.size, entry.place, entry.side) == (None, None, "left")  # the class knows 3.0
    with pytest.raises(ValidationError, match=r"share\n  Field required"):
        SECTION.model_validate({"kind": "example"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 1.5}, "must be between 0 and 1, not 1.5"),
        ({"place": {"value": 7, "unit": "Mpc/h"}}, "must be between 2 and 5, not 7"),
        ({"place": 3.0}, "Length"),
        ({"open": 0}, "must be above 0, not 0"),
        ({"count": 10**400}, r"must be between 0 and 9, not 10{59}\.\.\."),
        ({"side": "up"}, "'left' or 'right'"),
        (
            {"posterior": 1},
            "unknown key, must be one of kind, share, size, place, open",
        ),
        ({"kind": "other"}, "'example'"),
        ({"share": 1, "size": {"value": 2, "unit": "count"}}, "share = 1 must not be with size"),
    ],
)
def test_a_section_refuses_what_its_class_does_not_allow(given, message):
    with pytest.raises(ValidationError, match=message):
        SECTION.model_validate({"kind": "example", "share": 0.5} | given)


def test_rows_say_all_that_the_marks_say():
    assert [tuple(row) for row in tables.rows(Example)] == [
        ("share", "between 0 and 1", "", "", "a share"),
        ("size", "at least 0", "std or count", "none", "how much"),
        ("place", "between 2 and 5", "Mpc/h", "3", ""),
        ("open", "above 0", "", "none", ""),
        ("side", "left or right", "", "left", ""),
        ("count", "between 0 and 9", "", "0", ""),
    ]


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_every_kind_says_what_it_is_and_what_its_fields_are(group, kind):
    one = class_of(group, kind)
    assert section_of(one, kind).CLASS is one
    assert re.fullmatch(r".{10,}\.", tables.summary(one))
    for row in tables.rows(one):
        assert row.meaning, f"{kind}.{row.name}"


def made_anew(page):
    """Whether a page has the results of the repository, and others were made here since."""
    git = ["git", "-C", reference.ROOT, "status", "--porcelain", "results"]
    changed = subprocess.run(git, capture_output=True, text=True, check=False).stdout
    return "reference: headline" in page and bool(changed)


@pytest.mark.parametrize("page", reference.PAGES, ids=lambda page: page.name)
def test_the_pages_have_the_tables_that_the_classes_make(page):
    text = page.read_text()
    if made_anew(text):
        pytest.skip("results were made anew: python scripts/reference.py puts them into the page")
    assert reference.filled(text) == text, "run python scripts/reference.py"


def test_every_kind_is_in_a_table():
    pages = "".join(page.read_text() for page in reference.DOCS.glob("*.md"))
    places = list(reference.PLACE.finditer(pages))
    made = {group: "".join(p[3] for p in places if (p[2] == group)) for group in GROUPS}
    made["perturbation"] = "".join(p[3] for p in places if p[2] not in GROUPS)
    assert [one for one in KINDS if f"| `{one[1]}` |" not in made[one[0]]] == []


def test_a_planted_difference_is_noticed():
    text = (reference.DOCS / "systematics.md").read_text()
    assert reference.filled(text.replace("between 0.5 and 20", "between 0.5 and 21")) == text


def test_the_headline_has_every_scale_whose_results_are_complete(tmp_path):
    """Of a second scale a column more; one that lacks a file has none."""
    folder = tmp_path
    for name in headline.FILES:
        (folder / "pilot" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(reference.ROOT / "results" / "pilot" / name, folder / "pilot" / name)
    assert headline.rows(folder)[0] == ["number", "paper", "here, pilot"]
    shutil.copytree(folder / "pilot", folder / "paper")
    path = folder / "paper" / "attacks" / "paper.json"
    found = json.loads(path.read_text())
    found["bim"]["kl_perturbed_clean"] = {"mean": 1.25, "low": 1.0, "high": 1.5}
    path.write_text(json.dumps(found))
    head, body = headline.rows(folder)
    assert head[-1] == "here, paper"
    assert body[0][1:] == ["1.05 nat", body[0][2], "1.25 [1, 1.5] nat"]
    assert [line[2] == line[3] for line in body] == [False, *[True] * (len(body) - 1)]
    path.unlink()
    assert headline.scales(folder) == ["pilot"]


def test_the_kinds_are_listed(capsys):
    main(["list"], standalone_mode=False)
    shown = capsys.readouterr().out
    for group, kind in KINDS:
        assert re.search(rf"^  {kind} +{re.escape(tables.summary(class_of(group, kind)))}$", shown,
                         re.MULTILINE)  # fmt: skip
    main(["list", "kl"], standalone_mode=False)
    assert re.findall(r"^(objective|goal) kl: ", capsys.readouterr().out, re.MULTILINE) == [
        "objective",
        "goal",
    ]
    main(["list", "saturation"], standalone_mode=False)
    shown = capsys.readouterr().out
    assert re.search(r"threshold +between 1 and 100000 +count", shown)
    assert re.search(r"threshold +10 to 2000 +count +logarithm", shown)


def test_an_unknown_kind_is_one_line(capsys):
    with pytest.raises(SystemExit):
        main(["list", "bom"], standalone_mode=False)
    error = capsys.readouterr().err
    assert "kind = bom: must be one of random_sign, fgsm" in error and error.count("\n") == 1


def test_a_configuration_goes_to_another_process_whole():
    root = Path(__file__).parents[1]
    config = load(root / "params.yaml")
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert again.model_dump_json() == config.model_dump_json()


def test_reading_params_yaml_does_not_wait_for_tensorflow():
    program = """
import sys
from pathlib import Path
from spurious.params import load
from spurious import listing
load(Path("params.yaml"))
listing.kinds(), listing.kind("logistic")
slow = {"tensorflow", "keras", "tensorflow_probability", "camb", "mlflow", "optuna"}
print(sorted(slow & {*sys.modules}))
"""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=True
    )
    assert done.stdout.strip() == "[]"
