"""The stage `attack` as a whole: whose maps, which network, which numbers in which file."""

import io
import json
import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from noted import note

from spurious import spectra
from spurious.bootstrap import Hierarchy
from spurious.damage import OF_TRAINING
from spurious.data.hdf5 import read_maps
from spurious.data.splits import evenly_spaced
from spurious.errors import UserError
from spurious.perturbations import build
from spurious.perturbations.initial_conditions import InitialConditions
from spurious.pipeline import inputs, perturbing
from spurious.pipeline.layout import Layout
from spurious.stages import attack

BIM = {"kind": "bim", "alpha": {"value": 0.02, "unit": "std"}, "steps": 2}
LOGISTIC = {"kind": "logistic", "a": {"value": 0.25, "unit": "1/count"}, "b": -15.0}
GROUPS = {
    "first": {
        "bim": BIM,
        "systematic": LOGISTIC | {"beta": {"value": 3.0, "unit": "count"}},
    },
    "second": {
        "matched": LOGISTIC | {"beta": {"match": BIM}},
        "signs": {"kind": "random_sign", "epsilon": {"value": 0.1, "unit": "std"}},
        "transferred": BIM | {"on": "resnet", "maps": 10},
        "universal": {
            "kind": "universal",
            "epsilon": {"value": 0.1, "unit": "std"},
            "steps": 2,
        },
    },
}
NAMES = [name for entries in GROUPS.values() for name in entries]
EACH = ("bim", "matched", "universal")  # made on each training


@pytest.fixture(scope="module")
def settings(stored):
    """Three trainings of the target, another network, and the ensemble of both."""
    config = stored[0].model_dump(exclude_unset=True)
    config["attacks"] = GROUPS
    config["run"] |= {"posteriors": ["compact", "resnet"], "defences": [], "attacks": [*GROUPS]}
    return type(stored[0]).model_validate(config)


@pytest.fixture(scope="module")
def networks(stored):
    found = stored[1]
    return [found["compact", number] for number in (1, 2, 3)], found["resnet", 1]


@pytest.fixture(scope="module")
def ran(settings, place):
    """The runs of the stage, one a group."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        runs = note(patch)
        printed = io.StringIO()
        patch.setattr(sys, "stdout", printed)
        for path in gone():  # an attack that the group does not have any more
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("old")
        attack.run(settings, [*GROUPS])
        runs.printed = printed.getvalue().splitlines()
    return runs


def gone():
    layout = Layout("pilot")
    return layout.row("first", "gone"), layout.attacked("first", "gone")


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def test(settings, data):
    return data.take(inputs.parts(settings, data, "random").test)


@pytest.fixture
def rows(ran, here):
    """Of each attack: its row, and its maps for each training that has its own."""
    layout = Layout("pilot")

    def found(name):
        group = group_of(name)
        row = json.loads(layout.row(group, name).read_text())
        numbers = (1, 2, 3) if name in EACH else (1,)
        return row, [read_maps(layout.attacked(group, name, number)) for number in numbers]

    return found


def group_of(name):
    return next(group for group, entries in GROUPS.items() if name in entries)


def clean(test, made):
    """The maps of the test set that belong to perturbed ones."""
    places = {key: row for row, key in enumerate(zip(test.index, test.axis, strict=True))}
    return test.take([places[key] for key in zip(made.index, made.axis, strict=True)])


def gaussian_kl(posterior, after, before):
    """KL(after || before) of each map in nats, of one Gaussian a map with independent errors."""
    p, q = posterior(after), posterior(before)
    mean = (p.mean().numpy() - q.mean().numpy()) / q.stddev().numpy()
    ratio = p.stddev().numpy() / q.stddev().numpy()
    return np.sum(0.5 * (ratio**2 + mean**2 - 1) - np.log(ratio), axis=1)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("bim", (1, 2)),
        ("systematic", (1,)),
        ("matched", (2,)),
        ("signs", (1,)),
        ("transferred", (1,)),
        ("universal", (2,)),
    ],
)
def test_an_attack_is_made_on_its_network_with_the_maps_of_its_training(
    rows, settings, networks, test, data, name, numbers
):
    """The maps of the files are those that the entry makes of the right ones."""
    (targets, other), made = networks, rows(name)[1]
    training = data.take(inputs.parts(settings, data, "random").train)
    base = test.take(evenly_spaced(len(test), 10)) if name == "transferred" else test
    share = base.take(evenly_spaced(len(base), round(0.2 * len(base))))
    for number in numbers:
        part, found = base if number == 1 else share, made[number - 1]
        np.testing.assert_array_equal(found.index, part.index)
        np.testing.assert_array_equal(found.axis, part.axis)
        perturbation = build.build(
            settings.entries[name],
            targets[number - 1],
            part,
            settings.seed,
            training,
            lambda _: other,
            {},
        )
        expected = build.apply(perturbation, part).maps
        assert np.abs(expected - part.maps).max() > 0.5
        np.testing.assert_allclose(found.maps, expected, atol=0.02)


def test_only_what_follows_the_target_has_maps_for_each_training(ran, here):
    for name in NAMES:
        paths = [Layout("pilot").attacked(group_of(name), name, number) for number in (1, 2, 3)]
        assert [path.is_file() for path in paths] == [True, name in EACH, name in EACH]


@pytest.mark.parametrize("name", ["bim", "systematic"])
def test_a_row_is_of_all_trainings_and_of_each(rows, settings, networks, test, name):
    row, files = rows(name)
    made = files if name in EACH else files * 3
    before = [clean(test, one) for one in made]
    pairs = list(zip(networks[0], made, before, strict=True))
    forth = [gaussian_kl(target, one.maps, old.maps) for target, one, old in pairs]
    back = [gaussian_kl(target, old.maps, one.maps) for target, one, old in pairs]
    resamples = Hierarchy([one.index for one in made], settings.seed)
    for key, values in (("kl_perturbed_clean", forth), ("kl_clean_perturbed", back)):
        assert row[key] == pytest.approx(resamples.mean_interval(values, positive=True), rel=1e-3)
    assert row["n_maps"] == len(test) and row["n_trainings"] == 3
    assert [one["n_maps"] for one in row["trainings"]] == [len(one) for one in made]
    for one, values, data in zip(row["trainings"], forth, made, strict=True):
        assert set(one) == {*OF_TRAINING, "parameters"}
        own = Hierarchy([data.index], settings.seed).mean_interval([values])
        assert one["kl_perturbed_clean"] == pytest.approx(own, rel=1e-3)
    parameters = {"bim": {"alpha": 0.6, "steps": 2}, "systematic": {"beta": 3.0, "b": -15.0}}
    for found in (row, *row["trainings"]):
        kept = {key: found["parameters"][key] for key in parameters[name]}
        assert kept == pytest.approx(parameters[name])
    assert (row["target"], row["group"]) == ("compact", "first")
    bins = spectra.bins(16, test.box_size)
    np.testing.assert_allclose(row["spectrum"]["k"], bins.k)


def test_a_matched_attack_has_the_parameters_of_each_training(rows):
    row, _ = rows("matched")
    betas = [one["parameters"]["beta"] for one in row["trainings"]]
    assert row["parameters"]["beta"] == betas[0] and len(set(betas)) == 3


@pytest.mark.parametrize("name", ["bim", "systematic", "transferred"])
def test_the_other_posteriors_see_the_same_maps(rows, settings, networks, test, name):
    row, made = rows(name)
    assert list(row["others"]) == ["resnet", "ensemble"]
    pairs = [(one, clean(test, one)) for one in made]
    values = [gaussian_kl(networks[1], one.maps, old.maps) for one, old in pairs]
    expected = Hierarchy([one.index for one in made], settings.seed)
    found = row["others"]["resnet"]
    kl = expected.mean_interval(values, positive=True)
    assert found["kl_perturbed_clean"] == pytest.approx(kl, rel=1e-3)
    assert found["n_trainings"] == len(made)
    assert ("retrained" in row) == (len(made) > 1)


def test_what_is_retrained_sees_the_maps_that_were_made_on_the_others(
    rows, settings, networks, test
):
    row, made = rows("bim")
    values = []
    for i, one in enumerate(made):
        others = [target for j, target in enumerate(networks[0]) if j != i]
        before = clean(test, one).maps
        values.append(np.mean([gaussian_kl(o, one.maps, before) for o in others], axis=0))
    resamples = Hierarchy([one.index for one in made], settings.seed)
    expected = resamples.mean_interval(values, positive=True)
    assert row["retrained"]["kl_perturbed_clean"] == pytest.approx(expected, rel=1e-3)
    assert (row["retrained"]["n_trainings"], row["retrained"]["n_maps"]) == (3, len(test))
    assert row["retrained"]["kl_perturbed_clean"]["mean"] < 0.5 * row["kl_perturbed_clean"]["mean"]


def test_the_metrics_of_a_group_are_its_rows_in_short(ran, rows, settings):
    for run, (group, entries) in zip(ran, GROUPS.items(), strict=True):
        found = json.loads(Layout("pilot").result(f"attacks/{group}.json").read_text())
        assert list(found) == ["run_id", *entries]
        assert found["run_id"] == run.id == "attack"
        assert run.files == {f"{group}.json": (json.dumps(found, indent=2) + "\n").encode()}
        for name in entries:
            row, _ = rows(name)
            assert row["run_id"] == f"attack/{name}"
            assert found[name] == {key: row[key] for key in attack.SUMMARY}
            assert run.logged[f"{name}.kl"] == row["kl_perturbed_clean"]["mean"]
        about = {"attacks": ",".join(entries), "target": "compact", "seed": settings.seed}
        assert about.items() <= run.logged.items()
        assert run.about["scale"] == "pilot" and run.about["tags"] == {"group": group}
        models = [f"models/pilot/compact/{number}.keras" for number in (1, 2, 3)]
        assert [str(path) for path in run.about["inputs"]] == ["data/pilot/maps.h5", *models]


def test_every_attack_is_a_run_with_its_numbers(ran, rows, settings):
    for run, (group, entries) in zip(ran, GROUPS.items(), strict=True):
        assert list(run.children) == list(entries)
        for name, entry in settings.attacks[group].items():
            (row, _), own = rows(name), run.children[name]
            assert own.about == {"tags": {"attack": name}}
            given = {**entry.model_dump(mode="json"), "seed": settings.seed, "target": "compact"}
            assert own.documents == {"parameters.json": given}
            assert (own.logged["group"], own.logged["kind"]) == (group, entry.kind)
            for key, of in (
                ("damage", row),
                ("damage to/resnet", row["others"]["resnet"]),
                ("damage to/ensemble", row["others"]["ensemble"]),
                ("trainings/2", row["trainings"][1]),
            ):
                assert own.logged[key] == of["kl_perturbed_clean"]["mean"]
            assert own.logged["rms_counts"] == row["rms_counts"]["mean"]
            assert own.logged["power_change"] == row["mean_power_change_contrast"]["mean"]


@pytest.mark.parametrize("name", ["bim", "universal"])
def test_the_maps_with_the_largest_and_the_least_damage_are_kept(
    ran, rows, networks, test, settings, name
):
    own = next(run.children[name] for run in ran if name in run.children)
    made = rows(name)[1][0]
    values = gaussian_kl(networks[0][0], made.maps, test.maps)
    order = np.argsort(-values, kind="stable")
    chosen = order[[0, (len(order) - 1) // 2, -1]]
    extra = {"pattern.npy"} if name == "universal" else set()
    assert set(own.folders) == {"extremes"}
    kept = own.folders["extremes"]
    assert set(kept) == {"clean.h5", "perturbed.h5", *extra}
    np.testing.assert_array_equal(kept["clean.h5"].maps, test.maps[chosen])
    np.testing.assert_array_equal(kept["perturbed.h5"].maps, made.maps[chosen])
    figure = own.figures["extremes.png"]
    figure.savefig(io.BytesIO(), dpi=40)
    panels = [axes for axes in figure.axes if axes.images]
    titles = [panels[i].get_title() for i in (0, 2)]
    kl = values[chosen[[0, -1]]]
    assert titles == [f"worst: KL {kl[0]:.3g} nat", f"least: KL {kl[1]:.3g} nat"]
    for panel, row in ((panels[0], chosen[0]), (panels[2], chosen[-1])):
        shown = np.sort(np.asarray(panel.images[0].get_array()).ravel())
        np.testing.assert_allclose(shown, np.sort(made.maps[row].ravel()), rtol=1e-5)
    legend = [text.get_text().lower() for text in figure.legends[0].get_texts()]
    assert any(name in text for text in legend)


def test_single_attacks_are_made_again_and_the_others_stay(ran, rows, settings, monkeypatch):
    layout = Layout("pilot")
    metrics = layout.result("attacks/first.json")
    before = json.loads(metrics.read_text())
    paths = [*metrics.parent.rglob("*.json"), *layout.attacked("first", "bim").parent.iterdir()]
    old = {path: path.read_bytes() for path in paths}
    note(monkeypatch)
    stronger = settings.entries["systematic"].model_copy(update={"b": -12.0})
    entries = {**settings.attacks["first"], "systematic": stronger}
    attacks = {**settings.attacks, "first": entries}
    attack.run(settings.model_copy(update={"attacks": attacks}), ["systematic"])
    after = json.loads(metrics.read_text())
    assert list(after) == ["run_id", *entries]
    assert after["bim"] == before["bim"]
    kl = [one["systematic"]["kl_perturbed_clean"]["mean"] for one in (after, before)]
    assert kl[0] != pytest.approx(kl[1], rel=1e-2)
    maps = layout.attacked("first", "systematic")
    changed = {metrics, layout.row("first", "systematic"), maps}
    for path, content in old.items():
        assert (path.read_bytes() == content) is (path not in changed), path
    for path, content in old.items():
        path.write_bytes(content)


def test_a_row_of_an_attack_that_is_gone_is_not_kept(ran, here, settings):
    metrics = Layout("pilot").result("attacks/first.json")
    assert set(attack._kept(metrics, ["bim", "other"])) == {"bim"}
    assert attack._kept(metrics.with_name("none.json"), ["bim"]) == {}


def test_single_attacks_replace_their_rows_and_the_maps_of_every_training(settings):
    layout = Layout("pilot")
    found = attack.some_outputs(settings, layout, "first", ["bim", "systematic"])
    maps = [layout.attacked("first", name, n) for name in ("bim", "systematic") for n in (1, 2, 3)]
    rows = [layout.row("first", name) for name in ("bim", "systematic")]
    assert found == [layout.result("attacks/first.json"), *rows, *maps]


def test_a_whole_group_replaces_its_folders(ran, settings, here):
    layout = Layout("pilot")
    assert set(attack.outputs(layout, "first")) == {
        layout.result("attacks/first.json"),
        layout.result("attacks/first"),
        layout.maps.parent / "attacks/first",
    }
    for folder in (layout.result("attacks"), layout.maps.parent / "attacks"):
        assert not list(folder.glob(".*"))  # nothing is left beside the results
    assert not any(path.exists() for path in gone())


def test_a_killed_group_goes_on_with_the_attacks_it_had_made(ran, here, settings, monkeypatch):
    note(monkeypatch)
    layout, make, made = Layout("pilot"), perturbing._made, []
    before = {path: path.read_bytes() for path in every_result(layout)}

    def stopping(scene, entry, number):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(number)
        return make(scene, entry, number)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(perturbing, "_made", stopping)
        attack.run(settings, ["first"])
    assert made == [1, 2]
    kept = layout.checkpoints("attack") / "first"
    assert sorted(path.name for path in kept.glob("*.json")) == ["bim.1.json", "bim.2.json"]
    assert {path: path.read_bytes() for path in every_result(layout)} == before

    def going_on(scene, entry, number):
        made.append(number)
        return make(scene, entry, number)

    monkeypatch.setattr(perturbing, "_made", going_on)
    attack.run(settings, ["first"])
    assert made == [1, 2, 3, 1]  # the last training of bim, and the systematic
    assert not kept.exists()
    for path, was in before.items():
        assert without_run(path.read_bytes()) == without_run(was)


def every_result(layout):
    folders = layout.result("attacks"), layout.maps.parent / "attacks"
    return [path for folder in folders for path in folder.rglob("*.*") if path.is_file()]


def without_run(content):
    """A file of results, but for the run that wrote it."""
    return re.sub(rb'"run_id": "[^"]*"', b"", content)


def test_one_line_an_attack_is_printed(ran, rows):
    lines = []
    for name in NAMES:
        row, _ = rows(name)
        kl = {"compact": row, **row["others"]}
        means = ", ".join(f"{n} {one['kl_perturbed_clean']['mean']:.3g}" for n, one in kl.items())
        lines.append(f"{name}: KL(perturbed ‖ clean) of {means}")
    assert ran.printed == lines


def test_a_network_of_another_posterior_is_refused_before_work_begins(settings, place, monkeypatch):
    monkeypatch.chdir(place)
    runs = note(monkeypatch)
    path = Layout("pilot").posterior("resnet")
    kept = path.read_bytes()
    path.write_bytes(Layout("pilot").posterior("compact").read_bytes())
    try:
        with pytest.raises(UserError, match=r"resnet/1\.keras is of posterior = compact"):
            attack.run(settings, ["signs"])
    finally:
        path.write_bytes(kept)
    assert runs == []


def test_an_attack_on_simulations_has_those_of_its_maps(settings, place, networks, monkeypatch):
    """Which seeds, labels and axes it is given; what it does with them costs half a minute."""
    monkeypatch.chdir(place)
    scene = perturbing.Scene(settings)
    scene.test = replace(scene.test, seeds=scene.test.seeds * 3)
    asked = {}

    class Universes:
        epsilon = 0.25

        def perturb(self, seeds, labels, axis):
            asked.update(seeds=seeds, labels=labels, axis=axis)
            return SimpleNamespace(maps=np.full((len(seeds), 16, 16), 7, np.float32))

    def built(*arguments):
        asked["built"] = arguments
        return Universes()

    monkeypatch.setattr(perturbing.builder, "build_initial_conditions", built)
    entry = SimpleNamespace(CLASS=InitialConditions, maps=10)
    monkeypatch.setattr(perturbing, "some_maps", lambda one, test: test.take(np.arange(one.maps)))
    made = perturbing._made(scene, entry, 2)
    part = scene.test.take(np.arange(10)).take(evenly_spaced(10, 2))
    for name in ("seeds", "labels", "axis"):
        np.testing.assert_array_equal(asked[name], getattr(part, name))
    assert asked["built"] == (
        entry,
        scene.targets[1],
        settings.simulation,
        settings.background,
        settings.seed,
        scene.posterior,
    )
    np.testing.assert_array_equal(made.clean.maps, part.maps)
    np.testing.assert_array_equal(made.perturbed.index, part.index)
    assert (made.perturbed.maps == 7).all()
