"""Whether a survey would notice a perturbation, and with which detectors."""

from spurious.detection.detector import Detector, detect
from spurious.detection.statistics import standard
from spurious.detection.verdicts import verdict

__all__ = ["Detector", "detect", "standard", "verdict"]
