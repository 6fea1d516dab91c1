"""One map along the budget: pictures of the right map, and what happened to the posterior."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.image import imread

from spurious.audit.attacks import Attacks, Limit
from spurious.damage import posterior_change
from spurious.report.flip import flipped, labelled

BUDGETS = {"0.1 std": 0.5, "0.4 std": 2.0}


@pytest.fixture(scope="module")
def map_(make_maps):
    return make_maps(1, 16, seed=5)[0]


@pytest.fixture(scope="module")
def found(map_, breathing_posterior):
    return flipped(map_, BUDGETS, breathing_posterior, steps=4, seed=1)


def picture(encoded):
    return imread(io.BytesIO(base64.b64decode(encoded)), format="png")[..., :3]


def test_a_picture_has_a_pixel_for_each_of_the_map_x_to_the_right_and_y_up(map_, found):
    shown = picture(found["clean"])
    assert shown.shape == (16, 16, 3)
    row, column = np.unravel_index(np.argmax(shown[..., 0] + shown[..., 1]), (16, 16))
    assert (column, 15 - row) == np.unravel_index(np.argmax(map_), (16, 16))


def test_frames_follow_the_budget_and_say_what_happened(map_, found, breathing_posterior):
    assert [one["label"] for one in found["frames"]] == list(BUDGETS)
    attacks = Attacks(breathing_posterior, steps=4, seed=1)
    for frame, budget in zip(found["frames"], BUDGETS.values(), strict=True):
        perturbed = np.asarray(attacks.strongest(map_[None], Limit(budget)))
        change = posterior_change(map_[None], perturbed, breathing_posterior)
        kl = float(re.search(r"clean\) (\S+) nat", frame["text"])[1])
        assert kl == pytest.approx(change.kl_perturbed_clean[0], rel=0.01)
        assert frame["text"].startswith(f"No pixel changes by more than {budget:g} counts")
        mean = breathing_posterior(perturbed).mean().numpy()[0, 0]
        assert f"→ {mean:.3f} ±" in frame["text"]
    assert found["frames"][0]["perturbed"] != found["frames"][1]["perturbed"] != found["clean"]


def test_budgets_are_labelled_with_their_unit():
    assert labelled((0.001, 0.3), "std") == ["0.001 std", "0.3 std"]
