"""Benchmarks: one module a claim about speed, `make bench` or `python -m benchmarks` runs them.

Nothing here imports TensorFlow at its top: each competitor runs in a process of its own, whose
number of threads is set before TensorFlow or JAX is loaded.
"""
