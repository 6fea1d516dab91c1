"""The sample of planted bugs, and the table of what became of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import mutants

LINES = [
    "    spurious.damage.x_kl__mutmut_1: killed",
    "    spurious.damage.x_kl__mutmut_2: survived",
    "    spurious.damage.xǁRowǁof__mutmut_1: no tests",
    "spurious.pipeline.inputs.x_box__mutmut_1: not checked",
    "some other line",
]


def test_results_are_read_by_module_and_pattern():
    found = mutants.found(LINES)
    assert {name: len(one) for name, one in found.items()} == {
        "spurious.damage": 3,
        "spurious.pipeline.inputs": 1,
    }
    assert list(mutants.found(LINES, ["spurious.pipeline.*"])) == ["spurious.pipeline.inputs"]


def test_a_run_goes_on_with_what_has_no_result_and_counts_what_was_chosen():
    found = mutants.found([*LINES, "    spurious.damage.x_kl__mutmut_3: not checked"])
    chosen = [f"spurious.damage.x_kl__mutmut_{number}" for number in (3, 2)]
    assert mutants.unchecked(found, chosen) == chosen[:1]
    assert mutants.picked(found, chosen) == {
        "spurious.damage": {chosen[1]: "survived", chosen[0]: "not checked"}
    }


def test_a_sample_has_a_share_of_every_module_and_follows_from_the_seed():
    modules = {"a": [f"a.{i}" for i in range(50)], "b": ["b.1"]}
    first = mutants.sample(modules, 0.1, seed=1)
    assert len([name for name in first if name.startswith("a.")]) == 5 == len(set(first[:5]))
    assert "b.1" in first
    assert first == mutants.sample(modules, 0.1, seed=1)
    assert first != mutants.sample(modules, 0.1, seed=2)


def test_the_share_that_survives_is_of_those_that_were_tested():
    lines = mutants.table(mutants.found(LINES)).splitlines()
    assert lines[1].split()[:6] == ["spurious.damage", "1", "1", "0", "1", "0"]
    assert "50.0% [9.5%, 90.5%]" in lines[1]  # Wilson's interval of 1 in 2
    assert lines[2].endswith(" -")
