"""What a perturbation did to the posteriors and to the power spectra.

`measure` gives every number map by map; `Damage.row` sums them up with bootstrap intervals as one
JSON-able row, and `pooled_row` those of several independent trainings of a network, which are then
resampled too (`spurious.bootstrap.Hierarchy`):

==============================  ====================================================================
key of the row                  meaning; each is {"mean", "low", "high"}, a 95 % bootstrap interval
==============================  ====================================================================
`kl_perturbed_clean`            `KL(q(. | perturbed) || q(. | clean))`, nats; the paper's number
`kl_clean_perturbed`            the other direction
`kl_symmetrised`                half the sum of the two
`shift_<parameter>`             posterior mean, perturbed minus clean, in clean standard deviations
`abs_shift_<parameter>`         its absolute value
`rms_counts`                    root of the mean squared change over a map's pixels, counts
`abs_mean_change`               relative change of a map's own mean, its absolute value
`power_change_<spectrum>`       largest `|dP / P|` over the bins of a map
`power_change_cosmic_<...>`     largest `|dP / P|` over the bins of a map, in cosmic variances
`mean_power_change_<...>`       largest `|<P'> / <P> - 1|` over the bins of the mean spectra (as
                                the paper plots them), with the interval of that statistic
==============================  ====================================================================

<spectrum> is `raw` (maps as they are, counts) or `contrast` (each over its own mean, minus 1).
Means are over trainings and maps. `n_maps` is the number of maps, the largest of all trainings,
`n_trainings` that of trainings, and `largest_mean_change` the largest `abs_mean_change` of a map.
`kl_sampling_error` bounds the standard error of `kl_perturbed_clean` where it is a Monte Carlo
estimate: the mean of the maps' errors, as if they were fully correlated; 0 for single Gaussians.
`spectrum` holds arrays over the bins:
`k` (h/Mpc), `n_modes`, `cosmic_variance` (relative, of one map), and for each of `raw` and
`contrast` the clean and perturbed mean spectrum `clean` and `perturbed`; `mean_change`
(<P'> / <P> - 1) and `mean_change_cosmic` (the same in units of the cosmic variance of one map),
each with the ends of its interval, `..._low` and `..._high`; `mean_abs_change` and
`max_abs_change` (mean and maximum over maps of `|dP / P|`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from spurious import spectra
from spurious.bootstrap import Hierarchy
from spurious.densities.divergences import kl, kl_and_error
from spurious.posteriors.posterior import Posterior
from spurious.progress import track

OF_TRAINING = (
    "n_maps", "kl_perturbed_clean", "kl_clean_perturbed", "kl_symmetrised", "rms_counts",
    "mean_power_change_contrast",
)  # fmt: skip
"""What a pooled row holds of each training of the network."""

BATCH = 32  # maps in memory at a time, by default: 3000 maps need less than 1 GB in all


@dataclass(frozen=True)
class SpectrumChange:
    """Power spectra of the same maps before and after, each (n, n_bins)."""

    clean: np.ndarray
    perturbed: np.ndarray

    @property
    def relative(self) -> np.ndarray:
        """Relative change dP / P of each map and bin."""
        return self.perturbed / self.clean - 1


@dataclass(frozen=True)
class PosteriorChange:
    """What happened to one posterior, map by map; `row` sums it up.

    Attributes:
        names: the p parameters.
        kl_perturbed_clean: KL(q(. | perturbed) || q(. | clean)) in nats, (n,).
        kl_clean_perturbed: the other direction, (n,).
        shift: posterior mean, perturbed minus clean, in clean standard deviations, (n, p).
        kl_error: standard error of `kl_perturbed_clean` if it is a Monte Carlo estimate, (n,).
    """

    names: tuple[str, ...]
    kl_perturbed_clean: np.ndarray
    kl_clean_perturbed: np.ndarray
    shift: np.ndarray
    kl_error: np.ndarray

    @property
    def kl_symmetrised(self) -> np.ndarray:
        """Half the sum of both directions, (n,)."""
        return 0.5 * (self.kl_perturbed_clean + self.kl_clean_perturbed)

    def row(self, seed: int, groups: np.ndarray | None = None) -> dict[str, Any]:
        """One table row, as described at the top of the module.

        Args:
            seed: draws the resamples.
            groups: number of the simulation that each map is of, (n,); maps of one simulation are
                resampled together.
        """
        return pooled_row([self], seed, [groups])

    def _scalars(self) -> dict[str, np.ndarray]:
        """Per-map numbers whose mean is reported, each (n,)."""
        scalars = {
            "kl_perturbed_clean": self.kl_perturbed_clean,
            "kl_clean_perturbed": self.kl_clean_perturbed,
            "kl_symmetrised": self.kl_symmetrised,
        }
        for name, shift in zip(self.names, self.shift.T, strict=True):
            scalars |= {f"shift_{name}": shift, f"abs_shift_{name}": np.abs(shift)}
        return scalars


@dataclass(frozen=True)
class Damage(PosteriorChange):
    """What happened to one posterior and to the maps, map by map; `row` sums it up.

    Attributes:
        rms_counts: root of the mean squared change over pixels, (n,).
        mean_change: relative change of each map's mean, (n,).
        raw: power spectra of the maps, counts^2 (Mpc/h)^2.
        contrast: power spectra of the maps over their own means, (Mpc/h)^2.
        bins: wave numbers and mode counts of the spectra.
    """

    rms_counts: np.ndarray
    mean_change: np.ndarray
    raw: SpectrumChange
    contrast: SpectrumChange
    bins: spectra.Bins

    def _spectra(self) -> dict[str, SpectrumChange]:
        return {"raw": self.raw, "contrast": self.contrast}

    def _scalars(self) -> dict[str, np.ndarray]:
        scalars = super()._scalars()
        scalars |= {"rms_counts": self.rms_counts, "abs_mean_change": np.abs(self.mean_change)}
        cosmic = spectra.cosmic_variance(self.bins.n_modes)
        for name, spectrum in self._spectra().items():
            change = np.abs(spectrum.relative)
            scalars[f"power_change_{name}"] = change.max(1)
            scalars[f"power_change_cosmic_{name}"] = (change / cosmic).max(1)
        return scalars


def pooled_row(
    changes: Sequence[PosteriorChange], seed: int, groups: Sequence[np.ndarray | None]
) -> dict[str, Any]:
    """One table row for several trainings of a network; see the top of the module.

    Args:
        changes: of each training, all of the same class.
        seed: draws the resamples.
        groups: for each training, the number of the simulation that each map is of, (n,); None:
            every map is a simulation of its own.

    Raises:
        ValueError: there is no training.
    """
    numbers = [
        np.arange(len(change.shift)) if group is None else group
        for change, group in zip(changes, groups, strict=True)
    ]
    resamples = Hierarchy(numbers, seed)
    scalars = [change._scalars() for change in changes]
    row: dict[str, Any] = {
        "n_maps": max(len(change.shift) for change in changes),
        "n_trainings": len(changes),
        "kl_sampling_error": float(np.mean([change.kl_error.mean() for change in changes])),
    }
    row |= {
        key: resamples.mean_interval([one[key] for one in scalars], not key.startswith("shift_"))
        for key in scalars[0]
    }
    damages = [change for change in changes if isinstance(change, Damage)]
    return row | (_map_numbers(damages, resamples) if damages else {})


def mean_change(changes: Sequence[PosteriorChange]) -> PosteriorChange:
    """The mean change over several posteriors, on the same maps."""
    return PosteriorChange(
        changes[0].names,
        *(
            np.mean([getattr(one, name) for one in changes], axis=0)
            for name in ("kl_perturbed_clean", "kl_clean_perturbed", "shift", "kl_error")
        ),
    )


def _map_numbers(damages: Sequence[Damage], resamples: Hierarchy) -> dict[str, Any]:
    """Numbers of a row that are no means over maps: of the maps and their spectra."""
    row: dict[str, Any] = {
        "largest_mean_change": float(max(np.abs(one.mean_change).max() for one in damages))
    }
    bins = damages[0].bins
    cosmic = spectra.cosmic_variance(bins.n_modes)
    arrays: dict[str, Any] = {
        "k": bins.k.tolist(),
        "n_modes": bins.n_modes.tolist(),
        "cosmic_variance": cosmic.tolist(),
    }
    for name in damages[0]._spectra():
        changes = [one._spectra()[name] for one in damages]
        largest = [partial(_largest_mean_change, change) for change in changes]
        row[f"mean_power_change_{name}"] = resamples.interval(largest, positive=True)
        arrays[name] = _spectrum_arrays(changes, resamples, cosmic)
    return row | {"spectrum": arrays}


def _spectrum_arrays(
    changes: Sequence[SpectrumChange], resamples: Hierarchy, cosmic: np.ndarray
) -> dict[str, list[float]]:
    """One spectrum's arrays over bins; of several trainings, their means."""
    clean, perturbed, mean_abs = (
        np.mean(parts, axis=0)
        for parts in zip(
            *(
                (one.clean.mean(0), one.perturbed.mean(0), np.abs(one.relative).mean(0))
                for one in changes
            ),
            strict=True,
        )
    )
    arrays = {
        "clean": clean,
        "perturbed": perturbed,
        "mean_abs_change": mean_abs,
        "max_abs_change": np.max([np.abs(one.relative).max(0) for one in changes], axis=0),
    }
    bounds = resamples.bounds([partial(_mean_change, change) for change in changes])
    for suffix, values in zip(("", "_low", "_high"), bounds, strict=True):
        arrays[f"mean_change{suffix}"] = values
        arrays[f"mean_change_cosmic{suffix}"] = values / cosmic
    return {name: values.tolist() for name, values in arrays.items()}


def measure(
    clean: np.ndarray,
    perturbed: np.ndarray,
    posterior: Posterior,
    box_size: float,
    batch_size: int = BATCH,
) -> Damage:
    """The damage that a perturbation did to each map.

    Args:
        clean: (n, N, N) in counts.
        perturbed: the same maps, perturbed.
        posterior: maps -> distribution; its KL is exact where `inference.distributions` knows how.
        box_size: side of a map, Mpc/h.
        batch_size: maps in memory at a time.

    Raises:
        ValueError: there are no maps, or the shapes differ.
    """
    parts = [
        _measure_batch(before, after, posterior, box_size)
        for before, after in _batches(clean, perturbed, batch_size, "damage")
    ]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    raw = SpectrumChange(joined.pop("raw_clean"), joined.pop("raw_perturbed"))
    contrast = SpectrumChange(joined.pop("contrast_clean"), joined.pop("contrast_perturbed"))
    bins = spectra.bins(clean.shape[-1], box_size)
    return Damage(tuple(posterior.names), raw=raw, contrast=contrast, bins=bins, **joined)


def posterior_change(
    clean: np.ndarray, perturbed: np.ndarray, posterior: Posterior, batch_size: int = BATCH
) -> PosteriorChange:
    """The change of a posterior, which the perturbation need not have been made for.

    Arguments and errors are those of `measure`.
    """
    parts = [
        _change(posterior(before), posterior(after))
        for before, after in _batches(clean, perturbed, batch_size, "damage")
    ]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return PosteriorChange(tuple(posterior.names), **joined)


def disagreement(
    first: np.ndarray, second: np.ndarray, posterior: Posterior, batch_size: int = BATCH
) -> np.ndarray:
    """Symmetrised KL between the posteriors of two sets of maps, pair by pair: (n,), in nats.

    Half the sum of both directions. `spurious.bootstrap` gives its mean with an interval.

    Raises:
        ValueError: there are no maps, or the shapes differ.
    """
    parts = []
    for one, other in _batches(first, second, batch_size, "disagreement"):
        p, q = posterior(one), posterior(other)
        parts.append(0.5 * (kl(p, q) + kl(q, p)).numpy())
    return np.concatenate(parts)


def _largest_mean_change(spectrum: SpectrumChange, weights: np.ndarray) -> np.ndarray:
    """Largest |<P'> / <P> - 1| over bins, for each row of weights."""
    return np.abs(_mean_change(spectrum, weights)).max(1)


def _mean_change(spectrum: SpectrumChange, weights: np.ndarray) -> np.ndarray:
    """<P'> / <P> - 1 of every bin, for each row of weights: (resamples, n_bins)."""
    clean, perturbed = (
        weights @ np.asarray(p, np.float64) for p in (spectrum.clean, spectrum.perturbed)
    )
    return perturbed / clean - 1


def _batches(clean: np.ndarray, perturbed: np.ndarray, batch_size: int, what: str) -> Any:
    if len(clean) == 0 or clean.shape != perturbed.shape:
        raise ValueError(
            f"maps have shapes {clean.shape} and {perturbed.shape}: none, or not alike"
        )
    for start in track(range(0, len(clean), batch_size), name=what, unit="batch", delay=2):
        rows = slice(start, start + batch_size)
        yield clean[rows], perturbed[rows]


def _measure_batch(
    clean: np.ndarray, perturbed: np.ndarray, posterior: Posterior, box_size: float
) -> dict[str, np.ndarray]:
    change = np.asarray(perturbed, np.float64) - np.asarray(clean, np.float64)
    measured = _change(posterior(clean), posterior(perturbed))
    measured["rms_counts"] = np.sqrt(np.mean(change**2, axis=(1, 2)))
    measured["mean_change"] = change.mean(axis=(1, 2)) / np.mean(clean, axis=(1, 2), dtype=float)
    for name, contrast in (("raw", False), ("contrast", True)):
        for when, maps in (("clean", clean), ("perturbed", perturbed)):
            power = spectra.power(maps, box_size, contrast=contrast)
            measured[f"{name}_{when}"] = power.numpy()
    return measured


def _change(before: Any, after: Any) -> dict[str, np.ndarray]:
    """What happened to the posteriors of a batch of maps."""
    divergence, error = kl_and_error(after, before)
    return {
        "kl_perturbed_clean": divergence.numpy(),
        "kl_error": error.numpy(),
        "kl_clean_perturbed": kl(before, after).numpy(),
        "shift": ((after.mean() - before.mean()) / before.stddev()).numpy(),
    }
