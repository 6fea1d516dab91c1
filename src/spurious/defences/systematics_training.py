"""Training over systematics: a posterior that marginalises over what the instrument may have done.

Each training map passes through a random member of the declared families, so that the network sees
p(map | parameters) averaged over them: domain randomisation (Tobin et al. 2017, arXiv:1703.06907),
and what a survey does with the nuisance parameters of its calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from spurious.config.names import Name
from spurious.defences.description import FAMILIES
from spurious.description.marks import Doc, Within
from spurious.inference.defence import Defence, Network
from spurious.kinds import GROUPS


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
        Doc("name -> a family with its ranges, as in the section `search.families`"),
    ]
    clean: Annotated[float, Within(0, 1), Doc("share of the maps that stay as they are")] = 0.2
    left_out: Annotated[
        tuple[Name, ...], Doc("kinds kept for the test: `spurious defend` calls them unseen")
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
            if kind not in GROUPS["perturbation"]:
                allowed = ", ".join(GROUPS["perturbation"])
                raise ValueError(f"left_out: {kind!r} must be among {allowed}")
        for name, family in values["families"].items():
            if {name, family.kind} & set(values["left_out"]):
                raise ValueError(
                    f"left_out: {family.kind} is trained on too, as families.{name}: must be "
                    "kinds of systematics that no family has"
                )

    def shown(self, network: Network, maps: Any, truth: Any, seed: Any) -> Any:
        """Each map through a random systematic; see `Defence`."""
        from spurious.defences.draws import drawn

        return drawn(tuple(self.families.values()), self.clean, maps, seed)
