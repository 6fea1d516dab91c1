"""Simulated density maps: growth, initial conditions, particle mesh, and many of them at once."""

from spurious.simulation.engine import Engine, make_engine, project, simulate, white_noise

__all__ = ["Engine", "make_engine", "project", "simulate", "white_noise"]
