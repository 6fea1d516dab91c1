"""The last layer of every network; importing this module registers it with Keras."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from spurious.description.instance import instance, written
from spurious.description.lookup import class_of
from spurious.description.schema import section_of
from spurious.kinds import GROUPS
from spurious.networks.head import Frame, Head
from spurious.networks.mixture import MixtureHead

HEAD = "head"


@keras.saving.register_keras_serializable(package="spurious")
class HeadLayer(keras.layers.Layer):
    """A head, and the parameters that it is about.

    It knows their names and training ranges, so that one `.keras` file is a whole posterior:
    `layer.distribution(*layer(features))`.

    Args:
        ranges: parameter name -> (low, high) of the training labels, in the order of the outputs.
        head: what the features mean; as a mapping, as params.yaml writes it.
        temperature: factor on the widths; 1 leaves the network as trained. May be set later.

    Raises:
        ValueError: an argument is impossible.
    """

    def __init__(
        self,
        ranges: Mapping[str, Sequence[float]],
        head: Head | Mapping[str, Any] = MixtureHead(),  # noqa: B008, frozen
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ranges = {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
        self.temperature = float(temperature)
        if not self.ranges or not self.temperature > 0:
            raise ValueError(
                f"ranges = {ranges} must not be empty, temperature = {temperature} > 0"
            )
        self.head = _checked(head) if isinstance(head, Head) else read_head(head)
        self.head.n_features(len(self.ranges))

    @property
    def n_features(self) -> int:
        """Features that the head wants."""
        return self.head.n_features(len(self.ranges))

    @property
    def frame(self) -> Frame:
        """The parameters' ranges, and the temperature."""
        return Frame(tuple(self.ranges.values()), self.temperature)

    def call(self, features: Any) -> tuple[Any, ...]:
        """Features (batch, n_features) to the head's outputs."""
        return self.head.outputs(features, self.frame)

    def distribution(self, *outputs: Any) -> Any:
        """The densities of the outputs: batch_shape (batch,), event_shape (p,)."""
        return self.head.distribution(outputs, self.frame)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {
            "ranges": self.ranges,
            "head": written("head", self.head),
            "temperature": self.temperature,
        }
        return {**super().get_config(), **own}


def read_head(given: Mapping[str, Any]) -> Head:
    """The head that a model's file describes.

    One of the user's own is looked up among the modules that are imported already: no file decides
    what is imported.

    Raises:
        ValueError: it describes none, or one of a module that is not imported.
    """
    kind = str(given.get("kind"))
    if kind in GROUPS["head"]:
        one = class_of("head", kind)
    else:
        module, _, name = kind.rpartition(".")
        one = getattr(sys.modules.get(module), name, Any)
        if not (isinstance(one, type) and issubclass(one, Head)):
            raise ValueError(f"the head {kind[:80]!r} is not known: import its module first")
    found: Head = instance(section_of(one, kind).model_validate(dict(given)))
    return found


def _checked(head: Head) -> Head:
    """The head itself, if its fields are possible."""
    described = written("head", head)
    section_of(type(head), described["kind"]).model_validate(described)
    return head
