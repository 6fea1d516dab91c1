"""What reads a broken input: the functions that stages use, and whether what they read is right.

Each returns why the value is wrong, or "" if it may be what somebody wanted.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from fuzzing.guarded import WORDS, Reader
from fuzzing.outcomes import Case

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def params(case: Case) -> str:
    """What `spurious check` does."""
    from spurious.params import load
    from spurious.simulation.design import nodes

    config = load(Path(next(iter(case.files))))
    nodes(config.design, config.simulation.simulations, config.seed, config.background)
    names = [config.scale, *config.run.scales, *config.posteriors, *config.ensembles]
    names += [*config.attacks, *config.entries, *config.search.families]
    wrong = [name for name in names if not NAME.fullmatch(name)]
    return f"the name {wrong[0][:60]!r} was accepted" if wrong else ""


def maps(case: Case) -> str:
    """A data set."""
    import numpy as np

    from spurious.data.hdf5 import read_maps

    data = read_maps(Path(next(iter(case.files))))
    if data.maps.dtype.kind != "f" or not len(data):
        return "a data set was accepted that has no maps, or maps of no numbers"
    if not np.isfinite(data.maps).all() or data.maps.min() < 0:
        return "maps were accepted that are not finite, or negative"
    if (np.ptp(data.maps, axis=(1, 2)) == 0).any():
        return "a map without any structure was accepted"
    if not np.isfinite(data.labels).all() or data.labels.min() <= 0 or data.labels.max() >= 2:
        return "labels were accepted that no universe has"
    return "" if np.isfinite(data.box_size) and data.box_size > 0 else "the box has no size"


def posterior(case: Case) -> str:
    """The target of attacks, as the stages get it."""
    from spurious.pipeline.loading import Posteriors

    return _unlike(Posteriors(_config())("compact"))


def hostile(case: Case) -> str:
    """A model that somebody else made, by each of the two functions that read one."""
    from spurious.errors import UserError
    from spurious.networks.model_files import read_model
    from spurious.posteriors.trained import load

    path, first = Path(next(iter(case.files))), None
    try:
        found = _secret_in(read_model(path))
    except UserError as error:
        first, found = error, ""
    found = found or _secret_in(load(path).model)
    if first is not None:
        return found or f"read_model refused what load accepted: {first}"
    return found


def rows(case: Case) -> str:
    """The rows of damage, as the stages get them."""
    from spurious.pipeline.inputs import attack_rows, winner_rows

    attack_rows(_config())
    winner_rows(_config())
    return ""


def report(case: Case) -> str:
    """Everything that the report is made of, and its HTML."""
    from spurious.pipeline.layout import Layout
    from spurious.report import page as module
    from spurious.stages import report as stage

    config = _config()
    layout = Layout(config.scale)
    about, pictures = stage.context(config, layout, [layout.maps]), stage.images(config, layout)
    about["flip"] = None  # the stage makes it of maps, which have readers of their own
    drawn = dict.fromkeys(stage.DRAWN, next(iter(pictures.values())))
    html = module.render(about, drawn | pictures, {})
    return "the report has a script that somebody else wrote" if "<script>EVIL" in html else ""


def described(case: Case) -> str:
    """What is known of the trainings of the target."""
    from spurious.stages.assess import described as read

    for number in (1, 2, 3):
        read(_config(), "compact", number)
    return ""


def study(case: Case) -> str:
    """The search's studies: opened, and all trials read."""
    import optuna

    from spurious.studies import explained, open_study

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    path = Path(next(iter(case.files)))
    opened = open_study(path, case.what.split(": ")[0])
    with explained(path):
        for trial in opened.trials:
            _ = trial.params, trial.values, trial.user_attrs
    return ""


def tracking(case: Case) -> str:
    """The tracking store: a run begun, written to and ended."""
    from spurious import tracking as module

    store = Path(next(iter(case.files))).parent
    with module.start("fuzz", "pilot", store=store) as log:
        log.metrics({"x": 1.0})
    return ""


@lru_cache(maxsize=1)
def _config() -> Any:
    from spurious.params import load

    return load(Path("params.yaml"))


@lru_cache(maxsize=1)
def _maps() -> Any:
    """A few maps on which models are compared."""
    from spurious.data.hdf5 import read_maps
    from spurious.pipeline.layout import Layout

    return read_maps(Layout(_config().scale).maps).maps[:4]


def _unlike(found: Any) -> str:
    """Why a posterior cannot be right: its answers are no numbers."""
    import numpy as np

    answer = found(_maps())
    numbers = np.concatenate([answer.mean(), answer.stddev()])
    return "" if np.isfinite(numbers).all() else "a posterior was accepted that is not finite"


def _secret_in(model: Any) -> str:
    """Whether a model holds what stands in the secret file, or has changed Keras itself."""
    import keras

    if keras.config.dtype_policy().name != "float32":
        return "a setting of Keras was changed"
    held = [weight.numpy().tobytes() for weight in model.weights]
    held.append(str([layer.get_config() for layer in model.layers]).encode())
    held += [str(layer.get_vocabulary()).encode() for layer in _with_words(model)]
    stolen = any(piece in one for piece in (WORDS[:16], WORDS[16:32]) for one in held)
    return "the secret is in the model" if stolen else ""


def _with_words(model: Any) -> list[Any]:
    return [layer for layer in model.layers if hasattr(layer, "get_vocabulary")]


READERS: dict[str, Reader] = {
    one.__name__: one
    for one in (params, maps, posterior, hostile, rows, report, described, study, tracking)
}
