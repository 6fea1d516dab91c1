"""Convergence of the maps in time steps and force mesh: figure, CSV and the tables of the page.

Simulates the same white noise with more and more stages on both force meshes, at three
cosmologies, and compares the power spectra and pixels of the maps with the finest run's.
Takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from spurious import config, spectra
from spurious.cosmology import Cosmology
from spurious.files import replacing
from spurious.progress import Bar
from spurious.simulation import make_engine, project, white_noise

DOCS = Path(__file__).resolve().parents[1] / "docs"
BEGIN, END = "<!-- convergence: begin -->", "<!-- convergence: end -->"
STAGES, MESHES = (5, 10, 20, 40), (1, 2)
FINEST, DEFAULT = (40, 2), (10, 1)
COSMOLOGIES = ((0.1, 0.6), (0.3, 0.8), (0.5, 0.95))
SHOWN_K = (0.1, 0.3, 1.0, 1.5)  # h/Mpc, columns of the table
COLOURS = dict(zip(STAGES, ("#E69F00", "#D55E00", "#0072B2", "#000000"), strict=True))

Setting = tuple[int, int]  # (stages, force mesh)


@dataclass(frozen=True)
class Row:
    """One setting at one cosmology, over all maps.

    Attributes:
        ratio: mean P(k) of the contrast over the finest run's, (n_bins,).
        pixels: RMS difference from the finest run over that one's RMS fluctuation.
        time_steps: the same, from the run with most stages on the same force mesh.
    """

    omega_m: float
    sigma_8: float
    stages: int
    force_mesh: int
    ratio: np.ndarray
    pixels: float
    time_steps: float


def settings(stages: int, force_mesh: int) -> config.Simulation:
    """The paper's box with another leapfrog or force mesh."""
    return config.Simulation(scale_factors=config.Stages(stages=stages), force_mesh=force_mesh)


def simulate(seeds: int) -> dict[tuple[float, float], dict[Setting, np.ndarray]]:
    """Maps (3 x seeds, n, n), all lines of sight, of each cosmology and setting."""
    maps: dict[tuple[float, float], dict[Setting, np.ndarray]] = {c: {} for c in COSMOLOGIES}
    total = len(STAGES) * len(MESHES) * len(COSMOLOGIES) * seeds
    with Bar(total=total, name="convergence", unit="simulation") as bar:
        for setting in product(STAGES, MESHES):
            engine = make_engine(settings(*setting))
            for cosmology in COSMOLOGIES:
                made = []
                for seed in range(seeds):
                    noise = white_noise(seed, engine.settings.n_cells)
                    density = engine.density(Cosmology(*cosmology), noise)
                    made += [project(density, axis) for axis in range(3)]
                    bar.update()
                maps[cosmology][setting] = np.stack(made)
    return maps


def compare(maps: dict[tuple[float, float], dict[Setting, np.ndarray]]) -> list[Row]:
    """Each setting against the finest one, and against the most stages on its own mesh."""
    box_size, rows = settings(*DEFAULT).box_size.value, []
    for cosmology, runs in maps.items():
        power = {
            setting: spectra.power(run, box_size, contrast=True).numpy().mean(axis=0)
            for setting, run in runs.items()
        }
        for (stages, mesh), run in runs.items():
            rows.append(
                Row(
                    *cosmology,
                    stages,
                    mesh,
                    power[stages, mesh] / power[FINEST],
                    _difference(run, runs[FINEST]),
                    _difference(run, runs[max(STAGES), mesh]),
                )
            )
    return rows


def figure(rows: list[Row], k: np.ndarray) -> Figure:
    """Power over the finest run's against k, a panel a cosmology."""
    drawn = Figure(figsize=(12, 4.6), layout="constrained")
    panels = drawn.subplots(1, len(COSMOLOGIES), sharey=True)
    for axes, (omega_m, sigma_8) in zip(panels, COSMOLOGIES, strict=True):
        for row in rows:
            if (row.omega_m, row.sigma_8) == (omega_m, sigma_8):
                axes.plot(k, row.ratio, label=_label(row), **_style(row))
        axes.set_xscale("log")
        axes.set_xticks([0.1, 0.2, 0.5, 1], ["0.1", "0.2", "0.5", "1"])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set(
            xlabel=r"$k\ [h\,\mathrm{Mpc}^{-1}]$",
            title=rf"$\Omega_m = {omega_m}$, $\sigma_8 = {sigma_8}$",
        )
    panels[0].set_ylabel(r"$P(k)\ /\ P(k)$ of 40 stages, force mesh 2$\times$")
    handles, labels = panels[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return drawn


def tables(rows: list[Row], k: np.ndarray, seeds: int) -> str:
    """The page's numbers, as Markdown."""
    columns = [int(np.argmin(np.abs(k - shown))) for shown in SHOWN_K]
    lines = [
        f"Means over {3 * seeds} maps: {seeds} white-noise fields, three lines of sight each.",
        "",
        "| Ω_m, σ_8 | stages | force mesh | "
        + " | ".join(f"P ratio at {k[c]:.2f} h/Mpc" for c in columns)
        + " | pixels: from the finest | pixels: from 40 stages, same mesh |",
        "|" + " --- |" * (5 + len(columns)),
    ]
    for row in rows:
        cells = [
            f"{row.omega_m}, {row.sigma_8}",
            f"{row.stages}",
            f"{row.force_mesh}×",
            *(f"{row.ratio[c]:.3f}" for c in columns),
            f"{100 * row.pixels:.1f} %",
            f"{100 * row.time_steps:.1f} %",
        ]
        if (row.stages, row.force_mesh) == DEFAULT:
            cells = [f"**{text}**" for text in cells]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_csv(path: Path, rows: list[Row], k: np.ndarray) -> None:
    """All ratios, a line a setting and cosmology."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = ["omega_m", "sigma_8", "stages", "force_mesh", "pixels", "pixels_same_mesh"]
        writer.writerow([*names, *(f"power_ratio_k={value:.4f}" for value in k)])
        for row in rows:
            numbers = [row.pixels, row.time_steps, *row.ratio]
            cosmology = [row.omega_m, row.sigma_8, row.stages, row.force_mesh]
            writer.writerow([*cosmology, *(f"{number:.6g}" for number in numbers)])


def put_into(page: Path, text: str) -> None:
    """Replace what stands between the page's markers."""
    pattern = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    new, count = pattern.subn(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", page.read_text())
    if count != 1:
        raise SystemExit(f"error: {page} must hold {BEGIN} and {END} once")
    page.write_text(new)


def _difference(maps: np.ndarray, reference: np.ndarray) -> float:
    """RMS difference over RMS fluctuation."""
    return float(np.sqrt(np.mean((maps - reference) ** 2, dtype=np.float64)) / np.std(reference))


def _style(row: Row) -> dict[str, object]:
    default = (row.stages, row.force_mesh) == DEFAULT
    return {
        "color": COLOURS[row.stages],
        "linestyle": "-" if row.force_mesh == 1 else "--",
        "linewidth": 3.2 if default else 1.4,
        "zorder": 3 if default else 2,
    }


def _label(row: Row) -> str:
    default = " (the paper's)" if (row.stages, row.force_mesh) == DEFAULT else ""
    return rf"{row.stages} stages, mesh {row.force_mesh}$\times${default}"


def _ordered(rows: list[Row]) -> Iterator[Row]:
    """By cosmology, then mesh, then stages."""
    order = {cosmology: i for i, cosmology in enumerate(COSMOLOGIES)}
    yield from sorted(
        rows, key=lambda row: (order[row.omega_m, row.sigma_8], row.force_mesh, row.stages)
    )


def main() -> None:
    """Simulate, compare, write figure, CSV and page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4, help="white-noise fields (default: 4)")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write to")
    arguments = parser.parse_args()
    box = settings(*DEFAULT)
    k = spectra.bins(box.n_cells, box.box_size.value).k
    rows = list(_ordered(compare(simulate(arguments.seeds))))
    (arguments.docs / "figures").mkdir(parents=True, exist_ok=True)
    figure(rows, k).savefig(arguments.docs / "figures" / "convergence.png", dpi=150)
    write_csv(arguments.docs / "convergence.csv", rows, k)
    put_into(arguments.docs / "convergence.md", tables(rows, k, arguments.seeds))
    print(f"wrote convergence.md, convergence.csv and figures/convergence.png in {arguments.docs}")


if __name__ == "__main__":
    main()
