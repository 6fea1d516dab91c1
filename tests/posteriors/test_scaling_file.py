"""The scaling file is read as carefully as params.yaml: tests/test_own_model.py has the values."""

import pytest

from spurious.errors import UserError
from spurious.posteriors.scaling_file import read_scaling


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maps: " + "[" * 10_000 + "]" * 10_000, "is nested too deeply"),
        ("maps: &m [*m]", "maps.0: refers to maps, which holds it"),
        ("maps: {mean: 1, std: 2, mean: 3}", "maps.mean: stands twice"),
        ("maps: 0x", "maps = '0x': "),
        ("maps: !!timestamp 2021-99-99", "is not valid YAML"),
        ("maps: !!python/object/apply:os.system [ls]", "is not valid YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_one_line(tmp_path, text, message):
    file = tmp_path / "scaling.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_scaling(file)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
