"""What tuning tries: the space around a network, and its points as entries of params.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.trial import BaseTrial

from spurious import config
from spurious.description.fields import described
from spurious.description.instance import instance, named
from spurious.description.lookup import described_class
from spurious.description.section import Entry

COVARIANCES = ("diagonal", "full")  # of a mixture


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
        new: dict[str, Any] = {"preset": self._preset(trial), "head": self._head(trial)}
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
        found: dict[str, Any] = {"preset": self._own["kind"], "batch_size": used.batch_size}
        found["head"] = _kind(head)
        if head.kind == "mixture":
            found["components"] = instance(head).components
        near = {"learning_rate": used.learning_rate, "weight_decay": used.weight_decay}
        if self._has_width(self._own["kind"]):
            near["width"] = named("preset", self.base.preset).width
        for key, value in near.items():
            bounds = getattr(self.settings, key)
            found[key] = float(np.clip(value, bounds.low, bounds.high))
        return found

    @property
    def _own(self) -> dict[str, Any]:
        """The preset of `base`, as a section."""
        own = self.base.preset
        return {"kind": own} if isinstance(own, str) else own.model_dump(exclude_unset=True)

    def _preset(self, trial: BaseTrial) -> dict[str, Any]:
        """A preset, with a width if it has one; else as in `base`, if that has the same."""
        own = self._own
        kind = trial.suggest_categorical("preset", _with(self.settings.presets, own["kind"]))
        rest = own if kind == own["kind"] else {"kind": kind}
        return rest | ({"width": self._number(trial, "width")} if self._has_width(kind) else {})

    def _has_width(self, preset: str) -> bool:
        own = preset == self._own["kind"]
        one = described_class("preset", self.base.preset if own else preset)
        return any(field.name == "width" for field in described(one))

    @property
    def _batch_sizes(self) -> list[int]:
        return _with(self.settings.batch_sizes, self.base.trained(self.shared).batch_size)

    def _head(self, trial: BaseTrial) -> dict[str, Any]:
        """A head; in all that is not tuned that of `base`, if that is one of the same kind."""
        own = self.base.head
        found = trial.suggest_categorical("head", _with(self.settings.heads, _kind(own)))
        kind = "mixture" if found in COVARIANCES else found
        same = own.kind == kind
        rest: dict[str, Any] = own.model_dump(exclude_unset=True) if same else {"kind": kind}
        if kind != "mixture":
            return rest
        most = max(self.settings.components, rest.get("components", 1))
        return rest | {
            "components": trial.suggest_int("components", 1, most),
            "covariance": found,
        }

    def _number(self, trial: BaseTrial, key: str) -> float:
        bounds = getattr(self.settings, key)
        value = float(f"{trial.suggest_float(key, bounds.low, bounds.high, log=True):.3g}")
        return float(np.clip(value, bounds.low, bounds.high))


def _kind(head: Entry) -> str:
    return str(instance(head).covariance) if head.kind == "mixture" else head.kind


def _with(choices: Iterable[Any], own: Any) -> list[Any]:
    return list(dict.fromkeys([*choices, own]))
