"""Where the class of each `kind` of params.yaml lies: nothing is imported before it is needed."""

from __future__ import annotations

_HOME = "spurious.perturbations"
_NETWORKS = "spurious.networks"
_DEFENCES = "spurious.defences"

GROUPS: dict[str, dict[str, str]] = {
    "perturbation": {
        "random_sign": f"{_HOME}.noise.RandomSign",
        "fgsm": f"{_HOME}.gradient.FGSM",
        "bim": f"{_HOME}.gradient.BIM",
        "pgd": f"{_HOME}.gradient.PGD",
        "auto_pgd": f"{_HOME}.auto_pgd.AutoPGD",
        "universal": f"{_HOME}.universal.Universal",
        "minimum_norm": f"{_HOME}.minimum_norm.MinimumNorm",
        "initial_conditions": f"{_HOME}.initial_conditions.InitialConditions",
        "logistic": f"{_HOME}.response.Logistic",
        "calibration": f"{_HOME}.response.Calibration",
        "saturation": f"{_HOME}.response.Saturation",
        "gain_drift": f"{_HOME}.instrument.GainDrift",
        "stripes": f"{_HOME}.instrument.Stripes",
        "masked": f"{_HOME}.instrument.Masked",
        "beam": f"{_HOME}.filters.Beam",
        "baryons": f"{_HOME}.filters.Baryons",
        "correlated_noise": f"{_HOME}.noise.CorrelatedNoise",
        "gaussian_noise": f"{_HOME}.noise.GaussianNoise",
        "shuffled_pixels": f"{_HOME}.controls.ShuffledPixels",
        "shuffled_phases": f"{_HOME}.controls.ShuffledPhases",
    },
    "objective": {
        "nll": f"{_HOME}.objectives.NegativeLogLikelihood",
        "kl": f"{_HOME}.objectives.Divergence",
        "kl_perturbed_clean": f"{_HOME}.objectives.Divergence",
        "kl_clean_perturbed": f"{_HOME}.objectives.ReverseDivergence",
        "overconfident": f"{_HOME}.objectives.Overconfident",
        "underconfident": f"{_HOME}.objectives.Underconfident",
        "toward": f"{_HOME}.objectives.TowardUniverse",
        "shift_s8": f"{_HOME}.objectives.ShiftS8",
    },
    "constraint": {
        "phase_only": f"{_HOME}.spectral.PhaseOnly",
        "bin_preserving": f"{_HOME}.spectral.BinPreserving",
        "bounded": f"{_HOME}.spectral.Bounded",
        "band_limited": f"{_HOME}.spectral.BandLimited",
    },
    "preset": {
        "compact": f"{_NETWORKS}.compact.Compact",
        "resnet": f"{_NETWORKS}.resnet.ResNet",
        "horowitz2022": f"{_NETWORKS}.horowitz2022.Horowitz2022",
        "power_spectrum": f"{_NETWORKS}.power_spectrum.PowerSpectrum",
    },
    "head": {
        "mixture": f"{_NETWORKS}.mixture.MixtureHead",
        "flow": f"{_NETWORKS}.flow.FlowHead",
    },
    "defence": {
        "adversarial_training": f"{_DEFENCES}.adversarial_training.AdversarialTraining",
        "trades": f"{_DEFENCES}.trades.Trades",
        "systematics_training": f"{_DEFENCES}.systematics_training.SystematicsTraining",
        "gradient_penalty": f"{_DEFENCES}.gradient_penalty.GradientPenalty",
        "fisher_penalty": f"{_DEFENCES}.fisher_penalty.FisherPenalty",
    },
    "goal": {
        "kl": "spurious.search.goals.MeanKL",
        "kl_symmetrised": "spurious.search.goals.SymmetrisedKL",
        "shift_s8": "spurious.search.goals.MeanShiftS8",
        "shift": "spurious.search.goals.MeanShift",
        "fraction_moved": "spurious.search.goals.FractionMoved",
    },
}
"""Group -> kind -> import path of the class, in the order in which messages and tables name them.

A perturbation, a preset, a head or a defence may have the import path of any other class as its
kind, too.
"""

SYSTEMATICS = (
    "logistic",
    "calibration",
    "saturation",
    "gain_drift",
    "stripes",
    "masked",
    "beam",
    "baryons",
    "correlated_noise",
    "gaussian_noise",
)
"""Perturbations that have ranges, in which a search or a defence moves them."""
