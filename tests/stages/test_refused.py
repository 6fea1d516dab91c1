"""Damaged maps and exchanged models end a stage in one line, and what was there before stays."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from spurious.data.hdf5 import fingerprint, read_maps, write_maps
from spurious.data.maps import ROWS
from spurious.errors import UserError
from spurious.files import write_json
from spurious.pipeline import identity, inputs, loading
from spurious.pipeline.layout import Layout
from spurious.posteriors.trained import load
from spurious.stages import assess, attack, audit, compare, report, search, train, tune

EDITS = {
    "negative": ("maps", (17, 3, 5), -2.5, "row 17 of maps has -2.5 at pixel (3, 5): must be"),
    "nan": ("maps", (239, 0, 0), np.nan, "row 239 of maps has nan at pixel (0, 0): must be"),
    "infinite": ("maps", (0, 15, 15), np.inf, "row 0 of maps has inf at pixel (15, 15): must be"),
    "flat": ("maps", 5, 64.0, "row 5 of maps has 64 in all its pixels"),
    "empty": ("maps", 6, 0.0, "row 6 of maps has 0 in all its pixels"),
    "nan label": ("labels", (8, 1), np.nan, "row 8 has sigma_8 = nan: must be between 0 and 10"),
    "no matter": ("labels", (8, 0), -0.1, "row 8 has omega_m = -0.1: must be between 0 and 1"),
    "too much": ("labels", (8, 0), 30.0, "row 8 has omega_m = 30: must be between 0 and 1"),
    "other label": ("labels", (9, 0), 0.45, "row 9 has omega_m = 0.45 and row 8 0.3, but both"),
    "other seed": ("seeds", 9, 3, "row 9 has seed = 3 and row 8 1004, but both have index = 1004"),
    "sight": ("axis", 4, 7, "axis must be 0, 1 or 2, or -1 for unknown"),
}


def _edit(name, rows, value):
    def damage(path):
        with h5py.File(path, "r+") as file:
            file[name][rows] = value

    return damage


def _attribute(name, value):
    def damage(path):
        with h5py.File(path, "r+") as file:
            file.attrs[name] = value

    return damage


def _rewritten(**options):
    """The maps as another program stores them, in chunks, and one chunk spoiled."""

    def damage(path):
        with h5py.File(path, "r+") as file:
            maps = file["maps"][...]
            del file["maps"]
            stored = file.create_dataset("maps", data=maps, chunks=(1, 16, 16), **options)
            chunk = stored.id.get_chunk_info(120)
        with open(path, "r+b") as file:
            file.seek(chunk.byte_offset + chunk.size // 2)
            file.write(b"\xff\x17" * 8)

    return damage


def _overwrite_the_middle(content):
    """What a disk does that loses a block: HDF5 has no checksum of its own there."""

    def damage(path):
        with h5py.File(path) as file:
            offset = file["maps"].id.get_offset()
        with open(path, "r+b") as file:
            file.seek(offset + 100_000)
            file.write(content)

    return damage


def _shorten(name):
    def damage(path):
        with h5py.File(path, "r+") as file:
            rows = file[name][:-1]
            del file[name]
            file[name] = rows

    return damage


def _drop_all_rows(path):
    with h5py.File(path, "r+") as file:
        for name in ROWS:
            rows = file[name][:0]
            del file[name]
            file[name] = rows


def _retype(name, kind):
    def damage(path):
        with h5py.File(path, "r+") as file:
            values = file[name][...].astype(kind)
            del file[name]
            file[name] = values

    return damage


def _swap_two_labels(path):
    """A possible value in each row, and the wrong one."""
    with h5py.File(path, "r+") as file:
        labels = file["labels"][...]
        labels[[0, 1, 2, 3]] = labels[[2, 3, 0, 1]]
        file["labels"][...] = labels


DAMAGES = {name: (_edit(*edit), says) for name, (*edit, says) in EDITS.items()} | {
    "box": (_attribute("box_size", -64.0), "box_size = -64.0: must be the side of a map in Mpc/h"),
    "no box": (_attribute("box_size", np.inf), "box_size = inf: must be the side of a map"),
    "no unit": (_attribute("unit", ""), "unit = '': must say in which unit the maps are"),
    "names": (_attribute("names", '["omega_m", "omega_m"]'), "must name each parameter once"),
    "provenance": (_attribute("provenance", "[1]"), "is damaged or is no map data set"),
    "few labels": (_shorten("labels"), "labels have shape (239, 2), expected (240, 2)"),
    "few seeds": (_shorten("seeds"), "seeds, index and axis must have shape (240,)"),
    "few maps": (_shorten("maps"), "labels have shape (240, 2), expected (239, 2)"),
    "no rows": (_drop_all_rows, "maps have shape (0, 16, 16): there must be at least one"),
    "text": (_retype("maps", "S8"), "maps are of type |S8: must be real numbers"),
    "fractions": (_retype("seeds", float), "seeds are of type float64: must be whole numbers"),
    "lost block": (_overwrite_the_middle(bytes(512)), "are not those that were written into it"),
    "noise": (_overwrite_the_middle(b"\x42\x80\x00\x42" * 50), "not those that were written"),
    "labels": (_swap_two_labels, "is damaged: its labels are not those that were written"),
    "packed": (_rewritten(compression="gzip"), "is damaged or is no map data set: "),
    "checked": (_rewritten(fletcher32=True), "is damaged or is no map data set: "),
}


@pytest.fixture
def copy(folder, stored, tmp_path, monkeypatch):
    """A copy of the project with models, and results of an earlier run, as the current folder."""
    config, _ = stored
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("SPURIOUS_TRACKING", "off")
    layout = Layout(config.scale)
    for name in ("assess.json", "posteriors.csv", "attacks/paper.json", "attacks/paper/bim.json"):
        layout.result(name).parent.mkdir(parents=True, exist_ok=True)
        layout.result(name).write_text("{}")
    sizes = {"n_train": 1, "n_validation": 1, "n_test": 1, "temperature": 1.0}
    for name in (config.run.target, "resnet"):
        others = [sizes] * (config.trainings(name) - 1)
        write_json(layout.result(f"posteriors/{name}.json"), {**sizes, "others": others})
    run = config.run.model_copy(
        update={"posteriors": [config.run.target, "resnet"], "ensembles": []}
    )
    return config.model_copy(update={"run": run})


def contents():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(stage, *says):
    """A stage ends in one line that says all of this, and leaves every file as it was."""
    before = contents()
    with pytest.raises(UserError) as error:
        stage()
    message = str(error.value)
    assert all(one in message for one in says) and "\n" not in message, message
    assert contents() == before


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_maps_end_the_reader_and_stages_in_one_line(copy, damage, says):
    path = Layout(copy.scale).maps
    damage(path)
    for stage in (
        lambda: read_maps(path),
        lambda: assess.run(copy),
        lambda: attack.run(copy, ["bim"]),
    ):
        refused(stage, str(path), says)


STAGES = {
    "train": lambda config: train.run(config, "resnet"),
    "tune": lambda config: tune.run(config, 1),
    "audit": audit.run,
    "search": search.run,
    "compare": compare.run,
    "report": lambda config: report.draw(config, Layout(config.scale), None, None, {}),
    "training maps": inputs.training_set,
}


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())
def test_every_other_stage_reads_them_in_the_same_way(copy, stage):
    path = Layout(copy.scale).maps
    _edit("maps", (17, 3, 5), -2.5)(path)
    refused(lambda: stage(copy), f"{path}: row 17 of maps has -2.5 at pixel (3, 5)")


@pytest.mark.parametrize(("column", "value"), [(0, 0.4375), (1, 0.6875)])
def test_labels_beyond_what_was_simulated_are_refused(tmp_path, data, column, value):
    """Whoever wrote them: without a checksum, too."""
    path = tmp_path / "maps.h5"
    limits = zip(data.names, data.labels.T.tolist(), strict=True)
    ranges = {name: [min(values), max(values)] for name, values in limits}
    write_maps(path, replace(data, provenance={"ranges": ranges}))
    assert len(read_maps(path)) == len(data)
    labels = data.labels.copy()
    labels[data.index == data.index[8], column] = value + 0.5
    with h5py.File(path, "r+") as file:
        del file["labels"]
        file["labels"] = labels
    least, most = ranges[data.names[column]]
    with pytest.raises(UserError) as error:
        read_maps(path)
    says = f"{data.names[column]} = {value + 0.5:.6g}: only values from {least:g} to {most:g} were"
    assert says in str(error.value) and "row 8" in str(error.value)


def test_fields_are_checked_when_they_are_read(tmp_path, data):
    few = data.take(np.arange(6))
    fields = np.random.default_rng(0).gamma(2.0, 0.5, (3, 16, 16, 16)).astype(np.float32)
    fields[1, 2, 3, 4] = -1
    write_maps(tmp_path / "maps.h5", replace(few, fields=fields))
    assert len(read_maps(tmp_path / "maps.h5")) == 6
    with pytest.raises(UserError, match=r"row 1 of fields has -1 at pixel \(2, 3, 4\)"):
        read_maps(tmp_path / "maps.h5", fields=True)


def test_files_of_other_writers_have_no_checksum_and_other_types(tmp_path, data):
    path = tmp_path / "maps.h5"
    write_maps(path, data)
    known = fingerprint(path)
    with h5py.File(path, "r+") as file:
        for name in ("maps", "labels", "index"):
            values = file[name][...]
            del file[name]
            file[name] = values.astype(np.int32 if name == "index" else values.dtype)
        del file["seeds"].attrs["sha256"], file["axis"].attrs["sha256"]
    read = read_maps(path)
    np.testing.assert_array_equal(read.maps, data.maps)
    assert read.index.dtype == np.int64
    _retype("index", np.int64)(path)
    assert fingerprint(path) == known
    _edit("labels", slice(0, 2), 0.2)(path)
    assert fingerprint(path) != known


# Models in the place of others.


def _copied(source, target):
    def exchange(config):
        layout = Layout(config.scale)
        shutil.copy(layout.posterior(*source), layout.posterior(*target))

    return exchange


def _spoil(config):
    path = Layout(config.scale).posterior("resnet")
    posterior = load(path)
    weights = posterior.model.get_weights()
    weights[-1][1] = np.nan
    posterior.model.set_weights(weights)
    posterior.save(path)


def _bare(config):
    path = Layout(config.scale).posterior("resnet")
    load(path).model.save(path)


def _says(**other):
    def exchange(config):
        path = Layout(config.scale).posterior("resnet")
        posterior = load(path)
        posterior.identity |= other
        posterior.save(path)

    return exchange


def _other_maps(config):
    """Trained, and then the maps were made anew."""
    data = read_maps(Layout(config.scale).maps)
    maps = data.maps.copy()
    maps[0, 0, 0] += 1
    write_maps(Layout(config.scale).maps, replace(data, maps=maps))


def _half(config):
    path = Layout(config.scale).posterior("resnet")
    path.write_bytes(path.read_bytes()[:3000])


EXCHANGES = {
    "another posterior": (
        _copied(("resnet", 1), ("compact", 1)),
        ("compact/1.keras is of posterior = resnet, not compact", "`spurious train compact`"),
    ),
    "another training": (
        _copied(("compact", 2), ("compact", 1)),
        ("compact/1.keras is of training = 2, not 1",),
    ),
    "a later training": (
        _copied(("compact", 1), ("compact", 3)),
        ("compact/3.keras is of training = 1, not 3",),
    ),
    "another scale": (_says(scale="paper"), ("resnet/1.keras is of scale = paper, not pilot",)),
    "other maps": (_other_maps, ("1.keras is of maps = ", "…, not ")),
    "nothing said": (_bare, ("resnet/1.keras does not say what it is",)),
    "nan": (_spoil, ("resnet/1.keras has 1 of 5 weights like nan in dense", "must be finite")),
    "half": (_half, ("resnet/1.keras is damaged or no file of Keras 3",)),
}


@pytest.mark.parametrize(("exchange", "says"), EXCHANGES.values(), ids=EXCHANGES.keys())
def test_another_model_in_the_place_of_one_ends_a_stage(copy, exchange, says):
    exchange(copy)
    refused(lambda: assess.run(copy), *says)
    refused(lambda: attack.run(copy, ["random_sign", "bim"]), *says)


def test_models_are_looked_at_before_any_map_is_attacked(copy, monkeypatch):
    """A wrong bystander, which is asked last."""
    _copied(("compact", 2), ("resnet", 1))(copy)
    monkeypatch.setattr(attack, "perturb", lambda *_: pytest.fail("work was begun"))
    refused(lambda: attack.run(copy, ["bim"]), "resnet/1.keras is of posterior = compact")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 7}, "root_seed = 20221121, not 7"),
        ({"training": {"test_fraction": 0.4}}, "settings.training.test_fraction = 0.3, not 0.4"),
        ({"training": {"epochs": 90}}, "settings.training.epochs = 2, not 90"),
        ({"resnet": {"preset": "compact"}}, "settings.preset = resnet, not compact"),
        ({"resnet": {"input": "contrast"}}, "settings.input = counts, not contrast"),
        ({"resnet": {"split": "held_out"}}, "settings.split = random, not held_out"),
    ],
)
def test_a_model_of_other_settings_is_not_used(copy, change, says):
    """Another seed or share moves training maps into the test."""
    if "training" in change:
        change = {"training": copy.training.model_copy(update=change["training"])}
    if "resnet" in change:
        own = copy.posteriors["resnet"].model_copy(update=change["resnet"])
        change = {"posteriors": copy.posteriors | {"resnet": own}}
    config = copy.model_copy(update=change)
    with pytest.raises(UserError, match=r"1\.keras is of ") as error:
        loading.posterior(config, "resnet")
    assert says in str(error.value)


def test_more_trainings_or_another_version_do_not_matter(copy):
    _says(versions={"keras": "4.0"})(copy)
    own = copy.posteriors["resnet"].model_copy(update={"trainings": 5})
    config = copy.model_copy(update={"posteriors": copy.posteriors | {"resnet": own}})
    assert loading.posterior(config, "resnet").identity["versions"] == {"keras": "4.0"}


def test_a_training_leaves_a_file_that_says_what_it_is(project, tmp_path, monkeypatch):
    layout = Layout(project.scale)
    monkeypatch.setattr(Layout, "posterior", lambda *_: tmp_path / "1.keras")
    train.run(project, "likelihood")
    found = load(tmp_path / "1.keras").identity
    assert found == identity.made(project, "likelihood", 1)
    assert (found["scale"], found["posterior"], found["training"]) == ("pilot", "likelihood", 1)
    assert found["maps"] == fingerprint(layout.maps)
    assert found["settings"]["cells"] == 64 and found["root_seed"] == project.seed
    assert set(found["versions"]) == {"spurious", "keras", "tensorflow"}
    with zipfile.ZipFile(tmp_path / "1.keras") as archive:
        assert "spurious.json" in archive.namelist()
    assert keras.saving.load_model(tmp_path / "1.keras", compile=False) is not None
