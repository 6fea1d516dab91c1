"""Perturbations that are not of this package: their class is the `kind` of an entry."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from spurious import config
from spurious.cli import main
from spurious.config import Perturbation
from spurious.data.hdf5 import write_maps
from spurious.data.maps import MapSet, Standardiser
from spurious.densities.divergences import kl
from spurious.errors import UserError
from spurious.networks.compact import Compact
from spurious.networks.head_layer import HEAD, HeadLayer
from spurious.params import one_line
from spurious.perturbations.build import build, parameters
from spurious.posteriors.trained import NetworkPosterior
from spurious.search import study
from spurious.search.families import build_families

ENTRY = TypeAdapter(Perturbation)
PAGE = (Path(__file__).parents[2] / "docs" / "adding.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ATTACK, SEARCH, *_ = (
    yaml.safe_load(block)
    for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
VIGNETTING = ATTACK["attacks"]["plausible"]["vignetting"]
BIM = {"kind": "bim", "alpha": {"value": 1.0, "unit": "count"}}
OTHERS = '''
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import tensorflow as tf
from spurious import Effect, Within
from spurious.config import Budget


@dataclass(frozen=True)
class Attack:
    """No effect: follows a posterior."""

    posterior: Any
    seed: int
    epsilon: Annotated[float, Budget]
    names: tuple[str, ...] = ("a",)
    strength: Annotated[float, Budget] = 2.5

    def __call__(self, maps, truth=None):
        return tf.convert_to_tensor(maps) + self.epsilon * self.seed + self.strength


@dataclass(frozen=True)
class Fussy(Effect):
    """Refuses 3 when it is made."""

    level: Annotated[float, Within(0, 5)]
    AMPLITUDE: ClassVar[str] = "level"
    LIMITS: ClassVar[tuple[float, float]] = (0.0, 2.0)

    def change(self, maps):
        return self.level + 0 * maps


@dataclass(frozen=True)
class NoAmplitude(Effect):
    level: float

    def change(self, maps):
        return maps


@dataclass(frozen=True)
class Abstract(Effect):
    amplitude: float


@dataclass(frozen=True)
class Unchecked:
    values: tf.Tensor

    def __call__(self, maps, truth=None):
        return maps


@dataclass
class NotCalled:
    amplitude: float


def function(maps):
    return maps
'''


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with modules of a user."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_effects.py").write_text(BLOCKS[0])
    (tmp_path / "my_others.py").write_text(OTHERS)
    (tmp_path / "my_mistake.py").write_text("import my_absent_module\n")
    yield tmp_path
    for name in ("my_effects", "my_others", "my_mistake"):
        sys.modules.pop(name, None)
    sys.path[:] = [place for place in sys.path if place != str(tmp_path)]


@pytest.fixture(scope="module")
def data(make_maps):
    n = 3
    return MapSet(
        make_maps(n, 16), np.tile([0.3, 0.8], (n, 1)), np.zeros(n, np.uint64), np.arange(n),
        np.full(n, 2, np.int8), 64.0,
    )  # fmt: skip


def test_the_page_leads_to_a_perturbation(data, linear_posterior):
    settings = ENTRY.validate_python(VIGNETTING)
    found = build(settings, linear_posterior, data, 5)
    assert type(found) is settings.CLASS
    assert parameters(found) == {"amplitude": 0.1, "width": 10.0, "box_size": 64.0}
    share = found(np.ones((1, 16, 16), np.float32)).numpy()[0]
    np.testing.assert_allclose(share[8, 8], 1 - 0.1 * np.exp(-(3.0**2)), rtol=1e-5)
    np.testing.assert_allclose(share[0, 5], 1 - 0.1 * np.exp(-(0.2**2)), rtol=1e-5)
    exec(BLOCKS[1], {})  # the promises
    assert ENTRY.validate_python(settings.model_dump()) == settings


def test_its_last_example_runs(data, capsys):
    head = HeadLayer({"omega_m": (0.05, 0.55), "sigma_8": (0.5, 1.0)}, name=HEAD)
    network = Compact().model(data.maps.shape[-1], head, Standardiser(64.0, 39.0), seed=1)
    NetworkPosterior(network).save(Path("models/pilot/compact/1.keras"))
    write_maps(Path("data/pilot/maps.h5"), data)
    exec(BLOCKS[2], {})
    assert "kl_perturbed_clean" in capsys.readouterr().out


def test_its_fields_are_listed(capsys):
    assert main(["list", "my_effects.Vignetting"], standalone_mode=False) is None
    shown = capsys.readouterr().out
    assert "perturbation my_effects.Vignetting: Light lost towards the edge of the field" in shown
    assert re.search(r"width +between 0 and 50 +Mpc/h +how far in it reaches", shown)
    assert re.search(r"amplitude +0.001 to 0.5 +logarithm", shown)


def family(**changes):
    given = SEARCH["search"]["families"]["vignetting"] | changes
    return config.Search.model_validate(
        {"starts": 4, "refine_steps": 6, "fences": {"rms": 3.0}, "families": {"one": given}}
    )


def test_it_is_searched_as_ours_are(data, breathing_posterior, tmp_path):
    """A real search: the optimum is known, because the mean change grows with the amplitude."""
    wanted = family()
    (found,) = build_families(wanted, box_size=64.0).values()
    (amplitude,) = found.coordinates
    assert amplitude[:5] == ("amplitude", 0.01, 0.3, "log", "")
    assert found.fixed == {"width": 20.0, "box_size": 64.0}
    objective = study.build_objective(wanted, found, data.maps, breathing_posterior, 64.0)
    result = study.run(wanted, objective, tmp_path / "s.db", 7, progress=False)
    best = result.best
    assert best is not None and list(best.parameters) == ["amplitude"]
    assert 0.99 < best.fences["rms"] / 3.0 <= 1
    changed = found.effect(found.point(best.parameters))(data.maps).numpy()
    assert np.sqrt(np.mean((changed.astype(np.float64) - data.maps) ** 2)) <= 3.0
    weaker = found.effect(found.point({"amplitude": 0.9 * best.parameters["amplitude"]}))
    kls = [
        float(np.mean(kl(breathing_posterior(x), breathing_posterior(data.maps))))
        for x in (changed, weaker(data.maps))
    ]
    assert best.kl == pytest.approx(kls[0], rel=1e-3) and kls[0] > kls[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"amplitude": {"low": 0.1, "high": 0.7}}, "must be between 0 and 0.5, not 0.7"),
        ({"amplitude": 0.2}, "no parameter is free"),
        ({"width": {"low": 1.0, "high": 2.0}}, "one.width"),
        ({"width": 70.0}, "must be between 0 and 50, not 70"),
        ({"box_size": 3.0}, "unknown key, must be one of kind, amplitude, width"),
        ({"kind": "my_effects.Beam"}, "module my_effects has no Beam"),
        ({"kind": "my_others.Fussy"}, "Fussy is no family: it must be an Effect with a field that"),
        ({"kind": "my_others.Attack"}, "Attack is no family"),
    ],
)
def test_a_family_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        family(**changes)


def test_its_amplitude_can_be_matched_and_it_can_be_shuffled(data, linear_posterior):
    entry = VIGNETTING | {"amplitude": {"match": BIM}}
    found = build(ENTRY.validate_python(entry), linear_posterior, data, 5)
    bim = build(ENTRY.validate_python(BIM), linear_posterior, data, 5)
    sizes = [
        np.mean((np.asarray(p(data.maps, data.labels), np.float64) - data.maps) ** 2)
        for p in (found, bim)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-4)
    shuffled = ENTRY.validate_python({"kind": "shuffled_pixels", "of": VIGNETTING})
    assert type(build(shuffled, linear_posterior, data, 5).of) is shuffled.of.CLASS
    assert ENTRY.validate_python(shuffled.model_dump()) == shuffled


def test_an_attack_gets_its_posterior_seed_and_counts(data, linear_posterior):
    entry = {"kind": "my_others.Attack", "epsilon": {"value": 0.1, "unit": "std"}}
    found = build(ENTRY.validate_python(entry), linear_posterior, data, 5)
    assert (found.posterior, found.seed, found.epsilon) == (linear_posterior, 5, 3.0)
    assert (found.names, found.strength) == (("a",), 2.5)  # the class's own defaults
    other = object.__new__(type(linear_posterior))
    object.__setattr__(other, "names", linear_posterior.names)
    on = build(ENTRY.validate_python(entry | {"on": "b"}), linear_posterior, data, 5,
               others={"b": other}.get)  # fmt: skip
    assert on.posterior is other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amplitude": 0.7}, "x.amplitude = 0.7: must be between 0 and 0.5, not 0.7"),
        ({"width": 10.0}, "x.width = 10.0: .*Length"),
        ({"width": {"value": 60, "unit": "Mpc/h"}}, "must be between 0 and 50, not 60"),
        ({"amplitude": None}, "x.amplitude"),
        ({"angle": 3}, "x.angle = 3: unknown key, must be one of kind, amplitude, width"),
        ({"box_size": 3.0}, "x.box_size = 3.0: unknown key"),
        ({"on": "b"}, "x.on = 'b': unknown key"),
        ({"kind": "my_effects.Beam"}, "x.kind = 'my_effects.Beam': module my_effects has no Beam"),
        ({"kind": "my_effect.Beam"}, "there is no module my_effect, neither installed nor in /"),
        ({"kind": "my.effects.Beam"}, "there is no module my.effects, neither"),
        ({"kind": ".Beam"}, "must be the name of a module, a dot"),
        ({"kind": "my_mistake.A"}, "cannot be imported: ModuleNotFoundError: .*my_absent_module"),
        ({"kind": "my_others.function"}, "function must be a dataclass whose objects are called"),
        ({"kind": "my_others.NotCalled"}, "NotCalled must be a dataclass whose objects are called"),
        ({"kind": "my_others.Abstract"}, "Abstract must define change"),
        ({"kind": "my_others.NoAmplitude"}, "NoAmplitude has no field amplitude: its AMPLITUDE"),
        ({"kind": "my_others.Unchecked"}, "Unchecked has a field that cannot be checked"),
    ],
)
def test_what_is_wrong_is_one_line(change, message):
    given = {"x": VIGNETTING | change}
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(dict[str, Perturbation]).validate_python(given)
    text = one_line(raised.value, given)
    assert re.search(message, text)
    assert "\n" not in text


def test_a_missing_field_is_named():
    given = {"x": {"kind": "my_effects.Vignetting", "amplitude": 0.1}}
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(dict[str, Perturbation]).validate_python(given)
    assert one_line(raised.value, given) == "x.width: missing"


def test_what_only_the_class_refuses_is_one_line(data, linear_posterior):
    settings = ENTRY.validate_python({"kind": "my_others.Fussy", "level": 3.0})
    with pytest.raises(UserError, match=r"kind my_others.Fussy: level = 3.0 must be between 0 and"):
        build(settings, linear_posterior, data, 5)
