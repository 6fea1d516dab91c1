"""CAMB's linear power beside Eisenstein & Hu's fit: figure and table of docs/linear_power.md."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spurious import config
from spurious.cosmology import Cosmology, linear_power, sigma
from spurious.files import replacing
from spurious.simulation import project, white_noise
from spurious.simulation.particle_mesh import ParticleMesh
from spurious.spectra import bins, power

DOCS = Path(__file__).parents[1] / "docs"
OMEGA_M = (0.05, 0.1, 0.2, 0.3, 0.55)
SIGMA_8 = 0.8
K = np.geomspace(0.05, 1.5, 2000)  # what a map of 64 pixels in 128 Mpc/h holds
SEEDS = range(4)


def compare(omega_m: float) -> dict[str, str]:
    """One row of the table: the fit over CAMB in several respects."""
    universe = Cosmology(omega_m, SIGMA_8)
    exact, fit = (linear_power(universe, method=m) for m in ("camb", "eisenstein_hu"))
    ratio = fit(K) / exact(K)
    maps = project_power(universe, "eisenstein_hu") / project_power(universe, "camb")
    k = bins(64, 128.0).k
    row = {"Ω_m": f"{omega_m:g}", "Ω_b/Ω_m": f"{universe.omega_b / omega_m:.2f}"}
    for at in (0.05, 0.1, 0.3, 1.0):
        row[f"P at k = {at:g}"] = f"{np.interp(at, K, ratio):.3g}"
    row["σ at 2 Mpc/h"] = f"{sigma(fit, 2.0, 1e-4, 20.0) / sigma(exact, 2.0, 1e-4, 20.0):.3f}"
    row["map's P, k < 0.2"] = f"{maps[k < 0.2].mean():.3f}"
    row["map's P, k > 0.5"] = f"{maps[k > 0.5].mean():.3f}"
    return row


def project_power(universe: Cosmology, method: str) -> np.ndarray:
    """Mean P(k) of the contrast of projected maps, the same white noise for both methods."""
    engine = ParticleMesh(config.Simulation(linear_power=method))
    maps = [project(engine.density(universe, white_noise(seed, 64))) for seed in SEEDS]
    return power(np.stack(maps), 128.0, contrast=True).numpy().mean(axis=0)


def draw() -> Figure:
    """P(k) by both methods, and their ratio."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=[2, 1])
    for i, omega_m in enumerate(OMEGA_M):
        universe, colour = Cosmology(omega_m, SIGMA_8), f"C{i}"
        exact, fit = (linear_power(universe, method=m)(K) for m in ("camb", "eisenstein_hu"))
        above.loglog(K, exact, color=colour, label=f"$\\Omega_m$ = {omega_m:g}")
        above.loglog(K, fit, color=colour, linestyle="--", linewidth=1)
        below.semilogx(K, fit / exact, color=colour)
    above.set(ylabel="P(k) [(Mpc/h)³]", ylim=(1e-3, 3e4))
    above.set_title(f"Linear power at σ₈ = {SIGMA_8:g}: CAMB (lines), Eisenstein & Hu (dashed)")
    above.legend(loc="lower left")
    below.axhline(1, color="0.6", linewidth=0.8)
    below.set(xlabel="k [h/Mpc]", ylabel="fit / CAMB", ylim=(0.5, 1.5))
    return figure


def main() -> None:
    """Write the figure and the table."""
    figure = draw()
    FigureCanvasAgg(figure)
    with replacing(DOCS / "figures" / "linear_power.png") as temporary:
        figure.savefig(temporary, dpi=120, metadata={"Software": None})
    rows = [compare(omega_m) for omega_m in OMEGA_M]
    lines = [" | ".join(rows[0]), " | ".join("---" for _ in rows[0])]
    lines += [" | ".join(row.values()) for row in rows]
    table = "\n".join(f"| {line} |" for line in lines)
    page = DOCS / "linear_power.md"
    text, count = re.subn(
        "(<!-- table: begin -->).*(<!-- table: end -->)",
        lambda match: f"{match[1]}\n\n{table}\n\n{match[2]}",
        page.read_text(),
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{page} must hold the table's markers once")
    with replacing(page) as temporary:
        temporary.write_text(text)
    print(table)


if __name__ == "__main__":
    main()
