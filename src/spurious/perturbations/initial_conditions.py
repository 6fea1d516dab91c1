"""The adversary in the universe itself: other initial conditions, as plausible as the ones before.

A simulation's white noise n is changed so that the posterior of its evolved and projected map
moves. Only the phases of its Fourier modes change,

    n'_k = n_k exp(i phi_k),  phi_(-k) = -phi_k,

so that every mode keeps its power. So does then the initial power spectrum, mode by mode, and the
probability density of the noise as a draw of unit Gaussians, which depends on sum n^2 alone. The
size of the change is |n' - n| / |n|, its part of the noise's own norm:

    size^2 = sum 4 |n_k|^2 sin^2(phi_k / 2) / sum |n_k|^2.

Two independent universes differ by sqrt(2). The gradient in n goes through the particle mesh; a
step rotates each mode by the angle of a step along the gradient's component across the mode.
Omega_m and sigma_8 stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np

from spurious import config, seeds
from spurious.description.marks import Doc, Within
from spurious.description.quantities import NoiseBudget
from spurious.lazy import tf
from spurious.perturbations.ascent import START
from spurious.perturbations.base import like
from spurious.perturbations.gradient import REACH
from spurious.perturbations.objectives import AnyObjective, named
from spurious.progress import track

if TYPE_CHECKING:
    from spurious.cosmology import Cosmology
    from spurious.posteriors.posterior import Posterior
    from spurious.simulation.particle_mesh import ParticleMesh

HALVINGS = 30  # when phases are drawn back to the budget: 1e-9 of themselves


class Universes(NamedTuple):
    """Perturbed universes.

    Attributes:
        maps: their projected densities, (batch, N, N) float32 in counts.
        noises: their white noise, (batch, N, N, N) float32.
    """

    maps: np.ndarray
    noises: np.ndarray


class Climb(NamedTuple):
    """How one universe was perturbed.

    Attributes:
        map: projected density of the best one, (N, N) float32 in counts.
        noise: its white noise, (N, N, N) float32.
        values: the objective at the start and after each step, (steps + 1,).
    """

    map: np.ndarray
    noise: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class InitialConditions:
    """Phases of the initial conditions that mislead a posterior.

    Not a `Perturbation`: it needs the universes behind the maps. Of all steps the one with the
    largest objective is kept. A map costs `steps` + 1 simulations, each with its gradient.

    Args:
        posterior: what is attacked.
        simulation: the box and its particle mesh, those that made the maps.
        background: what cosmologies share besides Omega_m and sigma_8.
        seed: of the first step where the objective's gradient is zero at the clean map.

    Raises:
        ValueError: a value is out of its range, or the engine has no gradients.
    """

    FILLED: ClassVar[tuple[str, ...]] = ("simulation", "background")
    MAPS: ClassVar[int] = 16  # attacked unless an entry says otherwise: it is slow

    posterior: Posterior
    epsilon: Annotated[float, NoiseBudget, Doc("largest |n' - n| / |n|")]
    simulation: config.Simulation = field(default_factory=config.Simulation)
    background: config.Background = field(default_factory=config.Background)
    steps: Annotated[
        int, Within(1, 1000), Doc("each a simulation with its gradient; 2.5 epsilon in all")
    ] = 20
    objective: Annotated[AnyObjective, Doc("what is increased")] = "nll"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon = {self.epsilon} must be between 0 and 1 of the noise")
        if self.steps < 1:
            raise ValueError(f"steps = {self.steps} must be at least 1")
        if self.simulation.engine != "xla":
            raise ValueError(f"engine = {self.simulation.engine!r} must be 'xla': it has gradients")
        named(self.objective)

    def perturb(self, seeds: Any, labels: Any, axis: Any = 2) -> Universes:
        """Perturb the universes of some maps, one after the other.

        Args:
            seeds: of each universe's white noise, (batch,).
            labels: its Omega_m and sigma_8, (batch, 2).
            axis: line of sight of each map, 0, 1 or 2; (batch,) or one for all.

        Raises:
            ValueError: the shapes do not fit, or a line of sight is unknown.
        """
        count = len(seeds)
        labels, axes = np.asarray(labels, np.float64), np.broadcast_to(axis, count)
        if labels.shape != (count, 2):
            raise ValueError(f"labels have shape {labels.shape}, expected {(count, 2)}")
        rows = list(zip(seeds, labels, axes, strict=True))
        bar = track(rows, "universes", unit="map", delay=2)
        found = [self.climb(int(one), label, int(line)) for one, label, line in bar]
        n = self.simulation.n_cells
        maps = np.array([one.map for one in found], np.float32).reshape(count, n, n)
        noises = np.array([one.noise for one in found], np.float32)
        return Universes(maps, noises.reshape(count, n, n, n))

    def climb(self, seed: int, label: Any, axis: int = 2) -> Climb:
        """Perturb one universe; arguments as for `perturb`, without the batch."""
        if axis not in (0, 1, 2):
            raise ValueError(f"axis = {axis} must be 0, 1 or 2")
        from spurious.simulation import white_noise
        from spurious.simulation.engine import cosmology_at

        clean = white_noise(seed, self.simulation.n_cells)
        universe = cosmology_at(label[0], label[1], self.background)
        truth = tf.constant(np.asarray(label)[None], tf.float32)
        states = list(self._states(clean, universe, truth, axis))
        best = max(states, key=lambda state: state[2])
        return Climb(best[0], best[1], np.array([value for *_, value in states]))

    def value_and_gradient(
        self, noise: np.ndarray, cosmology: Cosmology, truth: Any, axis: int, reference: Any = None
    ) -> tuple[np.ndarray, float, np.ndarray]:
        """The map of a universe (N, N), its objective, and the gradient in the noise (N, N, N).

        Args:
            noise: white noise, (N, N, N) float32.
            cosmology: the universe.
            truth: (1, 2), its parameters.
            axis: line of sight.
            reference: the clean posterior; by default that of this very map.
        """
        image, value, slope = self._seen(noise, cosmology, truth, axis, reference)
        return image, value, self._gradient(noise, cosmology, slope, axis)

    def _seen(
        self, noise: np.ndarray, cosmology: Cosmology, truth: Any, axis: int, reference: Any
    ) -> tuple[np.ndarray, float, tf.Tensor]:
        """The map of a universe, its objective, and the gradient in the map."""
        from spurious.simulation import project

        image = project(self.engine.density(cosmology, noise), axis)
        reference = self.posterior(image[None]) if reference is None else reference
        value, slope = self._of_map(image, reference, truth)
        return image, value, slope

    def _gradient(
        self, noise: np.ndarray, cosmology: Cosmology, slope: tf.Tensor, axis: int
    ) -> np.ndarray:
        """Gradient in the white noise, given that in the map (N, N)."""
        # A map is the sum along the line of sight: its gradient is every cell's on the line.
        upstream = tf.broadcast_to(tf.expand_dims(slope, axis), noise.shape)
        gradient: tf.Tensor = _pulled_back()(
            tf.constant(noise),
            self.engine.factors(cosmology),
            upstream,
            self.simulation.force_mesh,
        )
        return gradient.numpy()

    @cached_property
    def engine(self) -> ParticleMesh:
        """The particle mesh; it compiles at its first use."""
        from spurious.simulation.particle_mesh import ParticleMesh

        return ParticleMesh(self.simulation)

    def _states(
        self, clean: np.ndarray, universe: Cosmology, truth: tf.Tensor, axis: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
        """Map, noise and objective at the start and after each step."""
        modes = np.fft.rfftn(clean.astype(np.float64))
        phases = np.zeros(modes.shape)
        noise, reference = clean, None
        for i in range(self.steps + 1):
            image, value, slope = self._seen(noise, universe, truth, axis, reference)
            yield image, noise, value
            if i == self.steps or self.epsilon == 0:
                return
            gradient = self._gradient(noise, universe, slope, axis)
            reference = self.posterior(image[None]) if reference is None else reference
            size = REACH * self.epsilon * 2 * (self.steps - i) / (self.steps * (self.steps + 1))
            if i == 0 and named(self.objective).flat_at_clean:
                draw = seeds.generator(self.seed, "initial conditions start")
                gradient, size = draw.standard_normal(clean.shape), START * size
            phases = phases + _turn(modes * np.exp(1j * phases), gradient, size)
            phases = within(modes, phases, self.epsilon)
            noise = rotated(modes, phases)

    def _of_map(
        self, image: np.ndarray, reference: Any, truth: tf.Tensor
    ) -> tuple[float, tf.Tensor]:
        """The objective of one map (N, N) and its gradient."""
        maps = tf.constant(image[None])
        with tf.GradientTape() as tape:
            tape.watch(maps)
            perturbed = self.posterior(maps)
            value = named(self.objective)(perturbed, reference, like(truth, maps))
        slope = tape.gradient(value, maps)
        if slope is None:
            raise ValueError(f"objective {self.objective!r} does not depend on the maps")
        return float(value[0]), slope[0]


def rotated(modes: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """White noise (N, N, N) float32 of half-spectrum modes turned by phases (N, N, N/2 + 1)."""
    n = len(modes)
    return np.fft.irfftn(modes * np.exp(1j * phases), s=(n, n, n), axes=(0, 1, 2)).astype(
        np.float32
    )


def change(modes: np.ndarray, phases: np.ndarray) -> float:
    """|n' - n| / |n| of modes turned by phases, both of the half spectrum."""
    power = _whole(modes) * np.abs(modes) ** 2
    return float(np.sqrt(np.sum(4 * power * np.sin(phases / 2) ** 2) / power.sum()))


def within(modes: np.ndarray, phases: np.ndarray, epsilon: float) -> np.ndarray:
    """Phases between -pi and pi, all shrunk by one factor until the change is within epsilon."""
    phases = (phases + np.pi) % (2 * np.pi) - np.pi
    if change(modes, phases) <= epsilon:
        return phases
    low, high = 0.0, 1.0  # the change grows with the factor
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = change(modes, middle * phases) <= epsilon
        low, high = (middle, high) if enough else (low, middle)
    return low * phases


def _turn(modes: np.ndarray, gradient: np.ndarray, size: float) -> np.ndarray:
    """Angles of a step of `size` along the gradient's component across each mode.

    Real modes, k = 0 among them, have no phase and stay.
    """
    slope = np.fft.rfftn(gradient.astype(np.float64))
    length = np.abs(modes)
    unit = modes / np.where(length > 0, length, 1)
    # Im(conj(mode) gradient) is odd in k where both spectra are of real fields, as phases must be.
    across = np.imag(np.conj(unit) * slope)
    norm = np.sqrt(np.sum(_whole(modes) * across**2))
    if norm == 0:
        return np.zeros(modes.shape)
    across *= size * np.sqrt(np.sum(_whole(modes) * length**2)) / norm
    return np.arctan2(across, length)


def _whole(modes: np.ndarray) -> np.ndarray:
    """How many modes of the whole spectrum each of the half spectrum stands for."""
    weights = np.full(modes.shape[-1], 2.0)
    weights[[0, -1]] = 1.0
    return weights


@cache
def _pulled_back() -> Callable[..., tf.Tensor]:
    """Gradient in the white noise, given that in the density: one program for all posteriors."""
    from spurious.simulation.particle_mesh import evolve

    def pulled_back(
        noise: tf.Tensor, factors: Any, upstream: tf.Tensor, force_mesh: int
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(noise)
            total = tf.reduce_sum(upstream * evolve(noise, factors, force_mesh))
        return tape.gradient(total, noise)

    return tf.function(pulled_back, jit_compile=True)
