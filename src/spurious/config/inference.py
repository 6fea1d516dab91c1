"""Network and training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spurious.config.quantities import Section


class Training(Section):
    """Network and training."""

    preset: Literal["compact"] = "compact"
    components: int = Field(1, ge=1, le=32, description="Gaussians in the mixture; 1 in the paper")
    test_fraction: float = Field(0.3, gt=0, lt=1, description="of all simulations; paper")
    validation_fraction: float = Field(0.1, gt=0, lt=1, description="of the rest; picks the epoch")
    epochs: int = Field(60, ge=1, description="1000 in the paper")
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(3e-3, gt=0, le=1)
    weight_decay: float = Field(0.1, ge=0, le=1)
    augment: bool = Field(True, description="random translations, rotations by 90 degrees, flips")
