"""What tuning tries: the space around a network, and its points as entries of params.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import BaseTrial

from spurious import config

SCALABLE = ("compact", "resnet")  # presets that take a width


@dataclass(frozen=True)
class Space:
    """Architectures and training settings to try.

    =================  =============================================================================
    parameter          meaning
    =================  =============================================================================
    `preset`           network before the head
    `width`            factor on the numbers of filters, in logarithm; if the preset takes one
    `head`             "diagonal" or "full", the covariance of a mixture; or "flow"
    `components`       Gaussians in the mixture; of mixtures only
    `learning_rate`    in logarithm
    `weight_decay`     in logarithm
    `batch_size`       maps a step
    =================  =============================================================================

    Numbers in logarithm are used with three digits: more than matter, and an entry is for people.

    Attributes:
        settings: bounds and choices; what `base` has and a list of choices lacks is one of them.
        base: the network to beat. All that is not tuned stays as it is there.
        shared: settings of a training that neither `base` nor an entry sets.
    """

    settings: config.Tune
    base: config.Network
    shared: config.Training

    def entry(self, trial: BaseTrial, index: int) -> dict[str, Any]:
        """What a trial suggests, as an entry of `posteriors`; that of trial 0 is `base` itself.

        Trial 0 is asked too, so that the study knows its parameters, though `base` may lie outside
        of the space.
        """
        entry = self.base.model_dump(exclude_unset=True) | {"kind": "network"}
        own = dict(entry.get("training", {}))
        new: dict[str, Any] = {"preset": trial.suggest_categorical("preset", self._presets)}
        new["width"] = self._number(trial, "width") if new["preset"] in SCALABLE else 1.0
        new["head"] = self._head(trial)
        for key in ("learning_rate", "weight_decay"):
            own[key] = self._number(trial, key)
        own["batch_size"] = trial.suggest_categorical("batch_size", self._batch_sizes)
        new |= {"seed": self.base.seed + index, "training": own}
        if index:
            entry |= new
        return {key: entry[key] for key in config.Network.model_fields if key in entry}

    def coordinates(self) -> dict[str, Any]:
        """The parameters of `base`, or those nearest to it."""
        head, used = self.base.head, self.base.trained(self.shared)
        found: dict[str, Any] = {"preset": self.base.preset, "batch_size": used.batch_size}
        found["head"] = _kind(head)
        if isinstance(head, config.MixtureHead):
            found["components"] = head.components
        near = {"learning_rate": used.learning_rate, "weight_decay": used.weight_decay}
        if self.base.preset in SCALABLE:
            near["width"] = self.base.width
        for key, value in near.items():
            bounds = getattr(self.settings, key)
            found[key] = float(np.clip(value, bounds.low, bounds.high))
        return found

    @property
    def _presets(self) -> list[str]:
        return _with(self.settings.presets, self.base.preset)

    @property
    def _batch_sizes(self) -> list[int]:
        return _with(self.settings.batch_sizes, self.base.trained(self.shared).batch_size)

    def _head(self, trial: BaseTrial) -> dict[str, Any]:
        """A head; a flow is as deep as that of `base`, if it has one."""
        own = self.base.head
        mixture = own if isinstance(own, config.MixtureHead) else config.MixtureHead()
        flow = own if isinstance(own, config.FlowHead) else config.FlowHead(kind="flow")
        kind = trial.suggest_categorical("head", _with(self.settings.heads, _kind(own)))
        if kind == "flow":
            return flow.model_dump()
        most = max(self.settings.components, mixture.components)
        components = trial.suggest_int("components", 1, most)
        return {"kind": "mixture", "components": components, "covariance": kind}

    def _number(self, trial: BaseTrial, key: str) -> float:
        bounds = getattr(self.settings, key)
        value = float(f"{trial.suggest_float(key, bounds.low, bounds.high, log=True):.3g}")
        return float(np.clip(value, bounds.low, bounds.high))


def _kind(head: config.MixtureHead | config.FlowHead) -> str:
    return head.covariance if isinstance(head, config.MixtureHead) else "flow"


def _with(choices: Iterable[Any], own: Any) -> list[Any]:
    return list(dict.fromkeys([*choices, own]))
