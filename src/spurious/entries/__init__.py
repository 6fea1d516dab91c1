"""Entries of the section `attacks` of params.yaml, made into perturbations.

`build` makes one; `apply`, `extras`, `some_maps`, `follows_target` and `parameters` are what a
stage does with it.
`spurious.perturb` does the same for arrays in a notebook.
"""

from spurious.entries.build import (
    apply,
    build,
    build_initial_conditions,
    class_of,
    extras,
    follows_target,
    parameters,
    some_maps,
)

__all__ = [
    "apply",
    "build",
    "build_initial_conditions",
    "class_of",
    "extras",
    "follows_target",
    "parameters",
    "some_maps",
]
