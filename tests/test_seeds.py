"""No two draws share a seed: each purpose belongs to one place of the code."""

import ast
from collections import defaultdict
from pathlib import Path

import numpy as np

from spurious import seeds

SOURCE = Path(seeds.__file__).parent
DRAWS = ("sequence", "generator", "integer", "stateless")


def purposes():
    """(Kind of draw, purpose) -> lines that draw for it, from the code itself.

    NumPy and TensorFlow make other numbers of the same seed.
    """
    found = defaultdict(set)
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value
            if not (isinstance(owner, ast.Name) and owner.id == "seeds"):
                continue
            if node.func.attr in DRAWS and isinstance(node.args[1], ast.Constant):
                found[node.func.attr, node.args[1].value].add(
                    f"{path.relative_to(SOURCE)}:{node.lineno}"
                )
    return found


def test_each_purpose_is_drawn_for_in_one_place():
    found = purposes()
    assert len(found) > 15
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_draws_of_another_purpose_index_or_root_are_others():
    draws = [
        seeds.generator(*key).integers(2**62)
        for key in ((1, "a"), (1, "b"), (2, "a"), (1, "a", 0), (1, "a", 1), (1, "a", 0, 1))
    ]
    assert len(set(draws)) == len(draws)
    assert seeds.generator(1, "a").integers(2**62) == draws[0]
    pairs = {seeds.stateless(1, "a", i) for i in range(100)}
    assert len(pairs) == 100 and all(0 <= one < 2**31 for pair in pairs for one in pair)
    assert all(0 <= seeds.integer(1, "a", i) < 2**63 for i in range(100))
    assert len(np.unique([seeds.integer(1, "a", i) for i in range(100)])) == 100
