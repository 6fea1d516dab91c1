"""Whether a survey would notice a perturbation, and with which standard statistics."""

from spurious.detection.compare import Detector, detect
from spurious.detection.statistics import standard

__all__ = ["Detector", "detect", "standard"]
