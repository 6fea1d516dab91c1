"""Who would notice: how the detectors are trained and what their verdicts ask for."""

from __future__ import annotations

from pydantic import Field

from spurious.description.section import Section


class Detection(Section):
    """Detectors that are cross-fitted over simulations, and the verdict on each perturbation."""

    folds: int = Field(
        5, ge=2, le=20, description="parts of the simulations; a detector judges one part at a time"
    )
    level: float = Field(
        0.01, gt=0, lt=0.5, description="false alarms a perturbation, all detectors together"
    )
    power: float = Field(
        0.9, ge=0.5, lt=1, description="chance with which the least AUROC would be noticed"
    )
    strong: float = Field(
        0.7, gt=0.5, lt=1, description="AUROC that must be noticeable before anything escapes"
    )
