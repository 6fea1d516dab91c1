"""What the report says of each figure: its content, how to read it, and where its data are."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace

from PIL import Image

from spurious.figures import pretty


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        alt: what it shows, for who cannot see it.
        read: two sentences on how to read it.
        data: the file with its numbers, relative to the report.
    """

    alt: str
    read: str
    data: str


BAND = "The grey band is the cosmic variance of one map, √(2 / number of modes)"
MAPS = "../../data/{scale}/attacks/"  # perturbed maps, beside the clean ones in maps.h5
TARGET = "posteriors/{target}.json"
ASSESSED = "assess.json"
# What is said of the marks for the paper's values.
MARKS = (
    " Diamonds are the paper’s values.",
    ", and the marks show the paper’s two mean KLs",
)
DRAWN = "as contours of 68 and 95 % or, of a single parameter, as densities"
PICTURES = {
    "headline": Picture(
        "One test map, its change by the perturbation of the verdict, the posteriors before and "
        "after, and the change of its power spectrum",
        "From left to right: a test map drawn at random, what the perturbation changes in it, the "
        f"posterior before and after, {DRAWN}, and the change of P(k). {BAND}; the green circle is "
        "the truth.",
        MAPS,
    ),
    "overview": Picture(
        "Mean KL divergence of every perturbation against its change of the power spectrum",
        "Each mark is a perturbation: the higher, the more it moves the posterior, and the further "
        "to the left, the less the mean P(k) of the contrast changes. Filled marks escape every "
        "detector, and the dashed line at 0.5 nat is a shift by 1 σ.",
        "attacks.csv",
    ),
    "figure_1": Picture(
        "A test map, two perturbations of it, the posteriors and the power spectra",
        "A test map, what each perturbation adds to it, the posterior that the network infers, "
        f"{DRAWN}, and the power spectrum. {BAND}.",
        MAPS,
    ),
    "figure_2": Picture(
        "Test maps drawn at random with the posteriors before and after",
        f"Test maps drawn at random, and their posteriors before and after, {DRAWN}. The green "
        "circle is the truth.",
        MAPS,
    ),
    "damage": Picture(
        "Mean KL divergence of each perturbation as bars",
        "Bars are mean KL divergences with 95 % intervals, on a logarithmic scale. Diamonds are "
        "the paper’s values.",
        "attacks.csv",
    ),
    "spectra": Picture(
        "Change of the mean power spectrum by each perturbation",
        "Lines are changes of the mean power spectrum over all test maps, raw and of the contrast. "
        f"{BAND}.",
        "attacks/",
    ),
    "security_curves": Picture(
        "Damage against budget, for three kinds of budget",
        "Mean KL against how much may be changed: of every pixel, in the root mean square, and of "
        "each bin’s power in units of one map’s cosmic variance. All curves are lower bounds: they "
        "show the strongest attack known here, not the strongest possible, and the marks show the "
        "paper’s two mean KLs.",
        "curves.json",
    ),
    "detection": Picture(
        "Every perturbation against every detector",
        "Rows are perturbations and columns detectors: AUROCs of one map, and p-values of all "
        "maps. Bold entries count as noticed.",
        "detection.json",
    ),
    "pareto": Picture(
        "The largest damage at every height of a fence",
        "Each line is the largest damage of a family at every height of a fence; the star is the "
        "paper’s systematic, and white-box attacks are there for comparison. The attacks are no "
        "upper bound: each keeps to the constraint in its label and to a small RMS change, which "
        "no family does.",
        "search.json",
    ),
    "defences_trade": Picture(
        "Information kept against damage left, for each defence",
        "Each mark is a defence: the higher, the more of the information it keeps, and the further "
        "to the left, the less damage is left. The best defence is at the top left.",
        "defences.json",
    ),
    "defences_budget": Picture(
        "Damage of the strongest attack on each defence against budget",
        "Lines are the damage of the strongest attack that knows each defence, at every budget. "
        "A defence helps where its line is below that of the undefended network.",
        "defences.json",
    ),
    "posteriors": Picture(
        "Root mean square error of every posterior",
        "Bars are root mean square errors over test maps with 95 % intervals: lower is better. The "
        "line is the Fisher forecast for ln P(k), with the variance of the prior.",
        "posteriors.csv",
    ),
    "learning_curve": Picture(
        "Learning curve of the network",
        "Lines are the loss on the maps of training and of validation, by epoch. A validation loss "
        "that rises while the other falls means that the network learns its maps by heart.",
        "posteriors/{target}/history.csv",
    ),
    "predicted": Picture(
        "Posterior mean and standard deviation against the truth",
        "Points are posterior means and bars standard deviations, of every test map. On the "
        "diagonal they are right.",
        TARGET,
    ),
    "error_plane": Picture(
        "Error over the plane of the two parameters",
        "Colours are the error at every node of the grid of cosmologies. Means are pulled inward "
        "at the edges of the prior.",
        TARGET,
    ),
    "coverage": Picture(
        "Share of truths inside credible intervals",
        "Lines are the share of truths inside the central credible interval of each level; a "
        "calibrated posterior is on the diagonal. Grey is what sampling noise allows.",
        TARGET,
    ),
    "pit": Picture(
        "Histogram of the probability integral transform",
        "Counts are of the posterior’s distribution function at the truth. Flat if calibrated, "
        "within the grey band.",
        TARGET,
    ),
    "sbc": Picture(
        "Ranks of the truth among posterior draws",
        "Counts are of the rank of the truth among posterior draws (simulation-based calibration). "
        "Flat if calibrated, within the grey band.",
        TARGET,
    ),
    "tarp": Picture(
        "Coverage of joint credible regions",
        "Lines are the coverage of joint credible regions from random points (TARP), with its "
        "bootstrap band. On the diagonal the posterior is calibrated.",
        TARGET,
    ),
}


def pictures(
    names: Iterable[str], scale: str, target: str, own: bool = False
) -> dict[str, Picture]:
    """What is said of each figure, with the files of this run.

    Of maps that were not simulated here (`own`), figures have no marks for the paper's values.
    """
    found = {name: _of(name, scale, target) for name in names}
    return {name: _without_paper(one) if own else one for name, one in found.items()}


def _without_paper(picture: Picture) -> Picture:
    read = picture.read
    for words in MARKS:
        read = read.replace(words, "")
    return replace(picture, read=read)


def _of(name: str, scale: str, target: str) -> Picture:
    if name.startswith("search_"):
        family = pretty(name.removeprefix("search_"))
        return Picture(
            f"Every trial of the search in the family {family}",
            f"Marks are the trials of the family {family}, in order; crosses break a fence. The "
            "line is the best so far within the fences.",
            "study.json",
        )
    found = PICTURES[name]
    return Picture(found.alt, found.read, found.data.format(scale=scale, target=target))


def encoded(png: bytes) -> str:
    """A picture as base64, with 256 colours: a third of the size."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        few = picture.convert("RGB").quantize(
            256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
    few.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
