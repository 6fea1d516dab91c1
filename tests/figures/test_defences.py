"""Many defences in one figure: every one has a colour, every damage is where its numbers say."""

import copy

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from spurious import figures


def interval(mean):
    return {"mean": mean, "low": 0.9 * mean, "high": 1.1 * mean}


def row(number):
    """A posterior that keeps less and is hurt less, the larger its number is."""
    kl = 1 / number
    return {
        "unproven": ["saturates"] if number == 3 else [],
        "information": interval(1 / number),
        "damage": interval(kl),
        "bounded": {"damage": interval(kl / 10)},
        "families": {
            "logistic": {"kl": interval(kl / 5), "seen": number == 2},
            "saturation": {"kl": None, "seen": False},
        },
        "curves": [
            {"norm": norm, "std": std, "damage": interval(kl * std)}
            for norm in ("linf", "l2")
            for std in (0.01, 0.1)
        ],
    }


def result(count):
    rows = {f"posterior_{number}": row(number) for number in range(1, count + 1)}
    return {
        "target": "posterior_1",
        "epsilon": {"value": 0.03, "unit": "std"},
        "fraction": 0.1,
        "defences": rows,
    }


def labels(figure):
    (legend,) = figure.legends
    return {
        text.get_text(): handle.get_color()
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


@pytest.mark.parametrize("count", [3, 12, 20])
@pytest.mark.parametrize("draw", ["damage_against_budget", "information_against_damage"])
def test_every_defence_has_a_colour_of_its_own(count, draw):
    found = labels(getattr(figures, draw)(result(count)))
    assert list(found)[:3] == [
        "posterior 1 (undefended)",
        "posterior 2",
        "posterior 3: unproven",
    ]
    assert len({to_rgb(colour) for colour in found.values()}) == count


def test_attacks_stand_left_and_systematics_right():
    attacks, systematics = figures.information_against_damage(result(3)).axes
    points = [line.get_xydata()[0] for line in attacks.lines if line.get_marker() == "o"]
    expected = [(kl, 1 / n) for n in (1, 2, 3) for kl in (1 / n, 0.1 / n)]
    np.testing.assert_allclose(points, expected)
    worst = [line for line in systematics.lines if line.get_marker() == "s"]
    np.testing.assert_allclose(
        [one.get_xydata()[0] for one in worst], [(0.2 / n, 1 / n) for n in (1, 2, 3)]
    )
    assert [one.get_markerfacecolor() == "white" for one in worst] == [True, False, True]


def test_a_damage_of_zero_is_drawn_at_the_edge():
    nothing = copy.deepcopy(result(2))
    nothing["defences"]["posterior_2"]["damage"] = interval(0.0)
    attacks, _ = figures.information_against_damage(nothing).axes
    x = [line.get_xydata()[0][0] for line in attacks.lines if line.get_marker() == "o"]
    assert min(x) == 1e-4
