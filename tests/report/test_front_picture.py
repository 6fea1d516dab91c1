"""The fronts of a search and the attacks beside them: what respects what, and where it stands."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter

from spurious.config import Perturbation
from spurious.data.hdf5 import write_maps
from spurious.report.front_picture import draw_fronts, strongest


def test_attacks_say_what_they_respect_and_stand_at_their_own_heights(data, config, tmp_path):
    entry = {"kind": "auto_pgd", "epsilon": {"value": 0.1, "unit": "std"}}
    entries = {
        "strongest_linf": entry | {"objective": "kl_perturbed_clean"},
        "strongest_phase_only": entry | {"constraints": [{"kind": "phase_only"}]},
        "strongest_missing": entry,
    }
    group = {name: TypeAdapter(Perturbation).validate_python(e) for name, e in entries.items()}
    some = data.take(np.arange(40)[::-1])
    attacked = {}
    for name, gain in (("strongest_linf", 0.1), ("strongest_phase_only", 0.2)):
        attacked[name] = tmp_path / f"{name}.h5"
        write_maps(attacked[name], replace(some, maps=some.maps * np.float32(1 + gain)))
    rows = {
        name: {"kl_perturbed_clean": {"mean": 2.0}, "rms_counts": {"mean": 3.14}}
        for name in entries
    }
    settings = config.model_copy(update={"attacks": {"strongest": group}})
    fences = ("power", "mean_shift")
    found = strongest(settings, data, attacked, rows, fences)
    assert list(found) == [
        "attack, any change of its linf norm, RMS 3.1 counts",
        "attack, phase only, RMS 3.1 counts",
    ]
    linf, phases = found.values()
    assert linf["fences"]["mean_shift"] == pytest.approx(0.1, rel=1e-3)
    assert phases["fences"]["mean_shift"] == pytest.approx(0.2, rel=1e-3)
    assert set(linf["fences"]) == set(fences) and linf["fences"]["power"] < 1e-5
    assert (linf["name"], linf["kl"]) == ("strongest_linf", 2.0)
    assert strongest(settings, data, {}, rows, fences) == {}
    other = config.model_copy(update={"attacks": {}})
    assert strongest(other, data, attacked, rows, fences) == {}


def test_a_fence_has_its_curves_the_papers_point_and_the_attacks_that_have_a_height():
    curve = {"heights": [0.01, 0.05], "kl": [0.1, 0.2]}
    found = {
        "front": {"power": {"ramp": curve}, "pdf": {"ramp": curve}},
        "limits": {"power": 0.05},
        "fences_paper": {"power": 0.06, "pdf": 3.0},
        "kl_paper": 0.3,
    }
    beside = {"attack, phase only": {"kl": 0.5, "fences": {"power": 0.02}}}
    (figure,) = draw_fronts(found, beside).values()
    power, pdf = figure.axes

    def places(axes, marker):
        lines = [line for line in axes.get_lines() if line.get_marker() == marker]
        return [tuple(map(float, line.get_xydata()[0])) for line in lines]

    assert places(power, "*") == [(6.0, 0.3)]  # in per cent
    assert places(pdf, "*") == [(3.0, 0.3)]
    assert places(power, "o") == [(1.0, 0.1)]
    labels = [{line.get_label() for line in axes.get_lines()} for axes in (power, pdf)]
    assert "attack, phase only" in labels[0] and "attack, phase only" not in labels[1]
    assert draw_fronts(found | {"front": {}}, beside) == {}
