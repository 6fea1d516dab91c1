"""The plausible systematics, by what they come from; each is an `Effect` with one amplitude.

=================  ======================================  ====================================
class              what it stands for                      module
=================  ======================================  ====================================
`Logistic`         the paper's function of the density     `spurious.perturbations.response`
`Calibration`      error of the calibration curve          `spurious.perturbations.response`
`Saturation`       detector that saturates                 `spurious.perturbations.response`
`GainDrift`        gain that drifts across the field       `spurious.perturbations.instrument`
`Stripes`          offsets between scans                   `spurious.perturbations.instrument`
`Masked`           holes filled in by interpolation        `spurious.perturbations.instrument`
`Beam`             point-spread function of wrong width    `spurious.perturbations.filters`
`Baryons`          matter driven out of peaks              `spurious.perturbations.filters`
`CorrelatedNoise`  noise with a power-law spectrum         `spurious.perturbations.noise`
=================  ======================================  ====================================

`matched` gives any of them the amplitude with a given mean squared change.
"""

from spurious.perturbations.effect import Effect
from spurious.perturbations.filters import Baryons, Beam
from spurious.perturbations.instrument import GainDrift, Masked, Stripes
from spurious.perturbations.matching import matched
from spurious.perturbations.noise import CorrelatedNoise
from spurious.perturbations.response import Calibration, Logistic, Saturation

__all__ = [
    "Baryons",
    "Beam",
    "Calibration",
    "CorrelatedNoise",
    "Effect",
    "GainDrift",
    "Logistic",
    "Masked",
    "Saturation",
    "Stripes",
    "matched",
]
