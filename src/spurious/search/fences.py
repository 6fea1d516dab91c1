"""What an unnoticed systematic must not change, as numbers with exact gradients.

Every fence compares the perturbed maps, clipped at zero, with the clean ones. P_i is the spectrum
of map i, x_i = P_i' / P_i - 1 its change in a bin, c = sqrt(2 / n_modes) the relative cosmic
variance of one map's bin, m_i the mean of map i; <> is the mean over maps, RMS its root of squares.

`FENCES` says what each is, in whose words, to what it is blind and how well float32 knows it.

Tolerances of chi2 are relative to 1 + chi2.

The contrast is each map over its own mean, minus 1: a constant offset changes every mode of it,
and no bin of the raw spectrum, which is the paper's reading of "the power spectrum". Both kinds of
chi2 add up the bins as if each had the independent error of one map; correlations between bins,
which nonlinear growth makes, are left out.

**Margin.** A limit is to hold on maps that the search did not see, but the mean square of n
simulations is known to its standard error only. So what is limited is an upper confidence bound.
With y_s the square of simulation s (the mean over its maps), M = <y> and the delta method for ln M,
whose error is nearer to normal than that of M, which is skewed,

    height = sqrt(M) exp(t / 2 sqrt(var(y) / n) / M),

where t is the quantile 1 - (1 - confidence) / m of Student's t with n - 1 degrees of freedom, and
m the number of bins (Bonferroni), because all of them must hold; an objective divides by its number
of fences, too. (Squares such as chi2 have M for sqrt(M), and no 1/2.) Without a confidence, t = 0.
The winner of a search is by chance too low in its own bins; Bonferroni, which takes correlated bins
for independent, is too strict by about as much, see docs/searching.md.

**Detectability.** `pdf` and `scattering` limit d', see `spurious.search.observed`.

The tolerance is the rounding of float32: a value in double precision differs from the height by
less. A point is within a fence if its height, as measured, is at most the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import create_model

from spurious.config.search import Fences, Heights
from spurious.data.maps import MapSet
from spurious.description.marks import Within
from spurious.errors import one_of
from spurious.lazy import tf
from spurious.perturbations.base import like
from spurious.search.observed import Observed

FLOOR = 1e-14  # squared heights, keeps the RMS differentiable where nothing is changed
EVEN = 1e-12  # relative variances, keeps the margin differentiable where all maps change alike


@dataclass(frozen=True)
class Fence:
    """One fence: values whose largest absolute value is its height.

    Attributes:
        name: of the fence.
        change: perturbed, clean -> squares of each map's change, (batch, m); or, for a fence on
            means over maps, the signed values themselves, (m,).
        within: limits that make sense: lower ones would drown in the rounding of float32.
        tolerance: what float32 may change in the height; see the top of the module.
        height: what is limited, as a formula.
        meaning: the same in words.
        blind: what it does not see.
        per_map: which of the two `change` is.
        root: whether the height is the root of the mean square, not that itself.
        along: whether a Pareto front may be asked for along it.
    """

    name: str
    change: Callable[[Observed, Observed], tf.Tensor]
    within: Within
    tolerance: float
    height: str
    meaning: str
    blind: str
    per_map: bool = True
    root: bool = True
    along: bool = False

    def values(
        self, after: Observed, before: Observed, confidence: float | None = None
    ) -> tf.Tensor:
        """What is limited, (m,).

        Args:
            after: the perturbed maps.
            before: the clean maps.
            confidence: of the upper bound, see the top of the module; None: the estimate itself.
        """
        change = self.change(after, before)
        if not self.per_map:
            return change
        return _bounded(change, before.simulation, confidence, self.root)


class FenceValue(NamedTuple):
    """A fence at one point; derivatives are by the d coordinates of the cube, or None.

    Attributes:
        height: what is limited, the largest |value|.
        gradient: of the height, (d,): that of the value that sets it.
        values: (m,).
        jacobian: of the values, (m, d).
    """

    height: float
    gradient: np.ndarray | None
    values: np.ndarray
    jacobian: np.ndarray | None

    @classmethod
    def of(cls, values: np.ndarray, jacobian: np.ndarray | None) -> FenceValue:
        """From the values and their Jacobian."""
        worst = int(np.abs(values).argmax())
        gradient = None if jacobian is None else np.sign(values[worst]) * jacobian[worst]
        return cls(float(np.abs(values[worst])), gradient, values, jacobian)


def measure_heights(clean: MapSet, perturbed: np.ndarray, names: Iterable[str]) -> dict[str, float]:
    """Heights of the fences of these names on these maps, without a margin.

    Args:
        clean: maps, with their simulations and parameters.
        perturbed: the same maps, perturbed, (batch, N, N) in counts.
        names: of fences.
    """
    before = Observed(tf.constant(clean.maps), clean.box_size, clean.index, clean.labels)
    after = Observed(tf.constant(perturbed), clean.box_size)
    values = {name: FENCES[name].values(after, before).numpy().astype(float) for name in names}
    return {name: FenceValue.of(one, None).height for name, one in values.items()}


def quantile(confidence: float, simulations: int, values: int) -> float:
    """How many standard errors the margin of each of `values` bins is; see the top of the module.

    Raises:
        ValueError: one simulation has no scatter.
    """
    if simulations < 2:
        raise ValueError("a fence held with a confidence needs at least two simulations")
    from scipy import stats  # takes half a second, and reading params.yaml does not need it

    return float(stats.t.isf((1 - confidence) / values, simulations - 1))


def _bounded(
    squares: tf.Tensor, simulation: np.ndarray, confidence: float | None, root: bool
) -> tf.Tensor:
    """Mean square of each column, or its root, with the margin: (m,) of (batch, m)."""
    count = int(simulation.max()) + 1
    # One map a simulation is the usual case, and then there is nothing to average.
    if count < len(simulation):
        squares = tf.math.unsorted_segment_mean(squares, simulation, count)
    mean = tf.reduce_mean(squares, axis=0) + like(FLOOR, squares)
    height = tf.sqrt(mean) if root else mean
    if confidence is None:
        return height
    margin = quantile(confidence, count, squares.shape[1]) * (0.5 if root else 1.0)
    relative = squares / mean - 1
    variance = tf.reduce_sum(relative**2, axis=0) / (count - 1) + like(EVEN, squares)
    return height * tf.exp(like(margin / np.sqrt(count), squares) * tf.sqrt(variance))


def _squared_power(after: Observed, before: Observed) -> tf.Tensor:
    return (after.contrast_power / before.contrast_power - 1) ** 2


def _squared_cosmic(after: Observed, before: Observed) -> tf.Tensor:
    return _squared_power(after, before) / before.cosmic_variance**2


def _chi2(after: Observed, before: Observed) -> tf.Tensor:
    return tf.reduce_sum(_squared_cosmic(after, before), axis=1, keepdims=True)


def _squared_raw_power(after: Observed, before: Observed) -> tf.Tensor:
    return (after.raw_power / before.raw_power - 1) ** 2


def _squared_shift(after: Observed, before: Observed) -> tf.Tensor:
    shift = tf.reduce_mean(after.maps - before.maps, axis=(1, 2)) / before.means
    return shift[:, None] ** 2


def _squared_pixels(after: Observed, before: Observed) -> tf.Tensor:
    return tf.reduce_mean((after.maps - before.maps) ** 2, axis=(1, 2))[:, None]


def _squared_pdf(after: Observed, before: Observed) -> tf.Tensor:
    change = after.above(before.edges) - before.above(before.edges)
    return _whitened(change, before.pdf_whitening)


def _squared_scattering(after: Observed, before: Observed) -> tf.Tensor:
    return _whitened(after.scattering - before.scattering, before.scattering_whitening)


def _whitened(change: tf.Tensor, root: np.ndarray) -> tf.Tensor:
    """d'^2 of each map, (batch, 1)."""
    return tf.reduce_sum((change @ like(root, change)) ** 2, axis=1, keepdims=True)


def _mean_power(after: Observed, before: Observed) -> tf.Tensor:
    return _ratio(after.contrast_power, before.contrast_power)


def _mean_cosmic(after: Observed, before: Observed) -> tf.Tensor:
    return _mean_power(after, before) / before.cosmic_variance


def _mean_chi2(after: Observed, before: Observed) -> tf.Tensor:
    return tf.reduce_sum(_mean_cosmic(after, before) ** 2)[None]


def _mean_raw_power(after: Observed, before: Observed) -> tf.Tensor:
    return _ratio(after.raw_power, before.raw_power)


def _mean_density(after: Observed, before: Observed) -> tf.Tensor:
    return tf.reduce_mean(after.maps - before.maps)[None] / tf.reduce_mean(before.means)


def _ratio(after: tf.Tensor, before: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(after, axis=0) / tf.reduce_mean(before, axis=0) - 1


_GAINS = "a gain of each map"
_CANCELS = "what cancels between maps"

FENCES: dict[str, Fence] = {
    fence.name: fence
    for fence in (
        Fence(
            "power", _squared_power, Within(1e-4, 10), 1e-5, "max over bins of RMS(x), contrast",
            "the relative change of a bin of single maps’ P(k) of the contrast (RMS over maps)",
            _GAINS, along=True,
        ),
        Fence(
            "cosmic", _squared_cosmic, Within(1e-3, 100), 1e-4, "max over bins of RMS(x / c)",
            "the same in units of one map’s cosmic variance", _GAINS, along=True,
        ),
        Fence(
            "chi2", _chi2, Within(1e-4, 1e4), 1e-4, "⟨sum over bins of (x / c)²⟩",
            "χ² of single maps’ change of P(k) against one map’s cosmic variance", _GAINS,
            root=False,
        ),
        Fence(
            "raw_power", _squared_raw_power, Within(1e-4, 10), 1e-5,
            "max over bins of RMS(x), counts",
            "the relative change of a bin of single maps’ raw P(k)", "a shift of each mean",
        ),
        Fence(
            "mean_shift", _squared_shift, Within(1e-5, 1), 1e-6, "RMS(m' / m − 1)",
            "the relative change of single maps’ mean density (RMS over maps)",
            "what keeps each mean", along=True,
        ),
        Fence(
            "rms", _squared_pixels, Within(1e-3, 1e4), 1e-4, "RMS over pixels and maps",
            "the RMS change in counts", "nothing",
        ),
        Fence(
            "pdf", _squared_pdf, Within(0.01, 100), 1e-3, "RMS of d' of the PDF",
            "the detectability d′ of single maps by their PDF", "where things are; gains",
            along=True,
        ),
        Fence(
            "scattering", _squared_scattering, Within(0.01, 100), 1e-2,
            "RMS of d' of the scattering transform",
            "the detectability d′ of single maps by their scattering coefficients",
            "gains; absolute phases",
        ),
        Fence(
            "mean_power", _mean_power, Within(1e-4, 1), 1e-5, "max over bins of |⟨P'⟩/⟨P⟩ − 1|",
            "the relative change of a bin of the contrast’s mean P(k) over all maps",
            f"{_CANCELS}; gains", per_map=False, along=True,
        ),
        Fence(
            "mean_cosmic", _mean_cosmic, Within(1e-3, 100), 1e-4, "the same, each bin over c",
            "the same in units of one map’s cosmic variance", f"{_CANCELS}; gains",
            per_map=False, along=True,
        ),
        Fence(
            "mean_chi2", _mean_chi2, Within(1e-4, 1e4), 1e-4, "sum over bins of its square",
            "χ² of the change of the mean P(k) against one map’s cosmic variance",
            f"{_CANCELS}; gains", per_map=False,
        ),
        Fence(
            "mean_raw_power", _mean_raw_power, Within(1e-4, 1), 1e-5, "mean_power of the counts",
            "the relative change of a bin of the raw mean P(k), blind to the mean",
            f"{_CANCELS}; shifts", per_map=False,
        ),
        Fence(
            "mean_density", _mean_density, Within(1e-5, 1), 1e-6, "|⟨m'⟩/⟨m⟩ − 1|",
            "the relative change of the mean density over all maps", _CANCELS, per_map=False,
        ),
    )
}  # fmt: skip


@cache
def limits() -> type[Fences]:
    """The section `search.fences`: of each fence its limit, or none."""
    fields: dict[str, Any] = {
        name: (Annotated[float | None, fence.within], None) for name, fence in FENCES.items()
    }
    return create_model("Fences", __base__=Fences, __doc__=Fences.__doc__, **fields)


@cache
def heights() -> type[Heights]:
    """The section `search.front`: heights of the fences that a front may be along."""
    fields: dict[str, Any] = {
        name: (tuple[Annotated[float, fence.within], ...], ())
        for name, fence in FENCES.items()
        if fence.along
    }
    return create_model("Heights", __base__=Heights, __doc__=Heights.__doc__, **fields)


def build_fences(names: Sequence[str]) -> tuple[Fence, ...]:
    """The fences of these names.

    Raises:
        ValueError: there is none of a name.
    """
    for name in names:
        if name not in FENCES:
            raise ValueError(f"fence {name!r} {one_of(name, FENCES)}")
    return tuple(FENCES[name] for name in names)
