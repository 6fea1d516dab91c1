"""Posteriors as stages use them: trained ones from their files, others made of these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spurious.config import Abstaining, Config, Smoothed
from spurious.config.wrapped import Noise
from spurious.data.hdf5 import read_maps
from spurious.data.splits import evenly_spaced
from spurious.defences import abstaining, smoothing
from spurious.errors import UserError
from spurious.perturbations.perturb import perturb
from spurious.pipeline import identity
from spurious.pipeline.inputs import parts
from spurious.pipeline.layout import Layout
from spurious.posteriors.posterior import Posterior
from spurious.posteriors.trained import Ensemble, Remembered
from spurious.seeds import integer

Load = Callable[[str, int], Posterior]


def posterior(config: Config, name: str) -> Posterior:
    """The first training of a posterior, or what is made of others: an ensemble of all trainings.

    Unlike those of `Posteriors`, it remembers nothing.
    """
    return made(config, name, lambda entry, training: identity.load(config, entry, training))


def target(config: Config) -> Posterior:
    """The posterior that attacks and search see, its first training."""
    return posterior(config, config.run.target)


class Posteriors:
    """Trained posteriors by name, each loaded when it is first needed and asked once a batch."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._loaded: dict[tuple[str, int], Posterior] = {}

    def __call__(self, name: str) -> Posterior:
        """The first training of any posterior; one made of others shares these with all."""
        if (name, 1) not in self._loaded and self._config.members(name):
            self._loaded[name, 1] = made(self._config, name, self._network)
        return self._network(name, 1)

    def trainings(self, name: str) -> list[Posterior]:
        """All trainings of a posterior; one that is made of others is one."""
        return [self(name), *(self._network(name, i) for i in self._others(name))]

    def _others(self, name: str) -> range:
        return range(2, self._config.trainings(name) + 1)

    def _network(self, name: str, training: int) -> Posterior:
        if (name, training) not in self._loaded:
            self._loaded[name, training] = Remembered(identity.load(self._config, name, training))
        return self._loaded[name, training]


def made(config: Config, name: str, load: Load) -> Posterior:
    """A posterior of any kind.

    Args:
        config: says what it is made of.
        name: of a posterior or an ensemble.
        load: (entry, number of the training) to that training.
    """
    if name in config.ensembles:
        return Ensemble(
            [
                load(member, number) if number > 1 else made(config, member, load)
                for member in config.ensembles[name]
                for number in range(1, config.trainings(member) + 1)
            ]
        )
    settings = config.wrapped.get(name)
    if settings is None:
        return load(name, 1)
    inner = made(config, settings.of, load)
    if isinstance(settings, Smoothed):
        return _smoothed(config, settings, inner)
    return _abstaining(config, name, settings, inner)


def _smoothed(config: Config, settings: Smoothed, inner: Posterior) -> Posterior:
    over: smoothing.Blur
    if isinstance(settings.over, Noise):
        over = smoothing.Noise(settings.over.rms.counts(inner.standardiser.std))
    else:
        over = smoothing.Phases(settings.over.angle.value)
    seed = integer(config.seed, "smoothing", settings.seed)
    return smoothing.Smoothed(inner, over, settings.draws, seed)


def _abstaining(config: Config, name: str, settings: Abstaining, inner: Posterior) -> Posterior:
    """With a detector that learns from training maps; validation maps set its threshold."""
    data = read_maps(Layout(config.scale).maps)
    split = parts(config, data, config.split(name))
    train = data.take(split.train)
    some = train.take(evenly_spaced(len(train), min(settings.maps, len(train))))
    perturbed = [
        np.asarray(perturb(some, entry.model_dump(), inner, seed=config.seed, training=train))
        for entry in settings.against.values()
    ]
    summary = abstaining.summary_of(settings.detector, train.maps, data.box_size)
    detector = abstaining.fit(summary, some.maps, perturbed, train.maps)
    held_out = data.maps[split.validation]
    try:
        return abstaining.calibrated(inner, detector, held_out, settings.false_alarms)
    except UserError as error:
        raise UserError(f"posteriors.{name}.{error}") from None
