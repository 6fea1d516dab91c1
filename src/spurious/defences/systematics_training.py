"""Training over systematics: a posterior that marginalises over what the instrument may have done.

Each training map passes through a random member of the declared families, so that the network sees
p(map | parameters) averaged over them: domain randomisation (Tobin et al. 2017, arXiv:1703.06907),
and what a survey does with the nuisance parameters of its calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from spurious.defences.description import FAMILIES, KINDS
from spurious.description.marks import Doc, Within
from spurious.kinds import SYSTEMATICS
from spurious.lazy import tf
from spurious.training.defence import Defence, Network

if TYPE_CHECKING:
    from spurious.search.families import Family


@dataclass(frozen=True, kw_only=True)
class SystematicsTraining(Defence):
    """Minimise -log q(y | s(x)), with s drawn anew for each map and step.

    A family is drawn with equal chances, then a point of its ranges, uniformly in the scales in
    which a search moves: the logarithm of what spans decades, the asinh of what has a sign too.

    `families` holds, by name, a family's members: `spurious.search.families.Family` objects with
    the same ranges, one or several that differ in the pattern that they have drawn (stripes,
    holes), of which one is drawn too.

    Raises:
        ValueError: there are no families.
    """

    families: Annotated[
        Mapping[str, Sequence[Any]],
        FAMILIES,
        Doc("what is drawn from, with ranges, as in the section `search.families`"),
    ]
    clean: Annotated[float, Within(0, 1), Doc("share of the maps that stay as they are")] = 0.2
    left_out: Annotated[
        tuple[str, ...],
        KINDS,
        Doc("what is kept for the test: `spurious defend` calls it unseen"),
    ] = ()

    def __post_init__(self) -> None:
        if not self.families:
            raise ValueError("families: there are none to train over")

    @staticmethod
    def consistent(values: Mapping[str, Any]) -> None:
        """Refuse an entry that has no families, or keeps for the test what it trains on.

        Raises:
            ValueError: names the key.
        """
        if not values["families"]:
            raise ValueError("families = {}: must have at least one")
        for kind in values["left_out"]:
            if kind not in SYSTEMATICS:
                allowed = ", ".join(SYSTEMATICS)
                raise ValueError(f"left_out: {kind!r} must be among {allowed}")
        for name, family in values["families"].items():
            if {name, family.kind} & set(values["left_out"]):
                raise ValueError(
                    f"left_out: {family.kind} is trained on too, as families.{name}: must be "
                    "kinds of systematics that no family has"
                )

    def shown(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """Each map through a random systematic; see `Defence`."""
        return draw_systematics(tuple(self.families.values()), self.clean, maps, seed)


def draw_systematics(
    families: Sequence[Sequence[Family]], clean: float, maps: tf.Tensor, seed: tf.Tensor
) -> tf.Tensor:
    """Each map as it is, or through a member of a family at a random point of its ranges.

    Args:
        families: the members of each, which differ in the patterns that they have drawn.
        clean: chance that a map stays as it is.
        maps: (batch, N, N), counts.
        seed: pair of stateless random operations.

    Returns:
        (batch, N, N), counts; no gradient flows through it.
    """
    count, most = tf.shape(maps)[0], max(family[0].dimension for family in families)
    draws = tf.random.stateless_uniform((count, 3 + most), seed)
    members = [member for family in families for member in family]
    choice = tf.where(draws[:, 0] < clean, 0, 1 + _choose(families, draws[:, 1], draws[:, 2]))
    branches = [_unchanged, *map(_through, members)]

    def one(row: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
        index, point, density = row
        return tf.switch_case(index, [partial(branch, point, density) for branch in branches])

    rows = (choice, draws[:, 3:], maps)
    return tf.stop_gradient(tf.map_fn(one, rows, fn_output_signature=maps.dtype))


def _choose(families: Sequence[Sequence[Family]], first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Number of the member for two uniform draws a map: of the family, and within it."""
    sizes = tf.constant([len(family) for family in families])
    number = tf.cast(first * len(families), tf.int32)
    size = tf.gather(sizes, number)
    within = tf.cast(second * tf.cast(size, second.dtype), tf.int32)
    return tf.gather(tf.cumsum(sizes, exclusive=True), number) + within


def _unchanged(point: tf.Tensor, density: tf.Tensor) -> tf.Tensor:
    return density


def _through(family: Family) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """One map (N, N) through the family's systematic at the first coordinates of a point."""

    def changed(point: tf.Tensor, density: tf.Tensor) -> tf.Tensor:
        return family.effect(point[: family.dimension])(density[None])[0]

    return changed
