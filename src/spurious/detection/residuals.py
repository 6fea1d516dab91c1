"""What is left of a statistic once the cosmology is taken out of it.

The mean of each entry is a polynomial in the parameters, fitted to clean training maps
(`spurious.posteriors.emulator`); what a map has beyond it is whitened with the covariance of the
training maps' residuals. That covariance is one for all cosmologies up to a factor: ln of the mean
square of the whitened entries is fitted with a polynomial of the same degree, and divided out. So a
clean map's residual is a vector of mean 0 and covariance 1, about.

Some directions in which residuals vary hardly at all, or that the training maps are too few to
know, are left out: of the principal components of the residuals, each entry in units of its own
standard deviation, at most one for every `MAPS_PER_COMPONENT` training maps is kept, those with the
largest variance, and none with a variance below `SMALLEST` of the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spurious.posteriors.emulator import Emulator, emulate

MAPS_PER_COMPONENT = 10
SMALLEST = 1e-8


@dataclass(frozen=True)
class Residuals:
    """Summaries and parameters to whitened residuals.

    Attributes:
        emulator: mean of the entries that vary.
        entries: which entries vary among clean maps, (b,).
        varying: which parameters vary, (q,).
        whitening: residuals of these entries to independent components of variance 1, (b, c).
        log_scale: expected ln of the mean square of the components, up to `offset`.
        offset: makes the mean square over the training maps 1.
    """

    emulator: Emulator
    entries: np.ndarray
    varying: np.ndarray
    whitening: np.ndarray
    log_scale: Emulator
    offset: float

    @classmethod
    def fit(cls, summaries: np.ndarray, labels: np.ndarray) -> Residuals:
        """Learn from clean training maps.

        Args:
            summaries: (n, d).
            labels: their parameters, (n, p).

        Raises:
            UserError: there are too few maps or parameters, or summaries that are not finite.
        """
        varying = np.flatnonzero(np.ptp(labels, axis=0) > 0)
        entries = np.flatnonzero(np.ptp(summaries, axis=0) > 0)
        # With one cosmology the mean is a constant, and the polynomial's range is of no account.
        degree, width = (None, 0.0) if len(varying) else (0, 1.0)
        varying = varying if len(varying) else np.array([0])
        chosen, theta = summaries[:, entries], labels[:, varying]
        ranges = list(zip(theta.min(axis=0) - width, theta.max(axis=0) + width, strict=True))
        emulator = emulate(chosen, theta, ranges, degree)
        whitening = _whitening(emulator.covariance, len(chosen))
        square = np.mean(((chosen - emulator.mean(theta)) @ whitening) ** 2, axis=1)
        log_scale = emulate(np.log(square)[:, None], theta, ranges, emulator.degree)
        offset = float(np.log(np.mean(square * np.exp(-log_scale.mean(theta)[:, 0]))))
        return cls(emulator, entries, varying, whitening, log_scale, offset)

    def __call__(self, summaries: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Whitened residuals (n, c) of summaries (n, d) at parameters (n, p)."""
        theta = labels[:, self.varying]
        components = (summaries[:, self.entries] - self.emulator.mean(theta)) @ self.whitening
        return components * np.exp(-(self.log_scale.mean(theta) + self.offset) / 2)


def _whitening(covariance: np.ndarray, n: int) -> np.ndarray:
    """Residuals to their leading principal components, each of variance 1: (b, c)."""
    spread = np.sqrt(np.diag(covariance))
    variance, direction = np.linalg.eigh(covariance / np.outer(spread, spread))
    keep = variance > SMALLEST * variance[-1]
    keep[: -max(1, n // MAPS_PER_COMPONENT)] = False
    return direction[:, keep] / np.sqrt(variance[keep]) / spread[:, None]
