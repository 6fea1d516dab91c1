"""Do two tables of damage agree?"""

from pathlib import Path

import pytest

from spurious.errors import UserError
from spurious.report.agreement import agreement, read_table

ONE = {
    "bim": {"kl_perturbed_clean": 3.0, "rms_counts": 1.0, "n_maps": 9.0},
    "noise": {"kl_perturbed_clean": 0.1, "rms_counts": 2.0},
    "only here": {"kl_perturbed_clean": 1.0},
}
OTHER = {
    "bim": {
        "kl_perturbed_clean": 4.0,
        "kl_perturbed_clean.low": 3.0,
        "kl_perturbed_clean.high": 5.0,
        "rms_counts": 1.2,
        "rms_counts.low": 1.1,
        "rms_counts.high": 1.3,
    },
    "noise": {
        "kl_perturbed_clean": 0.2,
        "kl_perturbed_clean.low": 0.15,
        "kl_perturbed_clean.high": 0.25,
    },
}


def test_numbers_of_one_are_counted_in_the_intervals_of_the_other():
    """An end counts as inside; what either lacks is left out; it is not symmetric."""
    found = agreement(ONE, OTHER)
    assert found.compared == {"kl_perturbed_clean": 2, "rms_counts": 1}
    assert [(one.row, one.column) for one in found.outside] == [
        ("bim", "rms_counts"),
        ("noise", "kl_perturbed_clean"),
    ]
    assert found.inside("kl_perturbed_clean") == 1
    lines = found.lines(Path("other.csv"))
    assert lines[0] == "1 of 3 numbers lie in the intervals of other.csv:"
    assert lines[-1] == "outside: kl_perturbed_clean of noise is 0.1, there [0.15, 0.25]"


def test_tables_without_a_common_row_are_refused():
    with pytest.raises(UserError, match="no row in common"):
        agreement({"a": {"kl_perturbed_clean": 1.0}}, OTHER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is missing: name an attacks.csv"),
        ("x,y\n1,2\n", "is no table of damage"),
        ("perturbation,kl_perturbed_clean\nbim,much\n", "is no table of damage"),
        ("perturbation,kl_perturbed_clean\nbim,1\n", "has no column kl_perturbed_clean.low"),
        ("", "has no column kl_perturbed_clean.low"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    path = tmp_path / "attacks.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no column kl_perturbed_clean.low"),
        ("", "has no column kl_perturbed_clean.low"),
        ("perturbation,kl_perturbed_clean.low\nbim,x\n", "kl_perturbed_clean.low = 'x' must be"),
        ("perturbation,kl_perturbed_clean.low\nbim,nan\n", "kl_perturbed_clean.low = 'nan' must"),
        ("perturbation,kl_perturbed_clean.low\nbim,1,2\n", "a row that is too long must be"),
        ("perturbation\nbim\n", "has no column kl_perturbed_clean.low"),
    ],
)
def test_a_table_that_is_none_is_named_with_its_column(tmp_path, text, message):
    path = tmp_path / "attacks.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_table(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_table(tmp_path)
